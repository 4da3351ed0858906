"""Somebody who enrols on a lab site's console, as a person does with a browser: one-time code, password, key."""

from __future__ import annotations

import re
from base64 import b32decode
from dataclasses import dataclass
from datetime import datetime

import aiohttp

from security.accounts import totp
from security.errors import Unavailable

_HIDDEN = re.compile(r'name="csrf" value="([^"]+)"')
_SECRET = re.compile(r'id="secret">([A-Z2-7 ]+)<')


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPerson:
    """An enrolled person. ``secret``: of the second factor."""

    name: str
    password: str
    secret: bytes

    def code(self, at: datetime) -> str:
        """What an authenticator shows at that moment."""
        return totp.code_at(self.secret, at)


async def enrol(console: str, code: str, *, name: str, password: str, now: datetime) -> LabPerson:
    """Enrol on the console at that address with a one-time code; the code of the time step before ``now`` is used, so
    that the one of now is good for signing in.

    Raises:
        Unavailable: ``lab-enrolment`` the console did not answer as expected.
    """
    headers = {"Origin": console.rsplit("/console", 1)[0]}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers=headers) as http:
        async with http.get(f"{console}/enrol") as answer:
            csrf = _found(_HIDDEN, await answer.text())
        fields = {"csrf": csrf, "code": code}
        async with http.post(f"{console}/enrol", data=fields) as answer:
            secret = b32decode(_found(_SECRET, await answer.text()).replace(" ", ""))
        shown = totp.code_at(secret, datetime.fromtimestamp(now.timestamp() - totp.STEP_S, now.tzinfo))
        fields |= {"name": name, "password": password, "totp": shown}
        async with http.post(f"{console}/enrol/finish", data=fields, allow_redirects=False) as answer:
            if answer.status != 303:  # see other: it is done
                raise _unexpected()
    return LabPerson(name=name, password=password, secret=secret)


def _found(pattern: re.Pattern[str], page: str) -> str:
    match = pattern.search(page)
    if match is None:
        raise _unexpected()
    return match[1]


def _unexpected() -> Unavailable:
    return Unavailable("the console did not take the enrolment", code="lab-enrolment", hint="see the gateway's log")
