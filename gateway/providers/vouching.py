"""What the issuer says of a token now: asked over the back channel, believed for seconds (T44).

Invariants:

* the life of an answer counts from the question; a token is held by its SHA-256 alone;
* one question at a time about one token, whoever waits for it; too many at once is ``Unavailable``;
* an outage is never remembered as an answer, and a token that was given up is asked about again, also when a
  question about it was on its way.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from security.clock import Clock
from security.errors import BadInput, Unavailable
from security.tokens.introspection import Introspected, read_answer

_HELD_MAX: Final = 4096
_ASKED_MAX: Final = 64


class Vouching:
    """The answers of one issuer. ``yes_s``: seconds a yes is kept, 60 at most."""

    def __init__(self, ask: Callable[[str], Awaitable[bytes]], clock: Clock, *, yes_s: float) -> None:
        self._ask = ask
        self._clock = clock
        self._yes_s = yes_s
        self._held: OrderedDict[bytes, tuple[Introspected, float]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[Introspected]] = {}

    async def of(self, token: str) -> Introspected:
        """What the issuer says of the token.

        Raises:
            Unavailable: ``provider-…``.
        """
        key = _digest(token)
        said, until = self._held.get(key, (None, 0.0))
        if said is not None and self._clock.monotonic() < until:
            return said
        self._held.pop(key, None)
        task = self._asked.get(key)
        if task is None:
            if len(self._asked) >= _ASKED_MAX:
                raise Unavailable(
                    "too many tokens are being asked about", code="provider-busy", hint="try again in a few seconds"
                )
            task = self._asked[key] = asyncio.ensure_future(self._question(key, token))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def forget(self, token: str) -> None:
        """A session ended: ask again before the token counts once more."""
        key = _digest(token)
        self._held.pop(key, None)
        self._asked.pop(key, None)

    async def _question(self, key: bytes, token: str) -> Introspected:
        me, began = asyncio.current_task(), self._clock.monotonic()
        try:
            said = read_answer(await self._ask(token), now=self._clock.now(), yes_s=self._yes_s)
        except BadInput as fault:
            raise Unavailable(
                f"the identity provider's answer cannot be used ({fault.code})",
                code="provider-answer",
                hint="ask who runs it; until it answers, nobody is let in through it",
            ) from fault
        if said.keep_s > 0 and self._asked.get(key) is me:
            while len(self._held) >= _HELD_MAX:
                self._held.popitem(last=False)
            self._held[key] = said, began + said.keep_s
        return said

    def _done(self, key: bytes, done: asyncio.Task[Introspected]) -> None:
        if self._asked.get(key) is done:
            del self._asked[key]
        if not done.cancelled():
            done.exception()  # whoever waited was told; when nobody does any more, it is no warning of the loop


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
