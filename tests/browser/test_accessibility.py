"""axe-core on every page, in both languages, light and dark, wide and narrow: no violation of WCAG 2.1 A or AA."""

from __future__ import annotations

from importlib import resources

import pytest
from playwright.async_api import Page

from tests.browser.conftest import person
from tests.browser.test_console import PAGES
from tests.integration.outbox_lab import Hands
from tests.support.shelf import HELD, Pause, stocked

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}


async def _violations(page: Page) -> dict[str, list[str]]:
    """What is broken, by how the page is drawn."""
    await page.evaluate(AXE)
    found: dict[str, list[str]] = {}
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            result = await page.evaluate("rules => axe.run(document, rules)", RULES)
            broken = [f"{one['id']}: {node['target']}" for one in result["violations"] for node in one["nodes"]]
            if broken:
                found[f"{page.url} {scheme} {width}"] = broken
    return found


def _paused():
    desk = stocked(Hands())
    pause = Pause(tenant="site", at=desk.clock.now(), actor="operator:jeanne.martin", reason="migration du PACS")
    desk.facts["site"] = type(desk.facts["site"])(
        title="Hôpital FANTÔME", zone=desk.facts["site"].zone, mode="live", paused=pause
    )
    return desk


@pytest.mark.parametrize("locale", ["fr-FR", "en-GB"])
@pytest.mark.parametrize("part", [0, 1, 2])
async def test_no_page_breaks_a_rule_of_wcag_21_a_or_aa(browser, locale, part):
    async with person(browser, _paused(), enter=False, locale=locale, bypass_csp=True) as who:
        found = {}
        if part == 0:
            await who.open("/console/login?over=1")
            found |= await _violations(who.page)
        await who.enter()
        for path in PAGES[part::3]:
            await who.open(path)
            found |= await _violations(who.page)
        assert found == {}


@pytest.mark.parametrize("locale", ["fr-FR", "en-GB"])
async def test_what_is_said_after_a_mistake_breaks_no_rule_either(browser, locale):
    async with person(browser, _paused(), locale=locale, bypass_csp=True) as who:
        await who.open(f"/console/held/site/{HELD}")
        await who.page.evaluate("document.querySelector('.release form').noValidate = true")
        await who.page.click(".release button")
        await who.page.wait_for_selector("#errors")
        await who.page.evaluate("document.getElementById('ending').hidden = false")
        await who.page.evaluate("document.getElementById('stale').hidden = false")
        assert await _violations(who.page) == {}


ACCOUNT_PAGES = {
    ("security-officer",): ["/accounts", "/two-persons", "/prove", "/password"],
    ("operator",): ["/emergency"],
}


@pytest.mark.parametrize("locale", ["fr-FR", "en-GB"])
async def test_the_pages_of_accounts_break_no_rule_either(browser, locale):
    found = {}
    for roles, paths in ACCOUNT_PAGES.items():
        async with person(browser, roles=roles, locale=locale, bypass_csp=True) as who:
            for path in paths:
                await who.open(f"/console{path}")
                found |= await _violations(who.page)
    assert found == {}


@pytest.mark.parametrize("locale", ["fr-FR", "en-GB"])
async def test_the_pages_of_an_enrolment_break_no_rule_either(browser, locale):
    async with person(browser, enter=False, roles=(), locale=locale, bypass_csp=True) as who:
        code = (await who.url.people.register.bootstrap(actor="host:test")).code
        await who.open("/console/login")
        found = await _violations(who.page)
        await who.open("/console/enrol")
        found |= await _violations(who.page)
        await who.page.fill("#code", code)
        await who.page.press("#code", "Enter")
        await who.page.wait_for_selector("#secret")
        assert found | await _violations(who.page) == {}
