"""The console under attack: what a hostile neighbour on the machine, in the network or in a message tries."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.lab.ris import LabExam
from gateway.web.session import way_back
from indexer.timeline import ExamState
from tests.integration.outbox_lab import Hands
from tests.integration.test_console import WHY, Visitor, at_work, hidden, trail, visiting
from tests.support.house import operations
from tests.support.people import PASSWORD
from tests.support.shelf import HELD, PERSON, ROOT, console, identities, stocked
from tests.support.world import TENANT, world

FORM = "application/x-www-form-urlencoded"


async def _raw(url: str, request: bytes) -> bytes:
    """Everything that is answered to these bytes, the connection then closed by us."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(2):
            return await reader.read(65_536)
    except TimeoutError:
        return b""
    finally:
        writer.close()


# -- the door ----------------------------------------------------------------------------------------------------


async def test_t33_tries_from_other_loopback_addresses_count_together():
    """Every process of the machine may choose its address in 127.0.0.0/8."""
    desk = stocked(Hands())
    async with console(desk, clock=desk.clock) as url:
        answers = []
        for last in range(2, 9):
            async with aiohttp.ClientSession(
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                connector=aiohttp.TCPConnector(local_addr=(f"127.0.0.{last}", 0)),
            ) as http:
                answers.append((await Visitor(http, url).enter(password="faux"))[0])
        assert answers == [403] * 5 + [429] * 2


async def test_t33_a_program_that_tries_keys_does_not_lock_out_a_browser_that_was_let_in_before():
    async with at_work() as (visitor, _desk):
        await visitor.post("/console/logout", {"csrf": await visitor.csrf()})
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            attacker = Visitor(http, visitor.url)
            assert [(await attacker.enter(password="faux"))[0] for _ in range(6)] == [403] * 5 + [429]
        assert (await visitor.enter())[0] == 303


async def test_t33_six_people_of_one_address_may_come_in_within_a_minute():
    async with visiting() as (visitor, _):
        for _ in range(6):
            visitor.http.cookie_jar.clear()
            assert (await visitor.enter())[0] == 303


async def test_t32_consoles_on_several_ports_of_one_host_do_not_close_each_others_sessions():
    first, second = stocked(Hands()), stocked(Hands())
    async with (
        console(first, clock=first.clock) as here,
        console(second, clock=second.clock) as there,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
    ):
        for url in (here, there):
            assert (await Visitor(http, url).enter())[0] == 303
        for url in (here, there):
            assert "Jeanne Martin" in await Visitor(http, url).get("/console/")


async def test_of_two_tabs_that_fell_back_to_the_login_page_the_first_lets_in_too():
    async with visiting() as (visitor, _):
        pages = [await visitor.get("/console/login?over=1") for _ in range(2)]
        fields = {"csrf": hidden(pages[0], "csrf"), "name": PERSON, "password": PASSWORD}
        fields["code"] = visitor.url.people.code(visitor.url.someone)
        assert (await visitor.post("/console/login", fields))[0] == 303


async def test_t27_a_header_of_a_proxy_that_is_not_there_changes_no_address():
    async with visiting() as (visitor, _):
        for number in range(5):
            page = await visitor.get("/console/login")
            fields = {"csrf": hidden(page, "csrf"), "name": PERSON, "password": "faux", "code": "0"}
            forged = {"X_Forwarded_For": f"192.0.2.{number}", "Forwarded": f"for=192.0.2.{number}"}
            assert (await visitor.post("/console/login", fields, **forged))[0] == 403
        assert (await visitor.enter())[0] == 429
        assert {address for *_, address in await trail(visitor)} == {"127.0.0.1"}


async def test_t33_a_cookie_somebody_made_up_is_no_browser_we_know():
    async with visiting() as (visitor, _):
        for number in range(5):
            forged = {"poterne-known": f"{number}." + "0" * 64}
            visitor.http.cookie_jar.update_cookies(forged)
            assert (await visitor.enter(password="faux"))[0] == 403
        assert (await visitor.enter())[0] == 429


async def test_t33_a_browser_that_was_let_in_before_tries_no_more_often_than_others():
    async with at_work() as (visitor, _):
        await visitor.post("/console/logout", {"csrf": await visitor.csrf()})
        assert [(await visitor.enter(password="faux"))[0] for _ in range(6)] == [403] * 5 + [429]


