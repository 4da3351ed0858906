"""The keys an issuer publishes, fetched from its configured address and kept current.

Invariants:

* a key that was withdrawn counts ``REFRESH_S`` more at most; while the issuer is silent, what is held counts
  ``STALE_S`` and then nothing does;
* a name that is not held is looked for at once, yet no more often than every ``AGAIN_S``, whoever invents names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from security.clock import Clock
from security.errors import Refused, Unavailable
from security.tokens.header import Header
from security.tokens.keys import Keyring

log = structlog.get_logger()

REFRESH_S: Final = 300.0
STALE_S: Final = 3600.0
AGAIN_S: Final = 10.0


class PublishedKeys:
    """The keyring of one issuer."""

    def __init__(self, name: str, fetch: Callable[[], Awaitable[Keyring]], clock: Clock) -> None:
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._held: Keyring | None = None
        self._fetched_at = 0.0
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def ring_for(self, header: Header) -> Keyring:
        """The keyring to judge a token of this header by.

        Raises:
            Unavailable: ``provider-…`` none is held that may still count.
        """
        if not self._serves(header):
            async with self._fetching:
                if not self._serves(header):
                    await self._refresh()
        if self._held is None or self._age_s() >= STALE_S:
            raise Unavailable(
                f"the keys of identity provider {self._name} are not known",
                code="provider-keys",
                hint="see whether jwks_url is right and answers",
            )
        return self._held

    def _age_s(self) -> float:
        return self._clock.monotonic() - self._fetched_at

    def _serves(self, header: Header) -> bool:
        """Whether what is held answers by itself."""
        if self._held is None or self._age_s() >= REFRESH_S:
            return False
        try:
            self._held.key(header)
        except Refused:
            return False
        return True

    async def _refresh(self) -> None:
        began = self._clock.monotonic()
        if began - self._tried_at < AGAIN_S:
            return
        self._tried_at = began
        try:
            self._held = await self._fetch()
        except Unavailable as fault:
            log.warning("provider-keys-not-fetched", provider=self._name, fault=fault)
            return
        self._fetched_at = began
