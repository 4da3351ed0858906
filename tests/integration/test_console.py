"""The console on a real socket: who gets in, what a form may do, what an answer carries."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

import gateway.web
from gateway.lab.person import enrol
from gateway.lab.ris import LabExam
from gateway.web.session import Sessions
from indexer.timeline import ExamState
from security.accounts import totp
from security.errors import Unavailable
from security.policy import Role
from security.store.port import ReadTx
from tests.integration.outbox_lab import Hands
from tests.support.house import operations
from tests.support.people import PASSWORD, account, rewound
from tests.support.shelf import HELD, PERSON, ROOT, STRANGE, Served, ShelfDesk, console, identities, stocked
from tests.support.world import TENANT, World, world

WHY = "pièce d'identité vue par l'accueil"
VENDORED = Path(gateway.web.__file__).parent / "static" / "vendor"
WAITING = f"{ROOT}.2{0:033}"


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


class Visitor:
    """A browser without JavaScript: cookies, forms, our own origin."""

    def __init__(self, http: aiohttp.ClientSession, url: Served) -> None:
        self.http, self.url = http, url

    async def get(self, path: str, status: int = 200, **headers: str) -> str:
        async with self.http.get(self.url + path, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return text

    async def post(self, path: str, fields: dict[str, str], *, origin: str | None = None, **headers: str):
        """(status, Location, page)"""
        stated = {"Origin": self.url if origin is None else origin, **headers}
        sent = {key.replace("_", "-"): value for key, value in stated.items() if value}
        async with self.http.post(self.url + path, data=fields, headers=sent, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", ""), await answer.text()

    async def enter(
        self, *, password: str = PASSWORD, name: str = PERSON, back: str = "/console/", code: str | None = None
    ):
        found = self.url.people
        if code is None and name == PERSON:
            await rewound(found, name)
            code = found.code(self.url.someone)
        page = await self.get("/console/login")
        fields = {"csrf": hidden(page, "csrf"), "back": back, "name": name, "password": password}
        return await self.post("/console/login", fields | {"code": code or "000000"})

    async def csrf(self) -> str:
        return hidden(await self.get("/console/"), "csrf")

    @property
    def cookie(self) -> str:
        return f"poterne-{self.url.rpartition(':')[2]}"

    @property
    def session_id(self) -> str:
        mine = (c.value for c in self.http.cookie_jar if (c.key, c["path"]) == (self.cookie, "/console"))
        return next(mine, "")


@asynccontextmanager
async def visiting(desk: ShelfDesk | None = None, **more):
    desk = desk or stocked(Hands())
    async with (
        console(desk, **{"clock": getattr(desk, "clock", None), **more}) as url,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
    ):
        yield Visitor(http, url), desk


@asynccontextmanager
async def at_work(desk: ShelfDesk | None = None, **more):
    async with visiting(desk, **more) as (visitor, desk):
        assert (await visitor.enter())[:2] == (303, "/console/")
        yield visitor, desk


# -- the door ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/held"),
        ("GET", f"/held/site/{HELD}"),
        ("GET", f"/exams/site/{HELD}"),
        ("POST", f"/held/site/{HELD}/release"),
        ("POST", f"/exams/site/{HELD}/retry"),
        ("POST", f"/exams/site/{HELD}/withdraw"),
        ("POST", f"/exams/site/{HELD}/republish"),
        ("POST", "/tenants/site/pause"),
        ("POST", "/tenants/site/resume"),
        ("POST", "/logout"),
        ("POST", "/stay"),
    ],
)
async def test_t46_without_a_session_nothing_is_shown_and_nothing_done(method, path):
    async with visiting() as (visitor, desk):
        if method == "GET":
            async with visitor.http.get(f"{visitor.url}/console{path}", allow_redirects=False) as answer:
                assert answer.status == 303
                assert answer.headers["Location"].startswith("/console/login?back=")
                assert await answer.text() == ""
        else:
            status, _, page = await visitor.post(f"/console{path}", {"csrf": "x", "reason": WHY})
            assert (status, "FANTÔME" in page) == (403, False)
        assert desk.asked == []


async def trail(visitor: Visitor) -> list[tuple[str, str, str]]:
    """What the audit trail says of sessions: event, who, from where."""
    rows = await visitor.url.people.store.read(
        lambda tx: tx.rows(
            "SELECT event, actor, object_id FROM audit_record WHERE event LIKE 'session.%' ORDER BY seq"
        )
    )
    return [(row["event"], row["actor"], row["object_id"]) for row in rows]


async def test_name_password_and_code_open_the_console_and_the_trail_says_so():
    async with visiting() as (visitor, _):
        status, location, _ = await visitor.enter(back=f"/console/exams/site/{HELD}?all=1")
        assert (status, location) == (303, f"/console/exams/site/{HELD}?all=1")
        assert "Jeanne Martin" in await visitor.get("/console/")
        assert await trail(visitor) == [("session.opened", "account:jeanne.martin", "127.0.0.1")]


@pytest.mark.parametrize("password", ["", "un mot de passe faux", PASSWORD + " ", PASSWORD.upper(), "é"])
async def test_another_password_opens_nothing_and_the_trail_says_so(password):
    async with visiting() as (visitor, _):
        status, _, page = await visitor.enter(password=password)
        assert status == 403
        assert 'aria-invalid="true"' in page
        assert 'id="name-error"' in page
        assert await trail(visitor) == [("session.refused", "account:jeanne.martin", "127.0.0.1")]
        assert visitor.session_id == ""


async def test_t33_every_wrong_sign_in_is_answered_with_the_same_page():
    async with visiting() as (visitor, _):
        await visitor.url.people.enrolled("paul.roy", "operator")
        await visitor.url.people.register.lock("paul.roy", actor="security-officer:test")
        pages = [
            (await visitor.enter(password="faux"))[2].replace(PERSON, "X"),
            (await visitor.enter(code="000000"))[2].replace(PERSON, "X"),
            (await visitor.enter(name="nobody.here"))[2].replace("nobody.here", "X"),
            (await visitor.enter(name="paul.roy"))[2].replace("paul.roy", "X"),
        ]
        assert len(set(pages)) == 1


async def test_t32_a_code_that_was_used_opens_nothing_more():
    async with visiting() as (visitor, _):
        assert (await visitor.enter())[0] == 303
        await visitor.post("/console/logout", {"csrf": await visitor.csrf()})
        used = visitor.url.people.code(visitor.url.someone)
        assert (await visitor.enter(code=used))[0] == 403


@pytest.mark.parametrize("change", ["lock", "roles", "password", "reset"])
async def test_t32_a_session_is_over_with_the_next_request_once_its_account_has_changed(change):
    async with at_work() as (visitor, _):
        register, admin = visitor.url.people.register, "security-officer:test"
        await {
            "lock": lambda: register.lock(PERSON, actor=admin),
            "roles": lambda: register.set_roles(PERSON, ["operator"], tenant="", actor=admin),
            "password": lambda: register.change_password(PERSON, "cinq barques sous la neige"),
            "reset": lambda: register.reset(PERSON, actor=admin),
        }[change]()
        async with visitor.http.get(f"{visitor.url}/console/", allow_redirects=False) as answer:
            assert (answer.status, "over=1" in answer.headers["Location"]) == (303, True)


@pytest.mark.parametrize(
    ("roles", "open_to", "closed"),
    [
        (("operator",), ["/", "/held", f"/exams/site/{HELD}"], [f"/held/site/{HELD}", "/accounts", "/two-persons"]),
        (("identity-officer",), ["/", "/held", f"/held/site/{HELD}", "/two-persons"], ["/accounts", "/emergency"]),
        (("security-officer",), ["/accounts", "/two-persons"], ["/", "/held", f"/held/site/{HELD}", "/emergency"]),
        (("radiologist",), ["/password"], ["/", "/held", f"/exams/site/{HELD}", "/accounts", "/two-persons"]),
    ],
)
async def test_t46_the_console_is_as_wide_as_the_roles_of_the_account(roles, open_to, closed):
    async with visiting(roles=roles) as (visitor, desk):
        assert (await visitor.enter())[0] == 303
        for path in open_to:
            await visitor.get(f"/console{path}")
        looked = len(desk.asked)
        for path in closed:
            page = await visitor.get(f"/console{path}", 403)
            assert "FANTÔME" not in page
        assert len(desk.asked) == looked


async def test_t46_an_operator_neither_compares_nor_releases_identities():
    async with visiting(roles=("operator",)) as (visitor, desk):
        await visitor.enter()
        fields = {"csrf": await visitor.csrf(), "seen": "5f" * 32, "compared": "yes", "reason": WHY}
        assert (await visitor.post(f"/console/held/site/{HELD}/release", fields))[0] == 403
        assert desk.asked == []


async def test_t28_an_account_of_one_legal_entity_sees_no_other_not_even_that_it_exists():
    async with visiting(tenant="clinique") as (visitor, desk):
        await visitor.enter()
        listed = await visitor.get("/console/")
        assert (ROOT + ".3" in listed, ROOT + ".1" in listed, "Hôpital" in listed) == (True, False, False)
        assert "Hôpital" not in await visitor.get("/console/held")
        for path in (f"/exams/site/{HELD}", f"/held/site/{HELD}", f"/exams/nobody/{HELD}"):
            await visitor.get(f"/console{path}", 404)
        fields = {"csrf": await visitor.csrf(), "reason": WHY}
        assert (await visitor.post("/console/tenants/site/pause", fields))[0] == 404
        assert desk.asked == []


async def test_what_is_sensitive_asks_for_a_proof_that_is_minutes_old_and_the_session_gets_a_new_id():
    async with visiting(roles=("security-officer",)) as (visitor, desk):
        await visitor.enter()
        await visitor.url.people.enrolled("paul.roy", "operator")
        desk.clock.advance(301)
        before = visitor.session_id
        page = await visitor.get("/console/accounts")
        lock = {"csrf": hidden(page, "csrf")}
        assert (await visitor.post("/console/accounts/paul.roy/lock", lock))[0] == 403
        assert (await visitor.url.people.entry.standing("paul.roy")) is not None
        page = await visitor.get("/console/prove?back=/console/accounts")
        fields = {"csrf": hidden(page, "csrf"), "back": "/console/accounts"}
        assert (await visitor.post("/console/prove", fields | {"code": "000000"}))[0] == 403
        code = visitor.url.people.code(visitor.url.someone)
        assert (await visitor.post("/console/prove", fields | {"code": code}))[:2] == (303, "/console/accounts")
        assert visitor.session_id not in {"", before}
        lock = {"csrf": hidden(await visitor.get("/console/accounts"), "csrf")}
        assert (await visitor.post("/console/accounts/paul.roy/lock", lock))[0] == 303
        assert await visitor.url.people.entry.standing("paul.roy") is None


async def test_the_first_account_enrols_with_its_code_and_is_let_in():
    async with visiting(roles=()) as (visitor, desk):
        people = visitor.url.people
        assert "poterne accounts bootstrap" in await visitor.get("/console/login")
        code = (await people.register.bootstrap(actor="host:test")).code
        page = await visitor.get("/console/enrol")
        csrf = {"csrf": hidden(page, "csrf")}
        assert (await visitor.post("/console/enrol", csrf | {"code": "AAAA-BBBB"}))[0] == 403
        status, _, page = await visitor.post("/console/enrol", csrf | {"code": code.lower()})
        assert status == 200
        secret = re.search(r'id="secret">([A-Z2-7 ]+)<', page)[1].replace(" ", "")
        now = totp.code_at(base64.b32decode(secret), desk.clock.now())
        fields = csrf | {"code": code, "name": "anne.roy", "person": "Anne Roy", "password": PASSWORD, "totp": now}
        for wrong, field in (
            ({"totp": "000000"}, "totp"),
            ({"password": "court"}, "password"),
            ({"name": "é"}, "name"),
        ):
            status, _, page = await visitor.post("/console/enrol/finish", fields | wrong)
            assert (status, f'id="{field}-error"' in page) == (400, True)
            assert PASSWORD not in page
        assert (await visitor.post("/console/enrol/finish", fields))[:2] == (303, "/console/accounts")
        assert "Anne Roy" in await visitor.get("/console/accounts")
        assert (await visitor.post("/console/enrol/finish", fields))[0] == 403


async def test_t33_one_time_codes_are_not_tried_without_end():
    async with visiting(roles=()) as (visitor, _):
        page = await visitor.get("/console/enrol")
        fields = {"csrf": hidden(page, "csrf"), "code": "AAAA-BBBB-CCCC-DDDD-EEEE"}
        assert [(await visitor.post("/console/enrol", fields))[0] for _ in range(6)] == [403] * 5 + [429]


async def test_t46_two_persons_agree_on_the_console():
    async with visiting(roles=("security-officer",)) as (visitor, _):
        await visitor.enter()
        page = await visitor.get("/console/two-persons")
        asked = {"csrf": hidden(page, "csrf"), "action": "keys.export", "tenant": "", "reason": WHY}
        assert (await visitor.post("/console/two-persons", asked | {"reason": "court"}))[0] == 400
        assert (await visitor.post("/console/two-persons", asked))[0] == 303
        assert (await visitor.post("/console/two-persons/1", {"csrf": asked["csrf"]}))[0] == 409
        other = await visitor.url.people.enrolled("paul.roy", "security-officer")
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            second = Visitor(http, visitor.url)
            assert (await second.enter(name="paul.roy", code=visitor.url.people.code(other)))[0] == 303
            page = await second.get("/console/two-persons")
            assert "jeanne.martin" in page
            assert (await second.post("/console/two-persons/1", {"csrf": hidden(page, "csrf")}))[0] == 303
            assert "paul.roy" in await second.get("/console/two-persons")


async def test_t47_an_operator_who_breaks_the_glass_sees_identities_and_cannot_release_them():
    async with visiting(roles=("operator",)) as (visitor, desk):
        await visitor.enter()
        await visitor.get(f"/console/held/site/{HELD}", 403)
        page = await visitor.get("/console/emergency?tenant=site")
        fields = {"csrf": hidden(page, "csrf"), "tenant": "site", "code": "no-identity-officer", "hours": "1"}
        for wrong in ({"reason": "court"}, {"reason": WHY, "hours": "9"}, {"reason": WHY, "code": "x"}):
            assert (await visitor.post("/console/emergency", fields | wrong))[0] == 400
        assert visitor.url.alarms == []
        assert (await visitor.post("/console/emergency", fields | {"reason": WHY}))[0] == 303
        assert visitor.url.alarms == [("site", PERSON)]
        assert "ODETTE" in await visitor.get(f"/console/held/site/{HELD}")
        assert desk.asked == [("shown in an emergency", "site", HELD, "operator:jeanne.martin")]
        release = {"csrf": fields["csrf"], "seen": "5f" * 32, "compared": "yes", "reason": WHY}
        assert (await visitor.post(f"/console/held/site/{HELD}/release", release))[0] == 403
        desk.clock.advance(3600)
        assert (await visitor.enter())[0] == 303
        await visitor.get(f"/console/held/site/{HELD}", 403)


async def test_another_password_ends_every_session_and_opens_the_console():
    async with at_work() as (visitor, _):
        page = await visitor.get("/console/password")
        fields = {"csrf": hidden(page, "csrf")}
        assert (await visitor.post("/console/password", fields | {"password": "court"}))[0] == 400
        new = "cinq barques sous la neige"
        assert (await visitor.post("/console/password", fields | {"password": new}))[0] == 303
        assert (await visitor.enter())[0] == 403
        assert (await visitor.enter(password=new))[0] == 303


async def test_t33_the_sixth_try_within_a_minute_waits_even_with_the_right_key():
    async with visiting() as (visitor, desk):
        for _ in range(5):
            assert (await visitor.enter(password="faux"))[0] == 403
        status, _, page = await visitor.enter()
        assert status == 429
        assert re.search(r"Attendez 1\s+minute", page)
        assert len(await trail(visitor)) == 5
        desk.clock.advance(61)
        assert (await visitor.enter())[0] == 303


async def test_t32_login_gives_a_new_session_and_ends_the_old_one():
    async with at_work() as (visitor, _):
        first = visitor.session_id
        await visitor.post("/console/logout", {"csrf": await visitor.csrf()})
        await visitor.enter()
        second = visitor.session_id
        assert second not in {first, ""}
        for planted in (first, "chosen-by-somebody"):
            visitor.http.cookie_jar.clear()
            headers = {"Cookie": f"{visitor.cookie}={planted}", "Origin": visitor.url}
            async with visitor.http.get(f"{visitor.url}/console/", headers=headers, allow_redirects=False) as answer:
                assert answer.status == 303


async def test_t32_the_cookie_is_for_this_console_alone_and_no_script_reads_it():
    async with visiting() as (visitor, _):
        page = await visitor.get("/console/login")
        fields = {"csrf": hidden(page, "csrf"), "back": "", "name": PERSON, "password": PASSWORD}
        fields["code"] = visitor.url.people.code(visitor.url.someone)
        async with visitor.http.post(
            f"{visitor.url}/console/login", data=fields, headers={"Origin": visitor.url}, allow_redirects=False
        ) as answer:
            cookie = answer.cookies[visitor.cookie]
            assert (cookie["path"], cookie["samesite"], cookie["httponly"]) == ("/console", "Strict", True)
            assert len(cookie.value) >= 43


async def test_a_session_closes_when_nobody_clicks_though_the_page_refreshes_itself():
    async with at_work(idle_s=900.0) as (visitor, desk):
        for _ in range(10):
            desk.clock.advance(100)
            async with visitor.http.get(
                f"{visitor.url}/console/", headers={"HX-Request": "true"}, allow_redirects=False
            ) as answer:
                last = answer.status, answer.headers.get("HX-Redirect", "")
        assert last == (403, "/console/login?over=1")


async def test_clicks_keep_a_session_open_but_not_beyond_twelve_hours():
    async with at_work(idle_s=3600.0) as (visitor, desk):
        for _ in range(11):
            desk.clock.advance(3590)
            await visitor.get("/console/")
        desk.clock.advance(3590)
        csrf = await visitor.csrf()
        desk.clock.advance(3590)
        status, _, page = await visitor.post(f"/console/exams/site/{WAITING}/retry", {"csrf": csrf, "reason": WHY})
        assert status == 403
        assert "Votre session est terminée" in page


async def test_saying_that_one_is_still_there_keeps_the_session_open():
    async with at_work(idle_s=900.0) as (visitor, desk):
        csrf = await visitor.csrf()
        for _ in range(3):
            desk.clock.advance(800)
            assert (await visitor.post("/console/stay", {"csrf": csrf}, HX_Request="true"))[0] == 204
        assert "Jeanne Martin" in await visitor.get("/console/")


def test_the_store_of_sessions_holds_no_session_id():
    sessions = Sessions(clock=Hands(), idle_s=900)
    token = sessions.open(account())
    assert token not in repr(vars(sessions))
    assert sessions.find(token, clicked=True)
    assert sessions.find(token[:-1], clicked=True) is None


@pytest.mark.parametrize(
    "back",
    [
        "https://ailleurs.example/",
        "//ailleurs.example/",
        "/console/../live",
        "/console\\@ailleurs.example",
        "javascript:x",
        "/console/login",
        "/console/x\r\nSet-Cookie: a=b",
    ],
)
async def test_login_leads_nowhere_but_into_the_console(back):
    async with visiting() as (visitor, _):
        status, location, _ = await visitor.enter(back=back)
        assert status == 303
        assert location in {"/console/", "/console/../live"}
        assert location.startswith("/console/")


# -- where a request comes from ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://ailleurs.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "", "Sec_Fetch_Site": "none"},
    ],
)
async def test_t32_a_form_of_another_site_changes_nothing(headers):
    async with at_work() as (visitor, desk):
        csrf, before = await visitor.csrf(), list(desk.asked)
        headers = dict(headers)
        origin = headers.pop("Origin", None)
        fields = {"csrf": csrf, "reason": WHY}
        assert (await visitor.post("/console/tenants/site/pause", fields, origin=origin, **headers))[0] == 403
        assert desk.asked == before


@pytest.mark.parametrize(
    "path",
    [
        "tenants/site/pause",
        f"exams/site/{WAITING}/retry",
        f"exams/site/{WAITING}/withdraw",
        f"exams/site/{WAITING}/republish",
        f"held/site/{HELD}/release",
    ],
)
async def test_t32_a_form_without_the_token_of_its_session_changes_nothing(path):
    async with at_work() as (visitor, desk):
        before = list(desk.asked)
        fields = {"reason": WHY, "compared": "yes", "seen": identities().seen}
        for csrf in ("", "x" * 43):
            assert (await visitor.post(f"/console/{path}", {**fields, "csrf": csrf}))[0] == 403
        assert desk.asked == before


@pytest.mark.parametrize("host", ["ailleurs.example", "127.0.0.1.ailleurs.example", "[bad", "0.0.0.0"])
async def test_t32_a_name_that_is_not_ours_is_answered_with_nothing(host):
    async with at_work() as (visitor, _):
        page = await visitor.get("/console/", 421, Host=host)
        assert HELD not in page
        assert "Jeanne" not in page


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8080"])
async def test_a_tunnel_may_have_its_own_port(host):
    async with visiting() as (visitor, _):
        await visitor.get("/console/login", Host=host)


async def test_a_form_larger_than_any_page_sends_is_refused():
    async with at_work() as (visitor, desk):
        fields = {"csrf": await visitor.csrf(), "reason": "x" * 20_000}
        assert (await visitor.post("/console/tenants/site/pause", fields))[0] == 413
        assert desk.facts["site"].paused is None


# -- what an answer carries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/console/", "/console/held", f"/console/held/site/{HELD}", "/console/login", "/console/nowhere", "/console"],
)
async def test_t29_every_answer_carries_the_strict_headers(path):
    async with (
        at_work() as (visitor, _),
        visitor.http.get(visitor.url + path, allow_redirects=False) as answer,
    ):
        headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "poterne"
        if path != "/console":
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_a_page_has_no_inline_script_or_style_and_names_no_other_host():
    async with at_work() as (visitor, _):
        for path in ("/console/", "/console/held", f"/console/held/site/{HELD}", f"/console/exams/site/{HELD}"):
            page = await visitor.get(path)
            assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", page)


async def test_static_files_are_kept_for_good_under_a_name_that_holds_their_digest():
    async with visiting() as (visitor, _):
        page = await visitor.get("/console/login")
        names = set(re.findall(r'"(/console/static/[^"]+)"', page))
        assert len(names) == 5
        for name in names:
            async with visitor.http.get(visitor.url + name) as answer:
                body = await answer.read()
                assert "immutable" in answer.headers["Cache-Control"]
                assert hashlib.sha256(body).hexdigest()[:16] in name
        await visitor.get("/console/static/shell.css", 404)
        await visitor.get("/console/static/..%2f..%2fhealth.py", 404)


def test_vendored_files_are_the_ones_recorded_with_their_licences():
    recorded = dict(reversed(line.split()) for line in (VENDORED / "SHA256SUMS").read_text().splitlines())
    present = {file.name for file in VENDORED.iterdir()} - {"SHA256SUMS"}
    assert set(recorded) == present
    for name, digest in recorded.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digest, name
    assert {"htmx-LICENSE", "pico-LICENSE.md"} <= present


@pytest.mark.parametrize(
    ("path", "headers", "lang"),
    [
        ("/console/login", {}, "fr"),
        ("/console/login", {"Accept-Language": "en-GB,en;q=0.9"}, "en"),
        ("/console/login", {"Accept-Language": "en;q=0.2, fr;q=0.8"}, "fr"),
        ("/console/login", {"Accept-Language": "de"}, "fr"),
        ("/console/login", {"Accept-Language": "en;q=x, ;;,"}, "fr"),
        ("/console/login?lang=en", {"Accept-Language": "fr"}, "en"),
        ("/console/login?lang=xx", {}, "fr"),
    ],
)
async def test_the_language_is_the_one_asked_for_else_the_browsers_else_french(path, headers, lang):
    async with visiting() as (visitor, _):
        page = await visitor.get(path, **headers)
        assert f'<html lang="{lang}">' in page
        again = await visitor.get("/console/accessibility", **headers)
        assert f'<html lang="{lang}">' in again


# -- pages -------------------------------------------------------------------------------------------------------


async def test_the_list_counts_every_state_and_filters_by_it():
    async with at_work() as (visitor, desk):
        page = await visitor.get("/console/")
        tile = re.search(r'id="tile-held".*?class="number">(\d+)<', page, re.DOTALL)
        assert tile
        assert int(tile[1]) == sum(line.state is ExamState.HELD for line in desk.lines)
        held = await visitor.get("/console/?state=held&tenant=site")
        assert HELD in held
        assert WAITING not in held


async def test_the_list_pages_back_and_keeps_its_filters():
    desk = stocked(Hands())
    for number in range(60):
        desk.put("site", f"{ROOT}.9{number:033}", ExamState.INDEXED, minutes=2000 + number)
    async with at_work(desk) as (visitor, _):
        page = await visitor.get("/console/?state=indexed")
        older = re.search(r'href="(/console/\?[^"]*before=[^"]*)"', page)
        assert older
        second = await visitor.get(older[1].replace("&amp;", "&"))
        seen = [set(re.findall(r'id="exam-site-([0-9.]+)"', text)) for text in (page, second)]
        assert len(seen[0]) == 50
        assert len(seen[1]) == 32
        assert not seen[0] & seen[1]
        assert WAITING not in second


@pytest.mark.parametrize(
    "query", ["study=abc", "state=lost", "tenant=nobody", "since=yesterday", "since=2026-03-02&until=2026-03-01"]
)
async def test_a_filter_that_cannot_be_read_is_named_at_its_field(query):
    async with at_work() as (visitor, _):
        page = await visitor.get(f"/console/?{query}", 400)
        assert 'id="errors"' in page


async def test_dates_are_days_of_the_tenants_zone_both_included():
    desk = stocked(Hands())
    desk.put("site", f"{ROOT}.9{1:033}", ExamState.INDEXED, minutes=60 * 24 * 30 + 12 * 60 + 30)
    day = (desk.lines[-1].changed_at + timedelta(hours=1)).date()
    async with at_work(desk) as (visitor, _):
        assert f"{ROOT}.9{1:033}" in await visitor.get(f"/console/?since={day}&until={day}&tenant=site")


async def test_an_empty_gateway_says_what_to_do():
    desk = ShelfDesk(clock=Hands())
    async with at_work(desk) as (visitor, _):
        assert "poterne doctor" in await visitor.get("/console/")
        assert "Aucun examen" in await visitor.get("/console/held")


@pytest.mark.parametrize(
    "path", [f"exams/site/{ROOT}", f"exams/nobody/{HELD}", "exams/site/x", f"held/nobody/{HELD}", f"held/site/{ROOT}"]
)
async def test_t28_what_does_not_exist_is_one_and_the_same_page(path):
    async with at_work() as (visitor, _):
        page = await visitor.get(f"/console/{path}", 404)
        assert "Il n’y a rien à cette adresse" in page
        assert "urn:uuid:" in page


async def test_t29_values_from_outside_are_text():
    desk = stocked(Hands())
    strange = identities()
    values = dict.fromkeys(strange.sources[0].values, STRANGE)
    desk.identities["site", HELD] = type(strange)(
        **{
            **{name: getattr(strange, name) for name in strange.__slots__},
            "sources": (type(strange.sources[0])(source=STRANGE, values=values), *strange.sources[1:]),
        }
    )
    async with at_work(desk) as (visitor, _):
        page = await visitor.get(f"/console/held/site/{HELD}")
        assert "<img src=x" not in page
        assert page.count("&lt;img src=x onerror=") == 13


async def test_ff19_showing_identities_is_recorded_under_the_persons_name_each_time():
    async with at_work() as (visitor, desk):
        for _ in range(2):
            page = await visitor.get(f"/console/held/site/{HELD}")
            assert "COLETTE" in page
        assert desk.asked == [("shown", "site", HELD, "identity-officer:jeanne.martin")] * 2


async def test_ff19_what_differs_is_marked_in_words_and_another_spelling_is_not_a_difference():
    async with at_work() as (visitor, _):
        page = await visitor.get(f"/console/held/site/{HELD}")
    marks = {label: mark for mark, label in re.findall(r'<tr class="(\w+)">\s*<th scope="row">([^<]+)', page)}
    assert {label for label, mark in marks.items() if mark == "differs"} == {"premier prénom", "date de naissance"}
    assert {label for label, mark in marks.items() if mark == "spelt"} == {"nom de naissance"}
    assert page.count("</span>diffère</span>") == 2
    assert len(marks) == 12


async def test_ff19_no_other_page_shows_an_identity():
    async with at_work() as (visitor, _):
        for path in ("/console/", "/console/held", f"/console/exams/site/{HELD}"):
            page = await visitor.get(path)
            assert not any(value in page for value in ("COLETTE", "ODETTE", "254036219301284", "1954"))


async def test_ff19_a_release_needs_a_reason_and_the_word_that_both_were_compared():
    async with at_work() as (visitor, desk):
        page = await visitor.get(f"/console/held/site/{HELD}")
        fields = {"csrf": hidden(page, "csrf"), "seen": hidden(page, "seen")}
        wrong = [{"reason": WHY}, {"reason": "ok", "compared": "yes"}, {"reason": " " * 30, "compared": "yes"}, {}]
        for stated in wrong:
            status, _, again = await visitor.post(f"/console/held/site/{HELD}/release", fields | stated)
            assert status == 400
            assert 'id="errors"' in again
        assert not any(kind == "released" for kind, *_ in desk.asked)
        stated = {"reason": WHY, "compared": "yes"}
        status, location, _ = await visitor.post(f"/console/held/site/{HELD}/release", fields | stated)
        assert (status, location) == (303, f"/console/exams/site/{HELD}?done=released")
        assert ("released", "site", HELD, "identity-officer:jeanne.martin", WHY) in desk.asked
        assert "Retenue levée." in await visitor.get(location)


async def test_ff19_what_changed_since_it_was_shown_is_not_released_but_shown_again():
    async with at_work() as (visitor, desk):
        page = await visitor.get(f"/console/held/site/{HELD}")
        fields = {"csrf": hidden(page, "csrf"), "seen": "0" * 64, "reason": WHY, "compared": "yes"}
        status, _, again = await visitor.post(f"/console/held/site/{HELD}/release", fields)
        assert status == 409
        assert 'id="refused"' in again
        assert hidden(again, "seen") == identities().seen
        assert not any(kind == "released" for kind, *_ in desk.asked)


async def test_ff19_a_reason_that_quotes_the_patient_is_refused_at_its_field():
    async with at_work() as (visitor, _):
        page = await visitor.get(f"/console/held/site/{HELD}")
        fields = {"csrf": hidden(page, "csrf"), "seen": hidden(page, "seen"), "compared": "yes"}
        status, _, again = await visitor.post(
            f"/console/held/site/{HELD}/release", fields | {"reason": "c'est bien FANTOME"}
        )
        assert status == 400
        assert "cite un nom" in again


async def test_ff19_what_nobody_may_accept_has_no_form_and_says_what_to_do_instead():
    async with at_work() as (visitor, _):
        page = await visitor.get(f"/console/held/site/{ROOT}.4{2:033}")
        assert "/release" not in page
        assert "ne peut pas être levée à la main" in page
        assert "faites renvoyer le compte rendu par le RIS" in page


async def test_an_exam_that_is_no_longer_held_leads_to_its_page():
    async with (
        at_work() as (visitor, _),
        visitor.http.get(f"{visitor.url}/console/held/site/{WAITING}", allow_redirects=False) as answer,
    ):
        assert answer.status == 303
        assert answer.headers["Location"] == f"/console/exams/site/{WAITING}?done=compared-not-needed"


async def test_an_exam_is_tried_again_for_a_reason():
    async with at_work() as (visitor, desk):
        csrf = await visitor.csrf()
        path = f"/console/exams/site/{WAITING}"
        assert (await visitor.post(f"{path}/retry", {"csrf": csrf, "reason": "court"}))[0] == 400
        status, location, _ = await visitor.post(f"{path}/retry", {"csrf": csrf, "reason": WHY})
        assert (status, location) == (303, f"{path}?done=retried")
        assert desk.asked[-1] == ("retried", "site", WAITING, "operator:jeanne.martin", WHY)


async def test_an_exam_leaves_the_index_for_a_reason_and_only_a_person_lets_it_back():
    async with at_work() as (visitor, desk):
        csrf = await visitor.csrf()
        path = f"/console/exams/site/{WAITING}"
        status, _, page = await visitor.post(f"{path}/withdraw", {"csrf": csrf, "reason": "court"})
        assert (status, desk.asked) == (400, [])
        assert 'id="reason-index-error"' in page
        assert 'id="reason-error"' not in page, "the other form is not at fault"
        status, location, _ = await visitor.post(f"{path}/withdraw", {"csrf": csrf, "reason": WHY})
        assert (status, location) == (303, f"{path}?done=taken-out")
        assert desk.asked[-1] == ("withdrawn", "site", WAITING, "operator:jeanne.martin", WHY)
        assert f"{WAITING}/withdraw" not in await visitor.get(path)

        assert (await visitor.post(f"{path}/withdraw", {"csrf": csrf, "reason": WHY}))[0] == 409
        status, location, _ = await visitor.post(f"{path}/republish", {"csrf": csrf, "reason": WHY})
        assert (status, location) == (303, f"{path}?done=let-in")
        assert desk.asked[-1] == ("republished", "site", WAITING, "operator:jeanne.martin", WHY)


async def test_what_a_retry_cannot_help_is_neither_offered_nor_done():
    forbidden = f"{ROOT}.4{5:033}"
    async with at_work() as (visitor, desk):
        assert "/retry" not in await visitor.get(f"/console/exams/site/{forbidden}")
        fields = {"csrf": await visitor.csrf(), "reason": WHY}
        status, _, page = await visitor.post(f"/console/exams/site/{forbidden}/retry", fields)
        assert status == 409
        assert "Réessayer n’y changera rien" in page
        assert desk.asked == []


async def test_ff46_a_pause_says_who_why_and_since_when_until_somebody_resumes():
    async with at_work() as (visitor, desk):
        csrf = await visitor.csrf()
        status, _, page = await visitor.post("/console/tenants/site/pause", {"csrf": csrf, "reason": "court"})
        assert (status, desk.facts["site"].paused) == (400, None)
        assert "10 caractères" in page
        await visitor.post("/console/tenants/site/pause", {"csrf": csrf, "reason": "migration du PACS"})
        desk.clock.advance(3 * 3600)
        await visitor.enter()
        page = await visitor.get("/console/")
        assert "rien ne part pour Hôpital FANTÔME" in page
        assert "Par jeanne.martin" in page
        assert "il y a 3\xa0heures" in page
        assert "migration du PACS" in page
        status, location, _ = await visitor.post("/console/tenants/site/resume", {"csrf": hidden(page, "csrf")})
        assert (status, location) == (303, "/console/?done=resumed")
        assert desk.facts["site"].paused is None


async def test_t34_an_unexpected_error_shows_its_instance_and_nothing_else():
    desk = stocked(Hands())
    async with at_work(desk) as (visitor, _):
        desk.fails = RuntimeError("FANTÔME ODETTE 254036219301284")
        with capture_logs() as logs:
            page = await visitor.get("/console/", 500)
        instance = re.search(r"urn:uuid:[0-9a-f-]{36}", page)
        assert instance
        assert any(entry.get("instance") == instance[0] for entry in logs)
        assert "ODETTE" not in page


async def test_a_fault_says_what_it_is_in_the_shell():
    desk = stocked(Hands())
    async with at_work(desk) as (visitor, _):
        desk.fails = Unavailable("the database is locked", code="store-busy", hint="wait")
        page = await visitor.get("/console/", 503)
        assert "store-busy" in page
        assert "Aller au contenu" in page


async def test_a_house_that_hangs_is_said_to_hang(monkeypatch):
    desk = stocked(Hands())
    monkeypatch.setattr("gateway.web.shell._ANSWER_S", 0.05)

    async def hang(_lang: str) -> None:
        await asyncio.Event().wait()

    async with at_work(desk) as (visitor, _):
        desk.alerts = hang  # type: ignore[method-assign]
        page = await visitor.get("/console/", 503)
        assert "ne répond pas" in page


# -- without a key -----------------------------------------------------------------------------------------------


async def test_health_and_figures_stay_as_they_are_beside_the_console():
    async with visiting() as (visitor, _), visitor.http.get(f"{visitor.url}/live") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "live"})
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


# -- with the real house behind it -------------------------------------------------------------------------------


async def _audit(w: World) -> list[tuple[str, str]]:
    def work(tx: ReadTx) -> list[tuple[str, str]]:
        rows = tx.rows(
            "SELECT event, actor FROM audit_record WHERE actor LIKE 'operator:%' OR actor LIKE 'identity-officer:%' ORDER BY seq"
        )
        return [(row["event"], row["actor"]) for row in rows]

    return await w.store.read(work)


async def test_ff19_a_held_exam_goes_from_the_list_to_the_index_through_the_console(tmp_path):
    exam = LabExam()
    study = exam.studies[0]
    async with world(tmp_path) as w:
        w.pacs.hold(exam, birth_date="19450101")
        await w.report(exam)
        await w.settle()
        desk = operations(
            tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake, nudge=w.engine.nudge
        )
        async with at_work(desk, clock=w.clock) as (visitor, _):
            listed = await visitor.get("/console/?state=held")
            assert f"/console/held/{TENANT}/{study}" in listed
            assert await _audit(w) == []
            page = await visitor.get(f"/console/held/{TENANT}/{study}")
            assert "1945-01-01" in page
            assert [event for event, _ in await _audit(w)] == ["exam.identity-read"]
            fields = {"csrf": hidden(page, "csrf"), "seen": hidden(page, "seen"), "compared": "yes", "reason": WHY}
            status, location, _ = await visitor.post(f"/console/held/{TENANT}/{study}/release", fields)
            assert (status, location) == (303, f"/console/exams/{TENANT}/{study}?done=released")
            status, *_ = await visitor.post(f"/console/held/{TENANT}/{study}/release", fields)
            assert status in {303, 409}
            await w.settle()
            told = await visitor.get(f"/console/exams/{TENANT}/{study}")
            assert "Indexé" in told
            assert "retenue levée par quelqu’un" in told
            assert "19450101" not in told
        assert ("exam.released", "identity-officer:jeanne.martin") in await _audit(w)
        assert [event for event, _ in await _audit(w)].count("exam.released") == 1
        assert len(await w.entries(exam)) == 1


async def test_ff46_a_pause_of_the_console_stops_the_real_queue_until_it_is_resumed(tmp_path):
    exam = LabExam()
    async with world(tmp_path) as w:
        w.pacs.hold(exam)
        desk = operations(
            tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake, nudge=w.engine.nudge
        )
        async with at_work(desk, clock=w.clock) as (visitor, _):
            csrf = await visitor.csrf()
            await visitor.post(f"/console/tenants/{TENANT}/pause", {"csrf": csrf, "reason": "migration du PACS"})
            await w.report(exam)
            await w.settle(rounds=5)
            assert await w.entries(exam) == []
            page = await visitor.get("/console/")
            assert "migration du PACS" in page
            await visitor.post(f"/console/tenants/{TENANT}/resume", {"csrf": csrf})
            await w.settle()
        assert len(await w.entries(exam)) == 1


# -- exchanges ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def at_exchanges(tmp_path: Path, *roles: Role):
    """Somebody with these roles at the console of a world in which one exam was published."""
    exam = LabExam()
    async with world(tmp_path) as w:
        w.pacs.hold(exam)
        await w.report(exam)
        await w.settle()
        desk = operations(tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake)
        async with at_work(desk, clock=w.clock, roles=tuple(roles)) as (visitor, _):
            yield visitor, w, exam


async def looks(w: World) -> list[tuple[str, str]]:
    asked = "SELECT actor, detail FROM audit_record WHERE event = 'exam.exchanges-read'"
    return await w.store.read(lambda tx: [(row["actor"], row["detail"]) for row in tx.rows(asked)])


async def test_an_exchange_opens_masked_for_every_operator(tmp_path):
    async with at_exchanges(tmp_path, Role.OPERATOR) as (visitor, _, exam):
        about = f"/console/exams/{TENANT}/{exam.studies[0]}"
        page = await visitor.get(about)
        links = re.findall(rf'href="({re.escape(about)}/exchanges/[0-9]+)"', page)
        assert len(links) == 2
        for link in links:
            shown = await visitor.get(link)
            assert "‹masked›" in shown
            assert "/request" not in shown
            for value in (exam.patient.birth_name, exam.patient.matricule, exam.patient.ipp):
                assert value not in shown
        await visitor.get(f"{about}/exchanges/999", status=404)


async def test_t46_an_operator_downloads_nothing_in_clear(tmp_path):
    async with at_exchanges(tmp_path, Role.OPERATOR) as (visitor, w, exam):
        page = await visitor.get(f"/console/exams/{TENANT}/{exam.studies[0]}/exchanges/1/request", status=403)
        assert exam.patient.matricule not in page
        assert await looks(w) == []


async def test_an_identity_officer_downloads_byte_for_byte_and_is_on_record(tmp_path):
    async with at_exchanges(tmp_path, Role.OPERATOR, Role.IDENTITY_OFFICER) as (visitor, w, exam):
        path = f"{visitor.url}/console/exams/{TENANT}/{exam.studies[0]}/exchanges/1/request"
        async with visitor.http.get(path) as answer:
            data = await answer.read()
            assert answer.status == 200
            assert answer.content_type == "application/octet-stream"
            assert answer.headers["Content-Disposition"] == 'attachment; filename="exchange-1-request.bin"'
            assert answer.headers["Cache-Control"] == "no-store"
        assert exam.patient.matricule.encode() in data
        assert await looks(w) == [("identity-officer:jeanne.martin", "exchanges 1 ITI-41")]


async def test_what_a_browser_fetches_ahead_of_a_click_is_no_look(tmp_path):
    async with at_exchanges(tmp_path, Role.IDENTITY_OFFICER) as (visitor, w, exam):
        path = f"/console/exams/{TENANT}/{exam.studies[0]}/exchanges/1/answer"
        await visitor.get(path, status=403, **{"Sec-Purpose": "prefetch"})
        assert await looks(w) == []


async def test_the_person_of_a_lab_site_enrols_as_a_browser_does_and_signs_in():
    async with visiting(roles=()) as (visitor, desk):
        people, now = visitor.url.people, desk.clock.now()
        invitation = await people.register.add(
            "camille", person="Camille Démo", roles=["operator"], actor="host:test"
        )
        made = await enrol(
            f"{visitor.url}/console", invitation.code, name="camille", password="a1b2-c3d4-e5f6-0718", now=now
        )
        status, _, _ = await visitor.enter(name="camille", password=made.password, code=made.code(now))
        assert status == 303
