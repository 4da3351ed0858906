"""What a command and the running gateway say to each other: JSON facts, read strictly on the side that acts."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any

from security.errors import BadInput

Facts = Mapping[str, Any]
Say = Callable[[Any], None]
"""Takes what an operation says on its way, JSON."""
Operation = Callable[[Facts, Say], Awaitable[Any]]
"""What may be asked: JSON in, JSON out, and what is said meanwhile."""
OTHER_VERSION = "command and gateway differ in version: restart the service"


def fact(facts: Facts, name: str) -> str:
    """A text that must be there.

    Raises:
        BadInput: ``bad-fact``.
    """
    value = facts.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{name} is missing", code="bad-fact", hint=OTHER_VERSION)
    return value


def texts(facts: Facts, name: str) -> list[str]:
    """A list of texts, none of them empty.

    Raises:
        BadInput: ``bad-fact``.
    """
    value = facts.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise BadInput(f"{name} is no list of texts", code="bad-fact", hint=OTHER_VERSION)
    return value


def day(told: object) -> date:
    """A day as YYYY-MM-DD.

    Raises:
        BadInput: ``bad-fact``.
    """
    try:
        return date.fromisoformat(str(told))
    except ValueError:
        raise BadInput("a day is not YYYY-MM-DD", code="bad-fact", hint=OTHER_VERSION) from None


def operator(user: str = "") -> str:
    """Who acts by a command, as the audit record says it. ``user``: of this machine; "" for who runs this process."""
    return f"operator:{user or getpass.getuser()} (command line)"
