"""Floods of requests: a bucket of tokens for each principal and one for each address (T33).

Invariants:

* who is over its measure gets 429 with Retry-After before anything of the request is read or judged;
* what a principal is refused does not empty the bucket of its address: others behind it are served;
* changing tokens with every request helps nobody: the address has a measure too;
* what is remembered is bounded: the bucket that was used longest ago is forgotten, full or not.

Leaves to others: waits after wrong proofs (``security.accounts.backoff``), connections (each listener's caps).
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from security.gatekeeper import fingerprint_of

REMEMBERED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Requests a second for as long as one likes, and how many at once after a rest."""

    per_second: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """Buckets by name, of one measure. Seconds are monotonic."""

    def __init__(self, measure: Measure, *, remembered_max: int = REMEMBERED_MAX) -> None:
        self._measure = measure
        self._max = remembered_max
        self._by_name: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def wait(self, name: str, now: float) -> float:
        """Take one token; 0.0, or seconds until there will be one."""
        bucket = self._by_name.pop(name, None) or _Bucket(self._measure.burst, now)
        self._by_name[name] = bucket
        while len(self._by_name) > self._max:
            self._by_name.popitem(last=False)
        gained = max(now - bucket.at, 0.0) * self._measure.per_second
        bucket.tokens, bucket.at = min(bucket.tokens + gained, self._measure.burst), now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._measure.per_second
        bucket.tokens -= 1
        return 0.0


def throttled(
    principal: Measure, address: Measure, monotonic: Callable[[], float], over: Callable[[str], None] | None = None
) -> Middleware:
    """The middleware that holds every requester of one application to these measures. ``over``: told of the address
    of each request that was refused."""
    principals, addresses = Buckets(principal), Buckets(address)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        now, where = monotonic(), _address_of(request)
        wait = principals.wait(f"{where} {_principal_of(request)}", now) or addresses.wait(where, now)
        if not wait:
            return await handler(request)
        if over is not None:
            over(where)
        return too_many(wait)

    return middleware


def too_many(wait_s: float) -> web.Response:
    """429 as a problem document (RFC 9457), with Retry-After in whole seconds."""
    problem = {
        "type": "urn:poterne:problem:too-many-requests",
        "title": "Trop de requêtes / Too many requests",
        "status": 429,
        "code": "too-many-requests",
    }
    headers = {"Retry-After": str(math.ceil(wait_s))}
    return web.json_response(problem, status=429, content_type="application/problem+json", headers=headers)


def _principal_of(request: web.Request) -> str:
    """What a requester shows of itself, unverified: only ever a reason to make it wait."""
    shown = fingerprint_of(request), request.headers.get("Authorization", ""), request.headers.get("Cookie", "")
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def _address_of(request: web.Request) -> str:
    peername: Any = request.transport.get_extra_info("peername") if request.transport else None
    return str(peername[0]) if peername else ""
