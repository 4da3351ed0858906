"""Who is at the page: sessions, and the checks on every request (T32). How an account proves itself is the matter of
``security.accounts``.

Invariants:

* a session's id is random, new at each login and each proof, and known to this process by its SHA-256 alone;
* a session ends after ``idle_s`` without a click and ``absolute_s`` after its login, whatever happens; what a page
  refreshes by itself is not a click;
* a session is of one zone, and of one version of its account: the guard ends it when that has changed;
* a request that changes something comes from one of our own pages: its origin is ours and its form carries the
  session's token;
* a request names one of our own hosts (DNS rebinding).

Sessions live in memory: a restart closes all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from security.accounts.account import Account
from security.clock import Clock
from security.policy import Action, Allow, Purpose, Resource, Role, Subject, Zone, decide

COOKIE: Final = "poterne"
ABSOLUTE_S: Final = 12 * 3600.0
FRESH_S: Final = 300.0
"""How long a proof is good for what is sensitive."""
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_SESSIONS_MAX = 256
_NO_WAY_BACK = "login|logout|enrol|prove"
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One person at work. ``name``: of the account; ``person``: for people; ``version``: of the account when it was
    opened; ``csrf``: the token of every form of this session; ``provider``: who vouched for the person, "" for
    nobody; ``is_fresh``: a proof is minutes old."""

    name: str
    person: str
    roles: frozenset[Role]
    tenant: str
    version: int
    csrf: str
    provider: str = ""
    is_fresh: bool = False

    @property
    def subject(self) -> Subject:
        """As the policy judges it."""
        return Subject(name=self.name, roles=self.roles, tenant=self.tenant, is_fresh=self.is_fresh)

    def may(self, action: str) -> bool:
        """Whether the policy lets this person do it on the console at all: what a page offers."""
        subject = replace(self.subject, is_fresh=True)
        about = Resource(tenant=self.tenant)
        return isinstance(decide(subject, Purpose.OPERATION, Action(action), about, Zone.OPS), Allow)

    @property
    def home(self) -> str:
        """The first page of this person, below the zone's prefix."""
        pages = (("exam.read", ""), ("account.read", "accounts"), ("consent.read", "two-persons"))
        return next((page for action, page in pages if self.may(action)), "password")


@dataclass(slots=True, kw_only=True)
class _Open:
    session: Session
    opened_at: float
    clicked_at: float
    proved_at: float


class Sessions:
    """The open sessions of one zone: those of another know nothing of them."""

    def __init__(self, *, clock: Clock, idle_s: float, absolute_s: float = ABSOLUTE_S) -> None:
        self.idle_s = idle_s
        self._clock = clock
        self._absolute_s = absolute_s
        self._open: OrderedDict[bytes, _Open] = OrderedDict()

    def open(self, account: Account, *, provider: str = "") -> str:
        """A new session; its id, for the cookie. The oldest session closes when there are too many."""
        now = self._clock.monotonic()
        while len(self._open) >= _SESSIONS_MAX:
            self._open.popitem(last=False)
        session = Session(
            name=account.name,
            person=account.person,
            roles=account.roles,
            tenant=account.tenant,
            version=account.version,
            csrf=secrets.token_urlsafe(32),
            provider=provider,
        )
        return self._put(_Open(session=session, opened_at=now, clicked_at=now, proved_at=now))

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
        return replace(held.session, is_fresh=now - held.proved_at < FRESH_S)

    def prove(self, token: str) -> str:
        """The person has proved to be there: the session goes on under a new id, with a new token."""
        held = self._open.pop(_digest(token))
        held.proved_at = held.clicked_at = self._clock.monotonic()
        held.session = replace(held.session, csrf=secrets.token_urlsafe(32))
        return self._put(held)

    def close(self, token: str) -> None:
        """End a session, known or not."""
        self._open.pop(_digest(token), None)

    def _put(self, held: _Open) -> str:
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = held
        return token


def neighbourhood(address: str) -> str:
    """What tries are counted by: the address; all addresses of this machine, of which a process has 127.0.0.0/8 to
    choose from, are one."""
    try:
        return "loopback" if ipaddress.ip_address(address).is_loopback else address
    except ValueError:
        return address


def cookie_of(request: web.Request, what: str = COOKIE) -> str:
    """The name of a cookie, the session's unless said otherwise: ``__Host-`` wherever the page is not plain HTTP of
    this machine (T32). A browser gives a cookie to every port of its host: consoles that are reached through tunnels
    from one desk would close each other's sessions, were it one name."""
    port = request.host.rpartition(":")[2]
    name = f"{what}-{port}" if port.isdecimal() else what
    return f"__Host-{name}" if request.secure else name


def cookie_path(request: web.Request, prefix: str) -> str:
    """The path of that cookie: a ``__Host-`` one is of the whole host (RFC 6265bis §4.1.3.2)."""
    return "/" if request.secure else prefix


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
    local = rf"{re.escape(prefix)}/(?!{_NO_WAY_BACK})(?!\.)(?:[A-Za-z0-9._-]|/(?!\.))*(\?[A-Za-z0-9._=&%:+-]*)?"
    return text if re.fullmatch(local, text, re.ASCII) else f"{prefix}/"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
