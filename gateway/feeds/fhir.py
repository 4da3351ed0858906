"""Audit events to a FHIR repository (ITI-20, RESTful ATNA): one by POST AuditEvent, several as a batch Bundle.

Invariants: no redirect is followed, no proxy variable is read, an answer is capped; what could not be sent, what was
refused and what is not known are told apart.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from typing import Any

import aiohttp

from security.audit.event import batch
from security.errors import BadInput
from security.outbox.port import Answer
from security.outbox.states import Event
from security.parse.json import parse_json

FHIR_JSON = "application/fhir+json"
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


async def post(
    base: str, events: Sequence[dict[str, Any]], *, context: ssl.SSLContext | None, connect_s: float, total_s: float
) -> Answer:
    """Hand over a batch; what became of it, in the words of the outbox."""
    single = len(events) == 1
    url = base.rstrip("/") + ("/AuditEvent" if single else "")
    body = json.dumps(events[0] if single else batch(events), ensure_ascii=False, separators=(",", ":")).encode()
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context if context is not None else True, force_close=True),
                timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            ) as session,
            session.post(
                url,
                data=body,
                headers={"Content-Type": FHIR_JSON, "Accept": FHIR_JSON},
                allow_redirects=False,
            ) as answer,
        ):
            said = await answer.content.read(_ANSWER_BYTES_MAX) if not single else b""
            return _judged(answer.status, said, single=single, wish=answer.headers.get("Retry-After", ""))
    except aiohttp.ClientConnectorError as error:  # a TLS handshake that failed is one of these
        return Answer(event=Event.TRANSIENT, reason="feed-away", detail=type(error).__name__)
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        return Answer(event=Event.AMBIGUOUS, reason="feed-unclear", detail=type(error).__name__)


def _judged(status: int, said: bytes, *, single: bool, wish: str) -> Answer:
    if status in _LATER:
        after = float(wish) if wish.isascii() and wish.isdigit() else None
        return Answer(event=Event.TRANSIENT, reason="feed-busy", detail=f"HTTP {status}", retry_after_s=after)
    if not 200 <= status < 300:
        return Answer(event=Event.HELD, reason="feed-refused", detail=f"HTTP {status}")
    refused = 0 if single else _refused(said)
    if refused is None:
        return Answer(event=Event.AMBIGUOUS, reason="feed-unclear", detail="the answer is no batch-response")
    if refused:
        return Answer(event=Event.HELD, reason="feed-refused", detail=f"{refused} events of the batch")
    return Answer(event=Event.ACCEPTED)


def _refused(said: bytes) -> int | None:
    """How many entries of a batch-response are no success; None when it is none."""
    try:
        bundle = parse_json(said, what="answer of the audit repository")
        return sum(not str(one["response"]["status"]).startswith("2") for one in bundle["entry"])
    except (BadInput, KeyError, TypeError):
        return None
