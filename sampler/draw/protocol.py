"""What was agreed before anybody saw the frame: strata, sizes, modes, and who signs replacements (§5.2).

Invariants:

* the whole document is hashed, also what is not read here (objective, grid, rules of inclusion, words for people);
* a stratum stands once; ``cap`` states its ``max_per_practitioner``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from sampler.draw import faults
from sampler.draw.canonical import digest
from sampler.draw.units import TOKEN

SPEC = "drim-draw/1"
HASH_HEX = re.compile(r"[0-9a-f]{64}")
Mode = Literal["srs", "cap", "two_stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """How many cases of one stratum, drawn how. ``cap``: cases of one practitioner; 0 says that there is no limit."""

    id: str
    n: int
    mode: Mode = "srs"
    cap: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The hashed document, and what the draw takes from it. ``signers``: role → Ed25519 public key."""

    document: Mapping[str, Any]
    hash: bytes
    campaign: str
    strata: tuple[Stratum, ...]
    signers: Mapping[str, bytes]


def protocol_of(document: Any) -> Protocol:
    """The protocol that a JSON document states.

    Raises:
        BadInput: ``E_CANONICAL`` the document has no restricted form; ``E_PROTOCOL`` a member is missing or wrong.
    """
    hashed = digest("protocol", document, what="protocol")
    if not isinstance(document, dict) or document.get("spec") != SPEC:
        raise _bad(f"spec is not {SPEC}")
    campaign, strata = document.get("campaign"), document.get("strata")
    if not isinstance(campaign, str) or not TOKEN.fullmatch(campaign):
        raise _bad("campaign is not a token")
    if not isinstance(strata, list) or not strata:
        raise _bad("strata is no list of at least one stratum")
    read = tuple(_stratum(one, f"strata[{number}]") for number, one in enumerate(strata))
    if len({one.id for one in read}) != len(read):
        raise _bad("a stratum stands twice")
    return Protocol(
        document=document, hash=hashed, campaign=campaign, strata=read, signers=_signers(document.get("signers", {}))
    )


def _stratum(one: Any, where: str) -> Stratum:
    if not isinstance(one, dict) or not isinstance(one.get("id"), str) or not TOKEN.fullmatch(one["id"]):
        raise _bad(f"{where}: id is not a token")
    mode = one.get("mode")
    if mode not in get_args(Mode):
        raise _bad(f"{where}: mode is none of {', '.join(get_args(Mode))}")
    if not _is_count(one.get("n")):
        raise _bad(f"{where}: n is no number of cases")
    if mode == "cap" and not (_is_count(one.get("max_per_practitioner")) and one["max_per_practitioner"]):
        raise _bad(f"{where}: max_per_practitioner is no number above 0")
    cap = one["max_per_practitioner"] if mode == "cap" else int(mode == "two_stage")
    return Stratum(id=one["id"], n=one["n"], mode=cast("Mode", mode), cap=cap)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _signers(stated: Any) -> dict[str, bytes]:
    keys: dict[str, Any] = stated if isinstance(stated, dict) else {"": None}
    for key in keys.values():
        if not isinstance(key, str) or not HASH_HEX.fullmatch(key):
            raise _bad("signers does not give each role a public key of 64 hexadecimal digits")
    if keys and (len(keys) < 2 or len(set(keys.values())) != len(keys)):
        raise _bad("signers holds fewer than two roles, or one key twice")
    return {role: bytes.fromhex(key) for role, key in keys.items()}


def _bad(what: str) -> Exception:
    return faults.refused(faults.PROTOCOL, f"protocol: {what}")