async def test_a_link_from_elsewhere_does_not_make_a_page_claim_what_was_not_done():
    async with at_work() as (visitor, _):
        path = f"/console/exams/site/{HELD}?done=released"
        assert "Retenue levée" in await visitor.get(path, **{"Sec-Fetch-Site": "same-origin"})
        for site in ("none", "cross-site", "same-site"):
            assert "Retenue levée" not in await visitor.get(path, **{"Sec-Fetch-Site": site})
    async with visiting() as (visitor, _), visitor.http.get(visitor.url + path, allow_redirects=False) as answer:
        assert "done" not in answer.headers["Location"]


async def test_ff19_what_a_browser_asks_ahead_of_a_click_is_no_look():
    async with at_work() as (visitor, desk):
        for purpose in ("prefetch", "prefetch;prerender"):
            await visitor.get(f"/console/held/site/{HELD}", 403, **{"Sec-Purpose": purpose})
        assert [kind for kind, *_ in desk.asked] == []


@pytest.mark.parametrize("back", ["/console/../live", "/console/held/..", "/console/./../live", "/console/x/../../y"])
def test_login_leads_to_no_page_above_the_console(back):
    assert way_back(back, "/console") == "/console/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": f"{FORM}; charset=bogus"},
        {"Content-Type": f"{FORM}; charset=utf-16"},
        {"Content-Type": f"{FORM}; charset=unicode_escape"},
        {"Content-Type": f"{FORM}; charset=idna"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "multipart/form-data; boundary=" + "x" * 71},
        {"Content-Type": FORM, "Content-Encoding": "gzip"},
        {"Content-Type": FORM, "Content-Encoding": "br"},
        {"Content-Type": "application/json"},
        {"Content-Type": ""},
    ],
)
@pytest.mark.parametrize("body", [b"csrf=x&name=a&key=b", b"csrf=%ff%fe&name=\xff\xd8&key=%ED%A0%80", b"\\ud800=1"])
@pytest.mark.parametrize("path", ["login", "tenants/site/pause"])
async def test_t25_a_form_that_cannot_be_read_is_refused_not_a_defect(path, headers, body):
    async with at_work() as (visitor, desk):
        before = list(desk.asked)
        stated = {"Origin": visitor.url, **headers}
        async with visitor.http.post(f"{visitor.url}/console/{path}", data=body, headers=stated) as answer:
            assert 400 <= answer.status < 500, await answer.text()
        assert desk.asked == before


@pytest.mark.parametrize(
    "query",
    [
        "since=0001-01-01",
        "until=9999-12-31",
        "until=0001-01-01",
        "since=9999-12-31&until=9999-12-31",
        "reason=%00",
        "reason=%ED%A0%80",
        "reason=" + "x" * 500,
        "study=%00",
        "tenant=%00&state=%00",
        "%ED%A0%80=%ED%A0%80",
        "lang=%ED%A0%80",
        "since=2026-W01-1",
    ],
)
async def test_t25_no_filter_makes_the_page_fail(query):
    async with at_work() as (visitor, _), visitor.http.get(f"{visitor.url}/console/?{query}") as answer:
        assert answer.status < 500, await answer.text()


async def test_hostile_paths_are_not_found():
    async with at_work() as (visitor, _):
        for path in (
            "/console/%ED%A0%80",
            "/console/%00",
            "/console/static/%2e%2e%2fpages.py",
            "/console/static/..%5c..%5cpages.py",
            "/console/held/site/" + "1" * 65,
            "/console/held/site%2f../" + HELD,
            "/console/exams/site/%D9%A1.%D9%A2",
            "/console/%0d%0aSet-Cookie:%20a=b",
        ):
            async with visitor.http.get(visitor.url + path, allow_redirects=False) as answer:
                assert answer.status == 404, path
                assert "a" not in answer.cookies


@pytest.mark.parametrize(
    "host", ["localhost/x", "x@localhost", "localhost@evil.example", "localhost.", "localhost#x", "localhost?x", ""]
)
async def test_t32_only_a_plain_host_name_is_ours(host):
    async with visiting() as (visitor, _):
        answer = await _raw(
            visitor.url, f"GET /console/login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.split()[1] in {b"421", b"400"}, answer[:200]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /console/ HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"POST /console/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /console/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /console/ HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
        b"GET /console/ HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /console/ HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET http://evil.example/console/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
    ids=["garbage", "two hosts", "two lengths", "length and chunks", "fold", "blank", "long", "many", "absolute"],
)
async def test_t25_what_is_no_clean_http_is_refused_without_a_look_inside(request_bytes):
    async with visiting() as (visitor, _):
        answer = await _raw(visitor.url, request_bytes)
        assert answer.split()[1].startswith(b"4"), answer[:300]
        assert b"Traceback" not in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_t46_another_method_does_nothing(method):
    async with at_work() as (visitor, desk):
        before = list(desk.asked)
        for path in ("/console/tenants/site/pause", f"/console/held/site/{HELD}", "/console/login"):
            async with visitor.http.request(
                method, visitor.url + path, headers={"Origin": visitor.url}, allow_redirects=False
            ) as answer:
                assert answer.status in {400, 405}, (path, answer.status)
        assert desk.asked == before


