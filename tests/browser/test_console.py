"""The console in Chromium: by keyboard, without a mouse; refreshed by itself; alone on its host."""

from __future__ import annotations

from base64 import b32decode
from dataclasses import replace

import pytest

from gateway.lab.ris import LabExam, LabOrder
from gateway.web.desk import TenantFacts
from indexer.timeline import ExamState
from security.accounts import totp
from tests.browser.conftest import person
from tests.integration.outbox_lab import Hands
from tests.support.house import operations
from tests.support.people import PASSWORD
from tests.support.shelf import HELD, PARIS, ROOT, STRANGE, Pause, ShelfDesk, identities, stocked
from tests.support.world import TENANT, world

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WAITING = f"{ROOT}.2{0:033}"
PAGES = [
    "/console/",
    "/console/held",
    f"/console/held/site/{HELD}",
    f"/console/held/site/{ROOT}.4{2:033}",
    f"/console/exams/site/{HELD}",
    f"/console/exams/site/{WAITING}",
    f"/console/exams/site/{ROOT}.1{0:033}",
    f"/console/exams/site/{ROOT}.1{0:033}/exchanges/1",
    "/console/?study=1.2.3",
    "/console/?study=abc&since=x",
    f"/console/exams/site/{ROOT}",
    "/console/accessibility",
]


async def _tab_to(who, selector: str, *, most: int = 120) -> None:
    """Press Tab until the element has the focus, and see that the focus is visible there."""
    for _ in range(most):
        await who.page.keyboard.press("Tab")
        if await who.page.evaluate("s => document.activeElement.matches(s)", selector):
            outline = await who.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", selector
            return
    pytest.fail(f"{selector} is not reached by Tab")


async def test_ff19_a_held_exam_is_released_with_the_keyboard_alone(browser):
    async with person(browser, enter=False) as who:
        await who.open("/console/login")
        await _tab_to(who, "#name")
        await who.page.keyboard.type("jeanne.martin")
        await _tab_to(who, "#password")
        await who.page.keyboard.type(PASSWORD)
        await _tab_to(who, "#code")
        await who.page.keyboard.type(who.url.people.code(who.url.someone))
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_url("**/console/")
        await _tab_to(who, ".zones a[href$='/held']")
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_url("**/held")
        await _tab_to(who, f"a[href$='/held/site/{HELD}']")
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_url(f"**/held/site/{HELD}")
        await _tab_to(who, ".scroll")
        await _tab_to(who, "#reason")
        await who.page.keyboard.type("pièce d'identité vue par l'accueil")
        await _tab_to(who, "#compared")
        await who.page.keyboard.press("Space")
        await _tab_to(who, ".release button")
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_url("**/exams/**done=released")
        assert "Retenue levée." in await who.page.inner_text("main")
        released = [asked for asked in who.desk.asked if asked[0] == "released"]
        assert released == [
            ("released", "site", HELD, "identity-officer:jeanne.martin", "pièce d'identité vue par l'accueil")
        ]


async def test_the_first_tab_leads_past_the_header(browser):
    async with person(browser) as who:
        await who.open(f"/console/exams/site/{HELD}")
        await who.page.keyboard.press("Tab")
        assert await who.page.evaluate("document.activeElement.className") == "skip"
        await who.page.keyboard.press("Enter")
        assert await who.page.evaluate("document.activeElement.id") == "main"


async def test_ff19_what_is_missing_in_the_form_takes_the_focus_and_leads_to_its_field(browser):
    async with person(browser) as who:
        await who.open(f"/console/held/site/{HELD}")
        await who.page.evaluate("document.querySelector('.release form').noValidate = true")
        await who.page.fill("#reason", "court")
        await who.page.click(".release button")
        await who.page.wait_for_selector("#errors")
        assert await who.page.evaluate("document.activeElement.id") == "errors"
        await who.page.click("#errors a[href='#reason']")
        assert await who.page.evaluate("document.activeElement.id") == "reason"
        assert await who.page.input_value("#reason") == "court"
        described = await who.page.get_attribute("#reason", "aria-describedby")
        assert "10 caractères" in await who.page.inner_text(f"#{described.split()[-1]}")


