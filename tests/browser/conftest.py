"""Debian's Chromium, one for all tests of this folder; nothing it does may leave the host."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Route, async_playwright

from gateway.web.desk import Desk
from security.clock import Clock
from tests.integration.outbox_lab import Hands
from tests.support.people import PASSWORD, rewound
from tests.support.shelf import PERSON, Served, ShelfDesk, console, stocked

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A browser without a window, one for the whole run. Without Chromium the test fails where CI says so, else it is skipped."""
    if not CHROMIUM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium")
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=FLAGS)
        try:
            yield started
        finally:
            await started.close()


@dataclass
class Person:
    """Somebody at a browser. ``strayed``: requests to other hosts; ``said``: what the browser complained of."""

    page: Page
    url: Served
    desk: Any
    strayed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def enter(self) -> None:
        await self.open("/console/login")
        await rewound(self.url.people, PERSON)
        await self.page.fill("#name", PERSON)
        await self.page.fill("#password", PASSWORD)
        await self.page.fill("#code", self.url.people.code(self.url.someone))
        await self.page.press("#code", "Enter")
        await self.page.wait_for_url(lambda url: "/login" not in url)


@asynccontextmanager
async def person(
    browser: Browser,
    desk: Desk | None = None,
    *,
    idle_s: float = 900.0,
    enter: bool = True,
    clock: Clock | None = None,
    roles: tuple[str, ...] = ("operator", "identity-officer"),
    **context: object,
) -> AsyncIterator[Person]:
    """A person at a console of their own; at the end nothing may have strayed and nothing may have been complained of.

    A status of 400 or more is a complaint of the browser that the test has asked for. ``clock``: that of a desk which
    is not a shelf.
    """
    desk = desk or stocked(Hands())
    clock = clock or (desk.clock if isinstance(desk, ShelfDesk) else Hands())
    async with console(desk, idle_s=idle_s, clock=clock, roles=roles) as url:
        made = await browser.new_context(**{"locale": "fr-FR", **context})
        made.set_default_timeout(10_000)
        who = Person(page=await made.new_page(), url=url, desk=desk)

        async def judge(route: Route) -> None:
            if urlsplit(route.request.url).hostname == "127.0.0.1":
                await route.continue_()
            else:
                who.strayed.append(route.request.url)
                await route.abort()

        def hear(message: ConsoleMessage) -> None:
            if message.type == "error" and "server responded with a status" not in message.text:
                who.said.append(message.text)

        await made.route("**/*", judge)
        who.page.on("console", hear)
        who.page.on("pageerror", lambda error: who.said.append(str(error)))
        try:
            if enter:
                await who.enter()
            yield who
        finally:
            await made.close()
        assert who.strayed == []
        assert who.said == []
