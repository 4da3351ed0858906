"""Passwords: what is good enough, and argon2id (RFC 9106) in PHC form.

Invariants:

* a check takes the same time whether the account exists or not: without a hash a decoy is checked;
* at most two are computed at once: a flood of tries costs memory and time that others need.

No rule asks for classes of characters or for changes by date (NIST SP 800-63B §5.1.1.2): length, and not the obvious.
"""

from __future__ import annotations

import asyncio
import os
import unicodedata
from base64 import b64encode
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from security.errors import BadInput

LENGTH_MIN: Final = 12
LENGTH_MAX: Final = 256
_MEMORY_KIB = 64 * 1024  # RFC 9106 §4, second recommended option: 64 MiB, 3 passes
_PASSES = 3
_AT_ONCE = 2
_OBVIOUS = frozenset(
    {"password", "motdepasse", "poterne", "azerty", "qwerty", "123456", "administrateur", "changeme"}
)


class Passwords:
    """Makes and checks hashes off the event loop."""

    def __init__(self, *, memory_kib: int = _MEMORY_KIB) -> None:
        self._memory_kib = memory_kib
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._decoy = f"$argon2id$v=19$m={memory_kib},t={_PASSES},p=1${_encoded(bytes(16))}${_encoded(bytes(32))}"

    async def hashed(self, password: str) -> bytes:
        """The hash to keep."""
        async with self._turn:
            return (await asyncio.to_thread(self._hash, password)).encode()

    async def matches(self, password: str, kept: bytes | None) -> bool:
        """Whether ``password`` is the one that was hashed; never without a hash, in the same time."""
        async with self._turn:
            found = await asyncio.to_thread(_verify, password, kept.decode() if kept else self._decoy)
        return found and kept is not None

    def _hash(self, password: str) -> str:
        kdf = Argon2id(salt=os.urandom(16), length=32, iterations=_PASSES, lanes=1, memory_cost=self._memory_kib)
        return kdf.derive_phc_encoded(_bytes(password))


def judge(password: str, *, name: str, person: str) -> None:
    """Return when the password is good enough for this account.

    Raises:
        BadInput: ``password-short``, ``password-long``, ``password-obvious``.
    """
    if len(password) < LENGTH_MIN:
        raise BadInput("the password is too short", code="password-short", hint=f"at least {LENGTH_MIN} characters")
    if len(password) > LENGTH_MAX:
        raise BadInput("the password is too long", code="password-long", hint=f"at most {LENGTH_MAX} characters")
    plain = "".join(c for c in unicodedata.normalize("NFKD", password).casefold() if c.isalnum())
    parts = {one for one in (name.casefold(), *person.casefold().split()) if len(one) >= 4}
    left = plain
    for known in sorted(_OBVIOUS | parts, key=len, reverse=True):
        left = left.replace("".join(c for c in unicodedata.normalize("NFKD", known) if c.isalnum()), "")
    if len(left) < LENGTH_MIN // 2 or len(set(plain)) < 5:
        raise BadInput(
            "the password is easy to guess",
            code="password-obvious",
            hint="several words that have nothing to do with you or with this software",
        )


def _encoded(data: bytes) -> str:
    """Base64 without padding, as PHC strings have it."""
    return b64encode(data).decode().rstrip("=")


def _verify(password: str, kept: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(_bytes(password), kept)
    except InvalidKey:
        return False
    return True


def _bytes(password: str) -> bytes:
    """NFKC, as RFC 8265 §4.2 prepares it: the same key strokes on another keyboard are the same password."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")[: 4 * LENGTH_MAX]