async def test_t29_a_name_that_is_a_script_stays_a_name(browser):
    desk = stocked(Hands())
    desk.facts["site"] = TenantFacts(title=STRANGE, zone=PARIS, mode="live")
    async with person(browser, desk) as who:
        for path in ("/console/", "/console/held", f"/console/held/site/{HELD}", f"/console/exams/site/{HELD}"):
            await who.open(path)
            assert STRANGE in await who.page.inner_text("body")
            assert "Poterne" in await who.page.title()


async def test_the_list_and_its_numbers_follow_by_themselves(browser):
    async with person(browser) as who:
        before = int(await who.page.inner_text("#tile-failed .number"))
        await who.page.focus(f'[id="exam-site-{WAITING}"]')
        who.desk.put("site", f"{ROOT}.5{9:033}", ExamState.FAILED, "internal-fault", minutes=0)
        await who.page.wait_for_selector(f'[id="exam-site-{ROOT}.5{9:033}"]')
        assert int(await who.page.inner_text("#tile-failed .number")) == before + 1
        assert await who.page.evaluate("document.activeElement.id") == f"exam-site-{WAITING}"


async def test_nothing_moves_while_a_filter_is_being_chosen_or_when_following_is_off(browser):
    async with person(browser) as who:
        asked: list[str] = []
        await who.page.wait_for_load_state("networkidle")
        await who.page.focus("#study")
        who.page.on("request", lambda request: asked.append(request.url))
        await who.page.evaluate("refresh()")
        await who.page.click("#follow")
        assert await who.page.get_attribute("#follow", "aria-pressed") == "false"
        await who.page.evaluate("refresh()")
        await who.page.wait_for_timeout(200)
        assert asked == []
        async with who.page.expect_request("**/console/**"):
            await who.page.click("#follow")


async def test_a_gateway_that_is_silent_is_said_to_be_silent(browser):
    async with person(browser) as who:
        await who.page.context.set_offline(True)
        await who.page.evaluate("refresh()")
        await who.page.wait_for_selector("#stale:not([hidden])")
        await who.page.context.set_offline(False)
        await who.page.evaluate("refresh()")
        await who.page.wait_for_selector("#stale", state="hidden")
        assert all(text.startswith(("htmx:", "Failed to load resource")) for text in who.said)
        who.said.clear()


async def test_ff19_an_identity_does_not_stay_on_a_screen_that_nobody_looks_at(browser):
    async with person(browser, idle_s=2.0) as who:
        await who.open(f"/console/held/site/{HELD}")
        await who.page.wait_for_selector("#ending:not([hidden])")
        who.desk.clock.advance(3)
        await who.page.wait_for_url("**/console/login?over=1")
        assert "COLETTE" not in await who.page.content()


async def test_saying_that_one_is_still_there_keeps_what_was_typed(browser):
    async with person(browser, idle_s=59.0) as who:
        await who.open(f"/console/held/site/{HELD}")
        await who.page.fill("#reason", "pièce d'identité")
        await who.page.wait_for_selector("#ending:not([hidden])")
        who.desk.clock.advance(50)
        async with who.page.expect_response("**/console/stay") as answer:
            await who.page.click("#ending button")
        assert (await answer.value).status == 204
        who.desk.clock.advance(50)
        assert await who.page.input_value("#reason") == "pièce d'identité"
        await who.page.click("#compared")
        await who.page.click(".release button")
        await who.page.wait_for_url("**/exams/**done=released")


async def test_everything_but_the_refresh_works_without_javascript(browser):
    async with person(browser, java_script_enabled=False) as who:
        await who.page.click(f"a[href$='/held/site/{HELD}']")
        await who.page.fill("#reason", "pièce d'identité vue par l'accueil")
        await who.page.check("#compared")
        await who.page.click(".release button")
        assert "done=released" in who.page.url
        assert not await who.page.is_visible("#ending")
        await who.open("/console/")
        assert not await who.page.is_visible("#follow")
        await who.page.select_option("#state", "failed")
        await who.page.click(".filters button")
        assert "state=failed" in who.page.url


async def test_no_page_scrolls_sideways_at_390_pixels_nor_at_200_percent(browser):
    async with person(browser, viewport={"width": 390, "height": 700}) as who:
        for width in (390, 640):  # 640: 1280 pixels at 200 %
            await who.page.set_viewport_size({"width": width, "height": 700})
            for path in PAGES:
                await who.open(path)
                wide, seen = await who.page.evaluate(
                    "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
                )
                assert wide <= seen, (path, width)