async def test_t46_no_header_or_field_turns_a_get_into_a_change():
    async with at_work() as (visitor, desk):
        before = list(desk.asked)
        csrf = await visitor.csrf()
        override = {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST", "HX-Request": "true"}
        async with visitor.http.get(
            f"{visitor.url}/console/tenants/site/pause?_method=POST&csrf={csrf}&reason=maintenance", headers=override
        ) as answer:
            assert answer.status == 405
        assert desk.asked == before


async def test_ff19_head_and_a_fragment_are_looks_too():
    async with at_work() as (visitor, desk):
        path = f"{visitor.url}/console/held/site/{HELD}"
        async with visitor.http.head(path) as answer:
            assert answer.status == 200
        async with visitor.http.get(path, headers={"HX-Request": "true", "HX-Target": "x"}) as answer:
            assert "COLETTE" in await answer.text()
        assert [kind for kind, *_ in desk.asked] == ["shown", "shown"]


async def test_ff19_when_the_look_cannot_be_recorded_nothing_is_shown():
    async with at_work() as (visitor, desk):

        async def fail(*_args: object, **_words: object) -> None:
            raise OSError("no space left on device")

        desk.held = fail  # type: ignore[method-assign]
        page = await visitor.get(f"/console/held/site/{HELD}", 500)
        assert not any(value in page for value in ("COLETTE", "ODETTE", "19540308", "1954-03-08"))


async def test_ff19_every_mistake_in_the_form_shows_the_identities_again_and_says_so_in_the_trail():
    async with at_work() as (visitor, desk):
        page = await visitor.get(f"/console/held/site/{HELD}")
        fields = {"csrf": hidden(page, "csrf"), "seen": hidden(page, "seen"), "reason": "non"}
        status, _, again = await visitor.post(f"/console/held/site/{HELD}/release", fields)
        assert (status, "COLETTE" in again) == (400, True)
        assert [kind for kind, *_ in desk.asked] == ["shown", "shown"]


@pytest.mark.parametrize("query", ["before=-1", "before=%00", "before=1-2-3", "before=9-9&since=1900-01-01"])
async def test_t25_a_cursor_nobody_gave_is_refused_by_the_real_store(tmp_path, query):
    async with world(tmp_path) as w:
        house = operations(
            tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake, nudge=w.engine.nudge
        )
        async with (
            at_work(house, clock=w.clock) as (visitor, _),
            visitor.http.get(f"{visitor.url}/console/?{query}") as answer,
        ):
            assert answer.status == (200 if "since" in query else 400)


async def test_ff19_when_the_real_trail_takes_nothing_no_identity_leaves(tmp_path, monkeypatch):
    exam = LabExam()
    async with world(tmp_path) as w:
        w.pacs.hold(exam, birth_date="19450101")
        await w.report(exam)
        await w.settle()
        house = operations(
            tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake, nudge=w.engine.nudge
        )
        async with at_work(house, clock=w.clock) as (visitor, _):

            def full(*_args: object, **_words: object) -> None:
                raise OSError("no space left on device")

            monkeypatch.setattr("security.audit.append", full)
            page = await visitor.get(f"/console/held/{TENANT}/{exam.studies[0]}", 500)
            assert "1945" not in page


# -- what a person reads -----------------------------------------------------------------------------------------

HIDDEN = "FAN\u200bTOME\u202eEMOTNAF\x1b[2J\x00"


async def test_t31_characters_nobody_sees_are_shown_by_their_number():
    """Two values that look the same and are not must not look the same to who compares them."""
    desk = stocked(Hands())
    strange = identities()
    source = strange.sources[2]
    values = {**source.values, "birth name": HIDDEN}
    replaced = type(source)(source="PACS", values=values)
    conflict = strange.conflicts[0]
    desk.identities["site", HELD] = replace(
        strange, sources=(*strange.sources[:2], replaced), conflicts=(replace(conflict, right=HIDDEN),)
    )
    async with at_work(desk) as (visitor, _):
        page = await visitor.get(f"/console/held/site/{HELD}")
        assert not any(one in page for one in "\u200b\u202e\x1b\x00")
        assert page.count("FAN‹U+200B›TOME‹U+202E›EMOTNAF‹U+001B›[2J‹U+0000›") == 3


@pytest.mark.parametrize(
    "path", ["tenants/site/pause", f"exams/site/{ROOT}.2{0:033}/retry", f"held/site/{HELD}/release"]
)
@pytest.mark.parametrize("mark", ["\u200b", "\u202e", "\x1b[2J", "\x00", "\u2066"])
async def test_t31_a_reason_holds_no_character_that_nobody_sees(path, mark):
    async with at_work() as (visitor, desk):
        page = await visitor.get(f"/console/held/site/{HELD}")
        fields = {"csrf": hidden(page, "csrf"), "seen": hidden(page, "seen"), "compared": "yes"}
        before = [one for one in desk.asked if one[0] != "shown"]
        status, _, again = await visitor.post(f"/console/{path}", fields | {"reason": f"migration{mark} du PACS"})
        assert status == 400
        assert "caractère invisible" in again
        assert [one for one in desk.asked if one[0] != "shown"] == before


async def test_a_reason_is_kept_composed_and_on_one_line():
    async with at_work() as (visitor, desk):
        fields = {"csrf": await visitor.csrf(), "reason": "  re\u0301vision\u00a0du\r\nPACS  "}
        await visitor.post("/console/tenants/site/pause", fields)
        assert desk.asked[-1] == ("paused", "site", "operator:jeanne.martin", "révision du PACS")


async def test_very_long_values_do_not_break_the_page():
    desk = stocked(Hands())
    strange = identities()
    source = strange.sources[2]
    desk.identities["site", HELD] = replace(
        strange,
        sources=(
            *strange.sources[:2],
            type(source)(source="PACS", values={**source.values, "birth name": "F" * 64_000}),
        ),
    )
    async with at_work(desk) as (visitor, _):
        page = await visitor.get(f"/console/held/site/{HELD}")
        assert len(page) < 200_000


async def test_t34_nothing_of_a_form_stands_in_the_log(capfd):
    async with at_work() as (visitor, _desk):
        with capture_logs() as logs:
            page = await visitor.get(f"/console/held/site/{HELD}")
            fields = {"csrf": hidden(page, "csrf"), "seen": hidden(page, "seen"), "compared": "yes"}
            await visitor.post(f"/console/held/site/{HELD}/release", fields | {"reason": "c'est bien FANTOME"})
            await visitor.enter(password="secret-mal-tape", name="Jeanne FANTÔME")
            await visitor.get("/console/nowhere?name=FANTOME", 404)
        text = repr(logs) + "".join(capfd.readouterr())
        assert not any(value in text for value in ("FANTOME", "FANTÔME", "COLETTE", "secret-mal-tape", PASSWORD))


async def test_a_slow_form_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("gateway.web.guard._FORM_S", 0.1)
    async with visiting() as (visitor, _):
        head = (
            f"POST /console/login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
            f"Content-Type: {FORM}\r\nContent-Length: 100\r\n\r\ncsrf="
        )
        answer = await _raw(visitor.url, head.encode())
        assert answer.split()[1] == b"408"
        assert b"poterne" in answer


async def test_a_change_that_takes_too_long_is_said_to_be_unsure_not_undone(monkeypatch):
    monkeypatch.setattr("gateway.web.shell._CHANGE_S", 0.05)
    async with at_work() as (visitor, desk):

        async def hang(*_args: object, **_words: object) -> None:
            await asyncio.Event().wait()

        desk.resume = hang  # type: ignore[method-assign]
        status, _, page = await visitor.post("/console/tenants/site/resume", {"csrf": await visitor.csrf()})
        assert status == 503
        assert "On ne sait pas si l’action a été effectuée" in page
        assert "Rien n’a été fait" not in page


async def test_ff46_a_tenant_of_every_name_the_settings_take_has_its_pages_and_its_buttons():
    name = "chu_nord-2"
    desk = stocked(Hands())
    desk.facts = {name: desk.facts["site"]}
    desk.put(name, HELD, ExamState.HELD, "identity-name")
    desk.identities[name, HELD] = replace(identities(), tenant=name)
    async with at_work(desk) as (visitor, _):
        await visitor.get(f"/console/exams/{name}/{HELD}")
        page = await visitor.get(f"/console/held/{name}/{HELD}")
        fields = {"csrf": hidden(page, "csrf"), "seen": hidden(page, "seen"), "compared": "yes", "reason": WHY}
        for path in (f"tenants/{name}/pause", f"tenants/{name}/resume", f"held/{name}/{HELD}/release"):
            assert (await visitor.post(f"/console/{path}", fields))[0] == 303, path
