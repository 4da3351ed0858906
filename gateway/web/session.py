"""Who is at the page: sessions, the door that opens them, and the checks on every request (T32).

Invariants:

* a session's id is random, new at each login, and known to this process by its SHA-256 alone;
* a session ends after ``idle_s`` without a click and ``absolute_s`` after its login, whatever happens; what a page
  refreshes by itself is not a click;
* a request that changes something comes from one of our own pages: its origin is ours and its form carries the
  session's token;
* a request names one of our own hosts (DNS rebinding);
* tries at the key are counted by address, those of one machine together; a browser that was let in before is counted
  by itself, so that nobody's tries lock out who knows the key.

Sessions live in memory: a restart closes all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from security.clock import Clock
from security.policy import Role, Subject

COOKIE: Final = "poterne"
ABSOLUTE_S: Final = 12 * 3600.0
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_SESSIONS_MAX = 64
_ADDRESSES_MAX = 4096
_NAME_MAX = 80
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One person at work. ``name``: as they stated it; ``csrf``: the token of every form of this session."""

    name: str
    roles: frozenset[Role]
    csrf: str

    @property
    def subject(self) -> Subject:
        """As the policy judges it."""
        return Subject(name=self.name, roles=self.roles)


@dataclass(slots=True, kw_only=True)
class _Open:
    session: Session
    opened_at: float
    clicked_at: float


class Sessions:
    """The open sessions of one zone."""

    def __init__(self, *, clock: Clock, idle_s: float, absolute_s: float = ABSOLUTE_S) -> None:
        self.idle_s = idle_s
        self._clock = clock
        self._absolute_s = absolute_s
        self._open: OrderedDict[bytes, _Open] = OrderedDict()

    def open(self, *, name: str, roles: frozenset[Role]) -> str:
        """A new session; its id, for the cookie. The oldest session closes when there are too many."""
        token = secrets.token_urlsafe(32)
        now = self._clock.monotonic()
        while len(self._open) >= _SESSIONS_MAX:
            self._open.popitem(last=False)
        session = Session(name=name, roles=roles, csrf=secrets.token_urlsafe(32))
        self._open[_digest(token)] = _Open(session=session, opened_at=now, clicked_at=now)
        return token

    def find(self, token: str, *, clicked: bool) -> Session | None:
        """The session of a cookie; None when there is none, or no longer. ``clicked``: a person did it."""
        key = _digest(token)
        held = self._open.get(key)
        if held is None:
            return None
        now = self._clock.monotonic()
        if now - held.clicked_at >= self.idle_s or now - held.opened_at >= self._absolute_s:
            del self._open[key]
            return None
        if clicked:
            held.clicked_at = now
        return held.session

    def close(self, token: str) -> None:
        """End a session, known or not."""
        self._open.pop(_digest(token), None)


class Throttle:
    """So many tries in so many seconds, by who tries (T33)."""

    def __init__(self, *, clock: Clock, tries: int = 5, per_s: float = 60.0) -> None:
        self._clock = clock
        self._tries = tries
        self._per_s = per_s
        self._last: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, who: str) -> float:
        """Count one try. Seconds to wait when it is one too many, else 0: only then may it be judged."""
        now = self._clock.monotonic()
        recent = [at for at in self._last.pop(who, []) if now - at < self._per_s]
        if len(recent) >= self._tries:
            self._last[who] = recent
            return recent[0] + self._per_s - now
        while len(self._last) >= _ADDRESSES_MAX:
            self._last.popitem(last=False)
        self._last[who] = [*recent, now]
        return 0.0

    def forgive(self, who: str) -> None:
        """The last try was a good one: it counts no more."""
        self._last.get(who, [])[-1:] = []


class KnownBrowsers:
    """Browsers that were let in since the start, known by a cookie nobody else can make."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def make(self) -> str:
        """The cookie of a browser that was just let in."""
        name = secrets.token_hex(16)
        return f"{name}.{self._sign(name)}"

    def name(self, cookie: str) -> str:
        """The browser of a cookie, "" when we did not make it."""
        name, _, signed = cookie.partition(".")
        return name if carries(self._sign(name), signed) else ""

    def _sign(self, name: str) -> str:
        return hmac.new(self._secret, name.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def neighbourhood(address: str) -> str:
    """What tries are counted by: the address; all addresses of this machine, of which a process has 127.0.0.0/8 to
    choose from, are one."""
    try:
        return "loopback" if ipaddress.ip_address(address).is_loopback else address
    except ValueError:
        return address


def is_key(stated: str, key: bytes) -> bool:
    """Whether ``stated`` is the key, in a time that says nothing about it."""
    return hmac.compare_digest(_digest(stated), hashlib.sha256(key).digest())


def stated_name(text: str) -> str:
    """The name a person gives for the trail: one line of 2 to 80 printable characters; "" for anything else."""
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    return name if 2 <= len(name) <= _NAME_MAX and name.isprintable() else ""


def cookie_of(request: web.Request) -> str:
    """The name of the session's cookie. A browser gives a cookie to every port of its host: consoles that are reached
    through tunnels from one desk would close each other's sessions, were it one name."""
    port = request.host.rpartition(":")[2]
    return f"{COOKIE}-{port}" if port.isdecimal() else COOKIE


def names_our_host(request: web.Request, hosts: Collection[str]) -> bool:
    """Whether ``Host`` is one of ours, stated once, and the address names no other. Its port is not judged: a tunnel
    has its own."""
    name = _HOST.fullmatch(request.host)
    if name is None or request.headers.getall("Host", []) != [request.host]:
        return False
    return (name[1] or name[2]).lower() in hosts


def comes_from_us(request: web.Request) -> bool:
    """Whether one of our own pages made the request, as the browser tells it; silence is no."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        return origin == f"{request.scheme}://{request.headers.get('Host', '')}"
    return site is not None


def carries(token: str, stated: str) -> bool:
    """Whether a form carries the token it was given."""
    return bool(token) and hmac.compare_digest(token.encode(), stated.encode("utf-8", "surrogatepass"))


def way_back(text: str, prefix: str) -> str:
    """Where to go after login: a page of ours, else the first one."""
    local = rf"{re.escape(prefix)}/(?!login|logout)(?!\.)(?:[A-Za-z0-9._-]|/(?!\.))*(\?[A-Za-z0-9._=&%:+-]*)?"
    return text if re.fullmatch(local, text, re.ASCII) else f"{prefix}/"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
