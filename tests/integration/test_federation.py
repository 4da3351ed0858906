"""Signing in to the console at an identity provider, over real TLS: who is let in as whom, and what is said otherwise.

A browser is played with care for what matters here: what a provider sends back arrives without any cookie of ours.
"""

from __future__ import annotations

import html
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

import gateway.providers.channel
from gateway.lab.provider import LabClient, Switch
from gateway.settings import load
from gateway.wiring import house
from security.keys.tls import page_context
from security.policy import Refusal, Zone
from tests.integration.test_console import Visitor, hidden
from tests.support.providers import PERSON as SUBJECT
from tests.support.providers import SECRET, Stage, stage
from tests.support.shelf import PERSON, console, stocked
from tests.unit.configuration import TEXT, write

ADMIN = "security-officer:test"
ANOTHER = "899700000002"


@dataclass(kw_only=True)
class Traveller(Visitor):
    """A browser at the console and at the provider."""

    place: Stage
    http: aiohttp.ClientSession
    url: str

    async def link(self, name: str = PERSON, subject: str = SUBJECT) -> None:
        await self.url.people.register.bind_provider(name, self.place.provider.issuer, subject, actor=ADMIN)

    async def leave(self, path: str = "/console/login/psc?back=/console/held") -> str:
        """Follow a link of ours to the provider; its address."""
        async with self.http.get(self.url + path, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            return answer.headers["Location"]

    async def return_from(self, away: str) -> str:
        """The provider sends back: another site's redirect, without a cookie; the address our page goes on to."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self.place.pki.client(self.place.thief))
            ) as bare,
            bare.get(away, allow_redirects=False) as answer,
        ):
            assert answer.status == 302, await answer.text()
            back = answer.headers["Location"]
            assert back.startswith(f"{self.url}/console/login/psc/back?")
            async with bare.get(back) as page:
                assert page.status == 200
                assert page.headers.getall("Set-Cookie", []) == []
                shown = await page.text()
        (onward,) = re.findall(r'content="0;url=([^"]+)"', shown)
        return html.unescape(onward)

    async def arrive(self, onward: str, lang: str = "fr") -> tuple[int, str, str]:
        """(status, Location, page)"""
        async with self.http.get(
            self.url + onward,
            allow_redirects=False,
            headers={"Accept-Language": lang, "Sec-Fetch-Site": "same-origin"},
        ) as answer:
            return answer.status, answer.headers.get("Location", ""), html.unescape(await answer.text())

    async def sign_in(self, path: str = "/console/login/psc?back=/console/held", lang: str = "fr"):
        return await self.arrive(await self.return_from(await self.leave(path)), lang)

    def cookies(self) -> dict[str, str]:
        return {one.key.rpartition("-")[0]: one.value for one in self.http.cookie_jar}

    async def trail(self) -> list[tuple[str, str, str]]:
        rows = await self.url.people.store.read(
            lambda tx: tx.rows(
                "SELECT event, actor, detail FROM audit_record WHERE event LIKE 'session.%' ORDER BY seq"
            )
        )
        return [(row["event"], row["actor"], row["detail"]) for row in rows]


@pytest.fixture
async def place(tmp_path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as found:
        yield found


@asynccontextmanager
async def travelling(place: Stage, *, roles: tuple[str, ...] = ("operator", "identity-officer"), **changes):
    own = place.pki.pair("console")
    async with (
        console(
            stocked(place.clock),
            clock=place.clock,
            roles=roles,
            tls=page_context(own.certificate, own.key, None),
            parties=lambda url: {"psc": place.at(url, **changes)},
        ) as url,
        aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(ssl=place.pki.client(place.peer)),
        ) as http,
    ):
        yield Traveller(place=place, http=http, url=url)


# -- let in ----------------------------------------------------------------------------------------------------------


async def test_a_linked_person_is_let_in_as_their_account_and_the_trail_says_so(place):
    async with travelling(place) as who:
        await who.link()
        page = await who.get("/console/login?back=/console/held")
        assert (
            '<a role="button" class="secondary" id="at-psc" href="/console/login/psc?back=%2Fconsole%2Fheld">' in page
        )
        assert (await who.sign_in())[:2] == (303, "/console/held")
        assert "Jeanne Martin" in await who.get("/console/")
        assert await who.trail() == [("session.opened", f"account:{PERSON}", "identity provider")]


async def test_t32_the_cookies_of_a_sign_in_leave_neither_the_host_nor_our_own_pages(place):
    async with travelling(place) as who:
        await who.link()
        async with who.http.get(f"{who.url}/console/login/psc", allow_redirects=False) as left:
            away = left.headers["Location"]
            (stated,) = left.headers.getall("Set-Cookie")
        assert stated.startswith("__Host-poterne-away-")
        assert all(part in stated for part in ("HttpOnly", "Max-Age=300", "Path=/;", "SameSite=Strict", "Secure"))
        onward = await who.return_from(away)
        async with who.http.get(who.url + onward, allow_redirects=False) as let_in:
            given = let_in.headers.getall("Set-Cookie")
        (session,) = [one for one in given if re.match(r"__Host-poterne-\d+=", one)]
        assert all(part in session for part in ("HttpOnly", "Path=/;", "SameSite=Strict", "Secure"))


async def test_t32_a_sign_in_at_a_provider_gives_a_new_session_and_ends_the_one_before(place):
    async with travelling(place) as who:
        await who.link()
        await who.sign_in()
        first = who.cookies()["__Host-poterne"]
        await who.sign_in()
        assert who.cookies()["__Host-poterne"] != first
        port = who.url.rpartition(":")[2]
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=place.pki.client(place.peer))) as thief,
            thief.get(
                f"{who.url}/console/", headers={"Cookie": f"__Host-poterne-{port}={first}"}, allow_redirects=False
            ) as answer,
        ):
            assert answer.status == 303, "a session that was taken along is over"


@pytest.mark.parametrize("change", ["lock", "roles", "unlink", "link"])
async def test_t32_a_session_by_a_provider_is_over_once_its_account_or_link_changed(place, change):
    async with travelling(place) as who:
        await who.link()
        await who.sign_in()
        register, name = who.url.people.register, PERSON
        await {
            "lock": lambda: register.lock(name, actor=ADMIN),
            "roles": lambda: register.set_roles(name, ["operator"], tenant="", actor=ADMIN),
            "unlink": lambda: register.unbind_provider(name, actor=ADMIN),
            "link": lambda: register.bind_provider(name, place.provider.issuer, ANOTHER, actor=ADMIN),
        }[change]()
        async with who.http.get(f"{who.url}/console/", allow_redirects=False) as answer:
            assert (answer.status, "over=1" in answer.headers["Location"]) == (303, True)


async def test_t46_roles_are_those_of_the_account_whatever_the_provider_claims(place):
    claims = {"roles": ["security-officer"], "SubjectRole": ["10"], "groups": ["admin"], "role": "security-officer"}
    place.provider.people[SUBJECT] |= claims
    async with travelling(place, roles=("operator",)) as who:
        await who.link()
        await who.sign_in()
        await who.get("/console/")
        await who.get("/console/accounts", 403)


async def test_two_tabs_sign_in_at_the_same_time(place):
    async with travelling(place) as who:
        await who.link()
        first = await who.leave()
        second = await who.leave("/console/login/psc?back=/console/")
        assert (await who.arrive(await who.return_from(first)))[:2] == (303, "/console/held")
        assert (await who.arrive(await who.return_from(second)))[0] == 303


async def test_t43_nobody_is_led_to_another_site_after_the_sign_in(place):
    async with travelling(place) as who:
        await who.link()
        for back in ("https://evil.example/", "//evil.example", "/console/login/psc/out"):
            assert (await who.sign_in(f"/console/login/psc?back={back}"))[:2] == (303, "/console/")


# -- turned away -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lang", "title"), [("fr", "Aucun compte ne vous est lié"), ("en", "No account is linked")])
async def test_a_subject_never_seen_is_refused_and_told_what_to_give_to_whom(place, lang, title):
    async with travelling(place) as who:
        status, _, page = await who.sign_in(lang=lang)
        assert (status, title in page, SUBJECT in page, "poterne accounts link" in page) == (403, True, True, True)
        assert 'href="/console/login?lang=en"' in page, "another language does not ask again what is good once"
        assert "__Host-poterne" not in who.cookies()
        assert await who.trail() == [("session.refused", "account:unknown", "identity provider")]


@pytest.mark.parametrize("how", ["locked", "unlinked", "another"])
async def test_an_account_that_may_not_sign_in_lets_nobody_in(place, how):
    async with travelling(place) as who:
        await who.link(subject=ANOTHER if how == "another" else SUBJECT)
        if how == "locked":
            await who.url.people.register.lock(PERSON, actor=ADMIN)
        if how == "unlinked":
            await who.url.people.register.unbind_provider(PERSON, actor=ADMIN)
        assert (await who.sign_in())[0] == 403
        assert "__Host-poterne" not in who.cookies()


async def test_the_same_subject_of_another_provider_is_another_person(place):
    async with travelling(place) as who:
        await who.url.people.register.bind_provider(PERSON, "https://other.example", SUBJECT, actor=ADMIN)
        assert (await who.sign_in())[0] == 403


OVER, MISMATCH = "Cette connexion n’est plus valable", "ne correspond pas à cette connexion"
SILENT, CLOCKS, WEAK = "ne répond pas", "Les horloges", "plus faible que celle exigée"
MISBEHAVIOURS = {
    Switch.WRONG_STATE: (403, "signin-state", OVER),
    Switch.CODE_REPLAY: (403, "signin-state", OVER),
    Switch.WRONG_NONCE: (403, "signin-nonce", MISMATCH),
    Switch.WRONG_ISS: (403, "signin-issuer", MISMATCH),
    Switch.NO_ISS: (403, "signin-issuer", MISMATCH),
    Switch.MIXED_ISSUER: (403, "token-issuer", MISMATCH),
    Switch.OTHER_AUD: (403, "token-audience", MISMATCH),
    Switch.OTHER_PARTY: (403, "signin-client", MISMATCH),
    Switch.ALG_NONE: (403, "token-form", MISMATCH),
    Switch.ALG_HS256: (403, "token-algorithm", MISMATCH),
    Switch.OTHER_AT_HASH: (403, "signin-access-token", MISMATCH),
    Switch.OTHER_PERSON: (403, "signin-userinfo", MISMATCH),
    Switch.INTROSPECTION_OTHER: (403, "token-disagreed", MISMATCH),
    Switch.EXPIRED: (403, "token-expired", CLOCKS),
    Switch.LOW_LEVEL: (403, "signin-level", WEAK),
    Switch.OLD_PROOF: (403, "signin-old-proof", WEAK),
    Switch.TOKEN_LINES: (503, "provider-answer", SILENT),
    Switch.TOKEN_DOWN: (503, "provider-answer", SILENT),
    Switch.KEYS_DOWN: (503, "provider-keys", SILENT),
    Switch.KEYS_HUGE: (503, "provider-keys", SILENT),
    Switch.KEYS_ELSEWHERE: (503, "provider-keys", SILENT),
    Switch.METADATA_OTHER: (503, "provider-answer", SILENT),
    Switch.INTROSPECTION_DOWN: (503, "provider-answer", SILENT),
    Switch.INTROSPECTION_SLOW: (503, "fetch-failed", SILENT),
    Switch.INTROSPECTION_HUGE: (503, "provider-answer", SILENT),
    Switch.INTROSPECTION_ELSEWHERE: (503, "provider-answer", SILENT),
    Switch.INTROSPECTION_PAGE: (503, "provider-answer", SILENT),
}


def test_every_way_in_which_the_provider_misbehaves_has_its_page():
    assert set(MISBEHAVIOURS) == set(Switch)


@pytest.mark.parametrize("switch", MISBEHAVIOURS)
async def test_t43_t44_a_provider_that_misbehaves_signs_nobody_in_and_the_page_says_what_to_do(
    place, monkeypatch, switch
):
    if switch is Switch.INTROSPECTION_SLOW:
        monkeypatch.setattr(gateway.providers.channel, "TIMEOUT_S", 2.0)
    status, code, title = MISBEHAVIOURS[switch]
    async with travelling(place) as who:
        await who.link()
        onward = ""
        if switch is Switch.CODE_REPLAY:
            onward = await who.return_from(await who.leave())
            assert (await who.arrive(onward))[0] == 303
            await who.url.people.register.lock(PERSON, actor=ADMIN)  # and its session with it
            await who.url.people.register.unlock(PERSON, actor=ADMIN)
        if switch is Switch.OLD_PROOF:
            await who.sign_in()
        before, written = len(who.url.refusals), await who.trail()
        place.provider.switches = {switch, *([Switch.NO_ISS] if switch is Switch.METADATA_OTHER else [])}
        path = "/console/prove/psc?back=/console/held" if switch is Switch.OLD_PROOF else "/console/login/psc"
        found = await who.arrive(onward) if onward else await who.sign_in(path)
        assert (found[0], found[1], title in found[2]) == (status, "", True), found[2]
        assert f"Code : {code}".replace(" :", "\N{NO-BREAK SPACE}:") in found[2]
        assert "Que faire" in found[2]
        where = {"zone": Zone.OPS, "address": "127.0.0.1", "event": "signin.refused"}
        assert who.url.refusals[before:] == [Refusal(reason=code, actor="provider psc", **where)]
        assert await who.trail() == written, "told to the trail once, and it opens no session"
        if switch not in {Switch.CODE_REPLAY, Switch.OLD_PROOF}:
            assert "__Host-poterne" not in who.cookies()
            place.provider.switches = set()
            place.clock.by += 11  # keys are looked at again
            assert (await who.sign_in())[0] == 303, "and afterwards everybody is let in again"


async def test_t43_what_another_browser_began_lets_nobody_in_and_is_on_record(place):
    """Login CSRF: the victim is led to what the attacker began."""
    async with travelling(place) as attacker:
        await attacker.link()
        onward = await attacker.return_from(await attacker.leave())
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(ssl=place.pki.client(place.peer)),
        ) as http:
            victim = Traveller(place=place, http=http, url=attacker.url)
            await victim.leave()
            status, _, page = await victim.arrive(onward)
            assert (status, "signin-browser" in page, "__Host-poterne" in victim.cookies()) == (403, True, False)
        assert [one.reason for one in attacker.url.refusals] == ["signin-browser"]


async def test_t43_who_gives_up_at_the_provider_is_told_so(place):
    place.provider.at_the_browser = ""
    async with travelling(place) as who:
        status, _, page = await who.sign_in()
        assert (status, "ne vous a pas connecté" in page, "signin-declined" in page) == (403, True, True)


async def test_t33_people_without_an_account_wait_by_address_while_passwords_go_on(place):
    async with travelling(place) as who:
        for _ in range(5):
            assert (await who.sign_in())[0] == 403
        written = len(await who.trail())
        await who.link()
        onward = await who.return_from(await who.leave())
        async with who.http.get(who.url + onward, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "60")
        assert len(await who.trail()) == written
        assert (await who.enter())[0] == 303, "the other way stays open"
        place.clock.by += 61
        assert (await who.sign_in())[0] == 303


async def test_t33_an_outage_and_a_link_of_anybody_lock_nobody_out(place):
    async with travelling(place) as who:
        await who.link()
        place.provider.switches = {Switch.TOKEN_DOWN}
        for _ in range(7):
            assert (await who.sign_in())[0] == 503
        place.provider.switches = set()
        for _ in range(7):
            assert (await who.arrive("/console/login/psc/enter?state=x&code=y"))[0] == 403
            assert (await who.arrive("/console/login/psc/enter?state=x&state=y"))[0] == 403
        assert (await who.sign_in())[0] == 303


async def test_t29_what_a_stranger_puts_into_the_way_back_stays_text(place):
    async with travelling(place) as who:
        strange = '/console/login/psc/back?state="><script>document.title=1</script>&x=%22%3E%3Cscript%3E;url=//evil'
        async with who.http.get(f"{who.url}{strange}") as answer:
            page = await answer.text()
        assert answer.status == 200
        assert "<script>document" not in page
        (onward,) = re.findall(r'content="0;url=([^"]+)"', page)
        assert html.unescape(onward) == (
            "/console/login/psc/enter?state=%22%3E%3Cscript%3Edocument.title%3D1%3C%2Fscript%3E"
        )


async def test_without_a_provider_there_is_no_way_to_one(place):
    async with travelling(place) as who:
        assert "/console/login/other" not in await who.get("/console/login")
        for path in ("", "/back?state=x", "/enter?state=x", "/out"):
            await who.get(f"/console/login/other{path}", 404)


# -- proving, signing out --------------------------------------------------------------------------------------------


async def test_a_person_let_in_by_a_provider_proves_there_to_be_there(place):
    async with travelling(place, roles=("security-officer",)) as who:
        people = who.url.people
        await people.enrolled("paul.roy", "operator")
        await who.link()
        await who.sign_in()
        place.clock.by += 301
        place.provider.clock = place.clock
        lock = {"csrf": hidden(await who.get("/console/accounts"), "csrf")}
        assert (await who.post("/console/accounts/paul.roy/lock", lock))[0] == 403
        page = await who.get("/console/prove?back=/console/accounts")
        assert 'href="/console/prove/psc?back=%2Fconsole%2Faccounts"' in page
        before = who.cookies()["__Host-poterne"]
        proof = "/console/prove/psc?back=/console/accounts"
        place.provider.people[ANOTHER] = {}
        place.provider.at_the_browser = ANOTHER
        status, _, page = await who.sign_in(proof)
        assert (status, "Ce n’est pas la personne" in page) == (403, True)
        assert (await who.post("/console/accounts/paul.roy/lock", lock))[0] == 403
        place.provider.at_the_browser = SUBJECT
        assert (await who.sign_in(proof))[:2] == (303, "/console/accounts")
        assert who.cookies()["__Host-poterne"] != before
        lock = {"csrf": hidden(await who.get("/console/accounts"), "csrf")}
        assert (await who.post("/console/accounts/paul.roy/lock", lock))[0] == 303
        assert [one[0] for one in await who.trail()] == ["session.opened", "session.not-proved", "session.proved"]


async def test_a_proof_without_a_session_is_not_even_begun(place):
    async with travelling(place) as who, who.http.get(f"{who.url}/console/prove/psc", allow_redirects=False) as away:
        assert (away.status, away.headers["Location"].startswith("/console/login?")) == (303, True)


async def test_who_signs_out_here_is_offered_to_sign_out_there_too(place):
    async with travelling(place) as who:
        await who.link()
        await who.sign_in()
        csrf = {"csrf": await who.csrf()}
        assert (await who.post("/console/logout", csrf))[:2] == (303, "/console/login?out=psc")
        page = await who.get("/console/login?out=psc")
        assert "/console/login/psc/out" in page
        assert "/out" not in await who.get("/console/login?out=1")
        async with who.http.get(f"{who.url}/console/held", allow_redirects=False) as answer:
            assert answer.status == 303
        there = await who.leave("/console/login/psc/out")
        assert there.startswith(f"{place.provider.issuer}/end_session?client_id=poterne&post_logout_redirect_uri=")
        assert (await place.get(there))[0] == 200
        assert (await who.sign_in())[0] == 403, "the provider knows nobody any more"


async def test_a_provider_without_a_page_for_it_is_not_offered_for_signing_out(place):
    async with travelling(place, end_session_url="") as who:
        assert "/out" not in await who.get("/console/login?out=psc")
        await who.get("/console/login/psc/out", 404)


@pytest.mark.parametrize("mode", ["gone", "weak", "empty"])
async def test_a_secret_of_ours_that_cannot_be_read_signs_nobody_in_and_is_named_to_nobody(
    place, tmp_path: Path, mode
):
    file = tmp_path / "client-secret-7f3a"
    if mode != "gone":
        file.write_text("" if mode == "empty" else SECRET)
        file.chmod(0o644 if mode == "weak" else 0o600)
    async with travelling(place, client_secret_file=file) as who:
        await who.link()
        status, _, page = await who.sign_in()
        assert (status, SILENT in page, "7f3a" in page, str(tmp_path) in page) == (503, True, False, False)
        assert [one.event for one in who.url.refusals] == ["signin.refused"]


async def test_t45_our_secret_at_the_provider_is_in_nothing_that_is_served(place, tmp_path: Path):
    held = place.provider.clients["poterne"]
    file = tmp_path / "client-secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    async with travelling(place, client_secret_file=file) as who:
        await who.link()
        registered = place.provider.clients["poterne"]
        place.provider.register(
            LabClient(
                client_id="poterne",
                redirect_uri=registered.redirect_uri,
                certificate=held.certificate,
                secret=SECRET,
            )
        )
        served = [await who.get("/console/login"), await who.leave()]
        assets = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', served[0])
        assert len(assets) >= 4
        served += [await who.get(path) for path in assets]
        onward = await who.return_from(served[1])
        served += [onward, *map(str, await who.arrive(onward)), await who.get("/console/")]
        assert place.provider.counts["/token"] == 1
        assert "Jeanne Martin" in served[-1]
        for shape in (SECRET, "a+secret", "a%20secret", "YSBzZWNyZXQ", "client_secret"):
            assert not any(shape in text for text in served), shape
        assert urlsplit(served[1]).path == "/authorize"


# -- a running gateway -----------------------------------------------------------------------------------------------


async def test_a_running_gateway_signs_in_who_was_linked_by_its_own_orders(place, tmp_path: Path):
    """From the configuration file on: listeners, links and orders as ``poterne serve`` puts them together."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"https://localhost:{port}"
    held, at = place.provider.clients["poterne"], place.provider.issuer
    place.provider.register(replace(held, redirect_uri=f"{url}/console/login/psc/back"))
    console_pair = place.pki.pair("console")
    text = (
        TEXT.replace('listen = "127.0.0.1:9090"', f'listen = "127.0.0.1:{port}"\nnames = ["localhost"]')
        .replace(
            "[tenants.fantome]\n",
            f'certificate_file = "{console_pair.certificate}"\nkey_file = "{console_pair.key}"\n\n[tenants.fantome]\n',
        )
        .replace('listen = "127.0.0.1:2575"', 'listen = "127.0.0.1:0"')
        + f"""
[identity_providers.psc]
issuer = "{at}"
jwks_url = "{at}/jwks"
algorithms = ["ES256"]
client_id = "poterne"
ca_file = "{place.pki.ca}"
certificate_file = "{place.own.certificate}"
key_file = "{place.own.key}"
networks = ["127.0.0.0/8"]
authorization_url = "{at}/authorize"
token_url = "{at}/token"
redirect_uri = "{url}/console/login/psc/back"

[identity_providers.psc.revocation]
crl_file = "{place.pki.crl}"
"""
    )
    folder = tmp_path / "site"
    folder.mkdir()
    async with (
        house(load(write(folder, text), {})) as gateway,
        gateway.doors() as bound,
        aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(ssl=place.pki.client(place.peer)),
        ) as http,
    ):
        assert bound["ops"] == f"127.0.0.1:{port}"
        who = Traveller(place=place, http=http, url=url)
        assert (await who.sign_in())[0] == 403
        orders = gateway.orders()
        facts = {"name": "lea.petit", "person": "Léa Petit", "roles": ["operator"], "actor": "host:test"}
        await orders["account-add"](facts, print)
        linked = {"name": "lea.petit", "provider": "psc", "subject": SUBJECT, "actor": "host:test"}
        assert (await orders["account-link"](linked, print))["status"] == "active"
        assert (await who.sign_in())[:2] == (303, "/console/held")
        assert "Léa Petit" in await who.get("/console/held")
        await orders["account-unlink"]({"name": "lea.petit", "actor": "host:test"}, print)
        assert (await who.sign_in())[0] == 403
