"""The guard of a zone of pages on a real socket: a table of routes and roles alone says who may pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from gateway.web.guard import guard
from gateway.web.session import COOKIE, LOOPBACK_HOSTS, Session, Sessions
from gateway.web.shell import Shell
from security.accounts.account import Account
from security.clock import SystemClock
from security.policy import Action, Role, Zone
from tests.support.people import account

ROUTES = {
    ("GET", "/open"): Action.PAGE_OPEN,
    ("GET", "/exams"): Action.EXAM_READ,
    ("GET", "/settings"): Action.ACCOUNT_READ,
    ("GET", "/{tenant}/exams"): Action.EXAM_READ,
}


async def reached(_request: web.Request) -> web.Response:
    return web.Response(text="reached")


@asynccontextmanager
async def zone(*roles: str) -> AsyncIterator[tuple[str, aiohttp.ClientSession, Session]]:
    """The zone's address, and who has a session with these roles there."""
    sessions = Sessions(clock=SystemClock(), idle_s=900)
    person = replace(account(), roles=frozenset(map(Role, roles)))

    async def standing(name: str) -> Account | None:
        return person if name == person.name else None

    async def nobody(_name: str, _tenant: str) -> None:
        return None

    shell = Shell(prefix="", packages=["gateway.web.console"], facts={"idle_s": 900})
    app = web.Application(
        middlewares=[
            guard(
                shell,
                sessions,
                hosts=LOOPBACK_HOSTS,
                routes=ROUTES,
                zone=Zone.OPS,
                standing=standing,
                emergency=nobody,
            )
        ]
    )
    for _, path in ROUTES:
        app.router.add_get(path, reached)
        app.router.add_post(path, reached)  # the table has no line for it
    token = sessions.open(person)
    session = sessions.find(token, clicked=False)
    assert session is not None
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(headers={"Cookie": f"{COOKIE}-{port}={token}"}) as http:
            yield f"http://127.0.0.1:{port}", http, session
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("roles", "path", "status"),
    [
        (["operator"], "exams", 200),
        (["operator"], "settings", 403),
        (["security-officer"], "settings", 200),
        (["security-officer"], "exams", 403),
        (["security-officer", "operator"], "exams", 200),
        ([], "exams", 403),
        ([], "open", 200),
    ],
)
async def test_t46_a_session_reaches_what_its_roles_allow_and_nothing_else(roles, path, status):
    async with zone(*roles) as (url, http, _), http.get(f"{url}/{path}") as answer:
        assert answer.status == status
        assert (await answer.text() == "reached") == (status == 200)


@pytest.mark.parametrize("path", ["open", "exams", "settings"])
async def test_t46_a_route_without_a_line_in_the_table_answers_nobody(path):
    async with zone("operator", "security-officer") as (url, http, session):
        form = {"csrf": session.csrf}
        async with http.post(f"{url}/{path}", data=form, headers={"Origin": url}) as answer:
            assert answer.status == 403
            assert await answer.text() != "reached"
