"""The second factor: time-based one-time passwords (RFC 6238, SHA-1, six digits, 30 s, as every authenticator knows).

A code is good in its own time step and the two beside it, and never twice: whoever asks keeps the step it was taken
for (RFC 6238 §5.2). Pure but for the random secret.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from datetime import datetime
from typing import Final
from urllib.parse import quote

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

STEP_S: Final = 30
SECRET_BYTES: Final = 20  # RFC 4226 §4, R6: 160 bits
ISSUER: Final = "Poterne"
_DIGITS = re.compile(r"[0-9]{6}", re.ASCII)


def code_at(secret: bytes, at: datetime) -> str:
    """The code of the time step that holds ``at``."""
    return _code(secret, step_of(at))


def step_of(at: datetime) -> int:
    """The time step that holds ``at``, counted from 1970 (RFC 6238 §4.2)."""
    return int(at.timestamp()) // STEP_S


def accepted_step(secret: bytes, stated: str, *, now: datetime, last: int) -> int | None:
    """The time step for which ``stated`` is taken; None when it is wrong, too old, or at or before ``last``."""
    digits = re.sub(r"[\s.-]", "", stated)
    if not _DIGITS.fullmatch(digits):
        return None
    current = step_of(now)
    fitting = [
        step for step in (current - 1, current, current + 1) if hmac.compare_digest(_code(secret, step), digits)
    ]
    return next((step for step in fitting if step > last), None)


def spelt(secret: bytes) -> str:
    """The secret as people type it: Base32 in groups of four."""
    text = b32encode(secret).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def link(secret: bytes, account: str) -> str:
    """The address an authenticator reads."""
    return f"otpauth://totp/{quote(f'{ISSUER}:{account}')}?secret={b32encode(secret).decode()}&issuer={ISSUER}"


def _code(secret: bytes, step: int) -> str:
    made = TOTP(secret, 6, SHA1(), STEP_S, enforce_key_length=False).generate(step * STEP_S)  # noqa: S303
    return made.decode()
