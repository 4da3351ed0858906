"""What an account is, and the rules on its name and roles. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from security.errors import BadInput
from security.policy import PEOPLE, Role

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,38}[a-z0-9])", re.ASCII)
_PERSON_MAX = 80


class Status(StrEnum):
    """Where an account stands."""

    INVITED = "invited"  # a code was given, nobody has enrolled with it
    ACTIVE = "active"
    LOCKED = "locked"  # by a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account. ``tenant``: the one legal entity it belongs to, "" for the installation; ``version``: rises with
    every change that ends its sessions; ``certificates``: fingerprints that stand for it now."""

    name: str
    person: str
    tenant: str
    roles: frozenset[Role]
    profession: str
    status: Status
    version: int
    has_password: bool
    certificates: tuple[str, ...]
    federated: str
    created_at: datetime
    changed_at: datetime


def folded(text: str) -> str:
    """A login name as it is compared: blanks at its ends and case do not matter; "" for what no name can be."""
    name = unicodedata.normalize("NFKC", text).strip().lower()
    return name if name.isprintable() else ""


def login_name(text: str) -> str:
    """The name of an account.

    Raises:
        BadInput: ``account-name``.
    """
    name = folded(text)
    if not _NAME.fullmatch(name):
        raise BadInput(
            "this is no name of an account",
            code="account-name",
            hint="2 to 40 lower-case letters, digits, '.', '-', '_'; a letter or digit first and last",
        )
    return name


def person_name(text: str) -> str:
    """How people call them, on one line.

    Raises:
        BadInput: ``account-person``.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not 2 <= len(name) <= _PERSON_MAX or not name.isprintable():
        raise BadInput("this is no name of a person", code="account-person", hint="2 to 80 printable characters")
    return name


def roles_of(stated: Iterable[str]) -> frozenset[Role]:
    """Roles that a person may have, at least one.

    Raises:
        BadInput: ``account-roles``.
    """
    known = {role.value: role for role in (*PEOPLE, Role.SERVICE)}
    wanted = [text.strip() for text in stated]
    unknown = [text for text in wanted if text not in known]
    if unknown or not wanted:
        raise BadInput(
            f"no account has the role {', '.join(unknown)}" if unknown else "an account needs a role",
            code="account-roles",
            hint="known: " + ", ".join(sorted(known)),
        )
    roles = frozenset(known[text] for text in wanted)
    if Role.SERVICE in roles and len(roles) > 1:
        raise BadInput(
            "a service account has no other role", code="account-roles", hint="make an account for each of the two"
        )
    return roles
