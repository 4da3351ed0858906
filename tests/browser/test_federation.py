"""Signing in at an identity provider, in Chromium: another site's page sends the browser back, and cookies of ours that
never leave our pages do not come with it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page

from gateway.lab.provider import Switch
from security.keys.tls import page_context
from tests.browser.test_accessibility import _violations
from tests.support.providers import PERSON as SUBJECT
from tests.support.providers import Stage, stage
from tests.support.shelf import PERSON, Served, console, stocked

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

PICTURES = os.environ.get("POTERNE_PICTURES", "")
WORDS = {
    "fr-FR": {
        "sign in": "Se connecter avec Pro Santé Connect",
        "unlinked": "Aucun compte ne vous est lié",
        "mismatch": "La réponse du fournisseur d’identité ne correspond pas à cette connexion",
        "silent": "Le fournisseur d’identité ne répond pas",
        "out": "Se déconnecter aussi de Pro Santé Connect",
    },
    "en-GB": {
        "sign in": "Sign in at Pro Santé Connect",
        "unlinked": "No account is linked to you",
        "mismatch": "The identity provider's answer does not fit this sign-in",
        "silent": "The identity provider does not answer",
        "out": "Sign out of Pro Santé Connect too",
    },
}


class Seat:
    """Somebody at a browser, the console they open and the provider that knows them."""

    def __init__(self, page: Page, url: Served, place: Stage, locale: str) -> None:
        self.page, self.url, self.place, self.locale = page, url, place, locale
        self.strayed: list[str] = []
        self.said: list[str] = []

    async def link(self) -> None:
        await self.url.people.register.bind_provider(
            PERSON, self.place.provider.issuer, SUBJECT, actor="security-officer:test"
        )

    async def go(self) -> None:
        """From our login to the provider's page, and back by a click there."""
        await self.page.goto(f"{self.url}/console/login?back=/console/held")
        await self.page.click("#at-psc")
        await self.page.wait_for_selector("#go")
        assert urlsplit(self.page.url).hostname == "127.0.0.1"
        await self.page.click("#go")

    async def picture(self, name: str) -> None:
        if PICTURES:
            await self.page.emulate_media(color_scheme="light")
            await self.page.set_viewport_size({"width": 1000, "height": 700})
            await self.page.screenshot(path=Path(PICTURES) / f"{name}-{self.locale[:2]}.png", full_page=True)


@asynccontextmanager
async def seat(browser: Browser, folder: Path, locale: str = "fr-FR", **changes: object) -> AsyncIterator[Seat]:
    async with stage(folder) as place:
        place.provider.shows_page = True
        own = place.pki.pair("console")
        async with console(
            stocked(place.clock),
            clock=place.clock,
            tls=page_context(own.certificate, own.key, None),
            parties=lambda url: {"psc": place.at(url, title="Pro Santé Connect")},
        ) as url:
            made = await browser.new_context(locale=locale, ignore_https_errors=True, **changes)
            made.set_default_timeout(10_000)
            who = Seat(await made.new_page(), url, place, locale)
            known = {urlsplit(url).netloc, urlsplit(place.provider.issuer).netloc}
            made.on("request", lambda asked: urlsplit(asked.url).netloc in known or who.strayed.append(asked.url))
            who.page.on("pageerror", lambda error: who.said.append(str(error)))
            who.page.on(
                "console",
                lambda told: (
                    (told.type == "error" and "status of" not in told.text and "favicon" not in told.text)
                    and who.said.append(told.text)
                ),
            )
            try:
                yield who
            finally:
                await made.close()
            assert who.strayed == []
            assert who.said == []


async def test_a_person_goes_to_the_provider_and_comes_back_signed_in(browser, tmp_path):
    async with seat(browser, tmp_path) as who:
        await who.link()
        await who.go()
        await who.page.wait_for_url("**/console/held")
        assert "Jeanne Martin" in await who.page.inner_text("header")
        cookies = {one["name"].rpartition("-")[0]: one for one in await who.page.context.cookies(who.url)}
        for name in ("__Host-poterne", "__Host-poterne-away"):
            assert (cookies[name]["sameSite"], cookies[name]["httpOnly"], cookies[name]["secure"]) == (
                "Strict",
                True,
                True,
            )
        await who.page.click("form[action$='/logout'] button")
        await who.page.wait_for_url("**/console/login?out=psc")
        await who.page.click("a[href$='/login/psc/out']")
        await who.page.wait_for_url(f"{who.place.provider.issuer}/end_session?**")
        await who.page.goto(f"{who.url}/console/held")
        assert "/console/login" in who.page.url


async def test_without_scripts_the_way_back_works_as_well(browser, tmp_path):
    async with seat(browser, tmp_path, java_script_enabled=False) as who:
        await who.link()
        await who.go()
        await who.page.wait_for_url("**/console/held")
        assert "Jeanne Martin" in await who.page.inner_text("header")


@pytest.mark.parametrize("locale", list(WORDS))
async def test_the_pages_of_a_sign_in_speak_the_language_of_the_browser_and_break_no_rule(browser, tmp_path, locale):
    said, found = WORDS[locale], {}
    async with seat(browser, tmp_path, locale, bypass_csp=True) as who:
        await who.page.goto(f"{who.url}/console/login")
        assert said["sign in"] in await who.page.inner_text("main")
        await who.picture("login")
        found |= await _violations(who.page)
        await who.go()
        await who.page.wait_for_url("**/enter?**")
        assert (said["unlinked"], SUBJECT) == (
            await who.page.inner_text("h1"),
            (await who.page.inner_text(".told")).rpartition(" ")[2],
        )
        await who.picture("unlinked")
        found |= await _violations(who.page)
        for switch, key in ((Switch.WRONG_NONCE, "mismatch"), (Switch.TOKEN_DOWN, "silent")):
            who.place.provider.switches = {switch}
            await who.go()
            await who.page.wait_for_url("**/enter?**")
            assert await who.page.inner_text("h1") == said[key]
            await who.picture(key)
            found |= await _violations(who.page)
        who.place.provider.switches = set()
        await who.link()
        await who.go()
        await who.page.wait_for_url("**/console/held")
        await who.page.goto(f"{who.url}/console/prove?back=/console/held")
        await who.picture("prove")
        found |= await _violations(who.page)
        await who.page.click("form[action$='/logout'] button")
        await who.page.wait_for_url("**/console/login?out=psc")
        assert said["out"] in await who.page.inner_text("main")
        await who.picture("out")
        found |= await _violations(who.page)
        assert found == {}


@pytest.mark.parametrize("locale", list(WORDS))
async def test_the_page_between_breaks_no_rule_and_goes_on_by_its_link_too(browser, tmp_path, locale):
    async with seat(browser, tmp_path, locale, bypass_csp=True) as who:
        await who.page.context.route("**/enter?**", lambda route: route.fulfill(status=204))  # it stays where it is
        await who.page.goto(f"{who.url}/console/login/psc/back?state=x&code=y")
        assert await who.page.get_attribute("#onward", "href") == "/console/login/psc/enter?state=x&code=y"
        await who.picture("arrival")
        assert await _violations(who.page) == {}