async def test_an_empty_console_is_drawn_too(browser):
    async with person(browser, ShelfDesk(clock=Hands())) as who:
        assert "Aucun examen" in await who.page.inner_text("#list")


async def _refresh(who) -> None:
    """One refresh, whole."""
    await who.page.evaluate(
        "() => new Promise(done => { document.body.addEventListener('htmx:afterSettle', done, {once: true}); refresh(); })"
    )


async def test_a_refresh_takes_the_focus_from_nothing_and_scrolls_nothing_back(browser):
    desk = stocked(Hands())
    pause = Pause(tenant="site", at=desk.clock.now(), actor="operator:jeanne.martin", reason="migration du PACS")
    desk.facts["site"] = replace(desk.facts["site"], paused=pause)
    places = {
        "/console/": [f"compare-site-{HELD}", "exam-table", "resume-site", "follow", "refresh-now", "tile-held"],
        "/console/held": [f"held-site-{HELD}", "resume-site"],
        f"/console/exams/site/{WAITING}": ["steps", "resume-site", "reason"],
    }
    async with person(browser, desk, viewport={"width": 390, "height": 700}) as who:
        for path, names in places.items():
            await who.open(path)
            for name in names:
                await who.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
                await who.page.evaluate("id => document.getElementById(id).focus()", name)
                await who.page.evaluate(
                    "document.querySelectorAll('.scroll').forEach(one => { one.scrollLeft = 60; }); scrollTo(0, 40)"
                )
                await _refresh(who)
                assert await who.page.evaluate("document.activeElement.id") == name, (path, name)
                assert await who.page.evaluate("scrollY") == 40, (path, name)
                lefts = await who.page.evaluate(
                    "[...document.querySelectorAll('.scroll')].map(one => one.scrollLeft)"
                )
                assert set(lefts) <= {60}, (path, name)


async def test_a_refresh_keeps_a_half_written_reason_and_waits_while_text_is_selected(browser):
    async with person(browser) as who:
        await who.open(f"/console/exams/site/{WAITING}")
        await who.page.click("summary")
        await who.page.fill("#reason", "vu avec")
        await _refresh(who)
        assert await who.page.input_value("#reason") == "vu avec"
        assert await who.page.evaluate("document.activeElement.id") == "reason"
        await who.page.evaluate("document.getSelection().selectAllChildren(document.querySelector('h1 .uid'))")
        asked: list[str] = []
        who.page.on("request", lambda request: asked.append(request.url))
        await who.page.evaluate("refresh()")
        await who.page.wait_for_timeout(150)
        assert asked == []
        assert await who.page.evaluate("document.getSelection().toString()") == WAITING


async def test_ff19_after_signing_out_the_back_button_shows_no_identity(browser):
    async with person(browser) as who:
        await who.open(f"/console/held/site/{HELD}")
        assert "COLETTE" in await who.page.content()
        await who.page.click("header button")
        await who.page.wait_for_url("**/console/login?out=1")
        await who.page.go_back()
        await who.page.wait_for_url("**/console/login?**")
        assert "COLETTE" not in await who.page.content()


async def test_t31_a_name_written_backwards_is_shown_as_it_is_written(browser):
    desk = stocked(Hands())
    held = identities()
    values = {**held.sources[2].values, "birth name": "FAN\u202eEMOT"}
    desk.identities["site", HELD] = replace(
        held, sources=(*held.sources[:2], replace(held.sources[2], values=values))
    )
    async with person(browser, desk) as who:
        await who.open(f"/console/held/site/{HELD}")
        assert "FAN‹U+202E›EMOT" in await who.page.inner_text(".identities")


async def test_ff19_a_printed_comparison_holds_the_identities_and_no_button(browser):
    async with person(browser) as who:
        await who.open(f"/console/held/site/{HELD}")
        await who.page.emulate_media(media="print")
        assert await who.page.is_visible(".identities")
        assert not await who.page.locator("button:visible").count()
        assert await who.page.evaluate("document.querySelector('.scroll').scrollWidth") <= 1280


