"""One-time codes: 100 random bits that a person types once. Only the SHA-256 of a code is kept."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Final

GOOD_FOR: Final = timedelta(hours=24)
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without I, O, 0, 1: 32 of them, five bits each
_GROUPS, _GROUP = 5, 4


def new_code() -> str:
    """A code as it is printed, once."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def digest(code: str) -> bytes:
    """What is kept of a code, and what a stated one is looked up by; blanks, hyphens and case do not matter."""
    plain = "".join(c for c in code.upper() if c.isalnum())
    return hashlib.sha256(b"poterne-code\x00" + plain.encode("utf-8", "surrogatepass")).digest()