async def test_ff19_ff46_a_night_with_the_real_house_from_the_list_to_the_index(browser, tmp_path):
    exam = LabExam()
    late = replace(
        exam,
        studies=(f"{exam.studies[0]}.7",),
        document_id=f"{exam.document_id}.7",
        set_id=f"{exam.set_id}.7",
        orders=(LabOrder(placer_number="PLACER-7", accession_number="ACC-7"),),
    )
    study = exam.studies[0]
    async with world(tmp_path) as w:
        w.pacs.hold(exam, birth_date="19450101")
        await w.report(exam)
        await w.settle()
        house = operations(
            tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake, nudge=w.engine.nudge
        )
        async with person(browser, house, clock=w.clock) as who:
            page = who.page
            await page.click("#tile-held")
            await page.click(f'[id="compare-{TENANT}-{study}"]')
            assert "1945-01-01" in await page.inner_text(".identities .differs")
            await page.fill("#reason", "pièce d'identité vue par l'accueil")
            await page.check("#compared")
            await page.click(".release button")
            await page.wait_for_url("**/exams/**done=released")
            await w.settle()
            await _refresh(who)
            assert "Indexé" in await page.inner_text("#standing")
            assert len(await w.entries(exam)) == 1

            await who.open("/console/")
            await page.click("summary")
            await page.fill(f"#pause-{TENANT}", "migration du PACS")
            await page.click("details button")
            await page.wait_for_url("**done=paused")
            w.pacs.hold(late)
            await w.report(late)
            await w.settle(rounds=5)
            assert len(await w.entries(late)) == 1  # one patient: the exam before
            await who.open("/console/")
            assert "migration du PACS" in await page.inner_text("#banners")
            await page.click(f"#resume-{TENANT}")
            await page.wait_for_url("**done=resumed")
            await w.settle()
            await _refresh(who)
            assert await page.inner_text("#tile-indexed .number") == "2"
            assert len(await w.entries(late)) == 2


async def test_an_exchange_is_opened_and_its_masked_text_copied_with_the_keyboard_alone(browser):
    async with person(browser, permissions=["clipboard-read", "clipboard-write"]) as who:
        await who.open(f"/console/exams/site/{ROOT}.1{0:033}")
        await who.page.focus("#exchanges a")
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_url("**/exchanges/1")
        await who.page.focus("[data-copy=request]")
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_function("document.querySelector('[data-copy=request]').textContent === 'Copié'")
        copied = await who.page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("<s:Envelope")
        assert "AdhocQueryRequest" in copied
        await who.page.focus("#request")
        assert await who.page.evaluate("document.activeElement.id") == "request"
        assert "Maintenance" not in await who.page.content()


async def test_t33_a_person_who_mistypes_is_told_and_after_five_times_waits(browser):
    async with person(browser, enter=False) as who:
        await who.open("/console/login")
        for number in range(6):
            await who.page.fill("#name", "jeanne.martin")
            await who.page.fill("#password", "pas le bon mot de passe")
            await who.page.fill("#code", "123456")
            await who.page.press("#code", "Enter")
            await who.page.wait_for_selector("#errors" if number < 5 else ".notice.refused")
            assert await who.page.input_value("#password") == ""
        assert "Attendez" in await who.page.inner_text("main")


async def test_t46_the_menu_offers_what_the_roles_allow_and_nothing_else(browser):
    menus = {
        ("operator",): ["Examens", "Examens retenus", "Urgence"],
        ("identity-officer",): ["Examens", "Examens retenus", "Deux personnes"],
        ("security-officer",): ["Comptes", "Deux personnes"],
    }
    for roles, expected in menus.items():
        async with person(browser, roles=roles) as who:
            assert await who.page.locator("nav.zones a").all_inner_texts() == expected
            assert await who.page.locator("h1").count() == 1


async def test_the_first_account_is_made_with_the_keyboard_alone(browser):
    async with person(browser, enter=False, roles=()) as who:
        code = (await who.url.people.register.bootstrap(actor="host:test")).code
        await who.open("/console/enrol")
        await _tab_to(who, "#code")
        await who.page.keyboard.type(code)
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_selector("#secret")
        secret = b32decode((await who.page.inner_text("#secret")).replace(" ", ""))
        for field, text in (("#name", "anne.roy"), ("#person", "Anne Roy"), ("#password", PASSWORD)):
            await _tab_to(who, field)
            await who.page.keyboard.type(text)
        await _tab_to(who, "#totp")
        await who.page.keyboard.type(totp.code_at(secret, who.desk.clock.now()))
        await who.page.keyboard.press("Enter")
        await who.page.wait_for_url("**/console/accounts")
        assert "Anne Roy" in await who.page.inner_text("main")
