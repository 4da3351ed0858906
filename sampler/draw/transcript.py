"""The signed account of a draw, and the chain in which voided draws stay (§5.3, §5.6).

Invariants:

* two processes with the same frame, protocol, revelations, times and key write the same bytes;
* a voided draw has a transcript too: what was committed, what was revealed, who stopped it and why; nothing drawn;
* ``prev`` is the SHA-256 of the canonical body of the draw before, 64 zeros in the first.

Beside the signed body stand proofs of inclusion, one for each unit that was ever drawn: they need no signature, they
are checked against the root that the body states.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sampler.draw import faults
from sampler.draw.canonical import canonical, labelled
from sampler.draw.drawing import Drawing, draw
from sampler.draw.protocol import HASH_HEX, SPEC, Protocol
from sampler.draw.seed import ROLES, Beacon, beacon_of, check_commitment, commitment, contributions_of
from sampler.draw.selection import Replacement
from sampler.draw.units import Frame, line, sides
from security.parse.json import member

FIRST = "0" * 64
VOID_REASONS = ("NO_REVEAL", "COMMIT_MISMATCH", "BEACON_MISSED", "FRAME_ERROR")
"""Why a draw is voided; the first two are a party's doing."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SIGNATURE_HEX = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When the last party committed and when the last one revealed, UTC, RFC 3339 to the second."""

    committed_at: str
    revealed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed:
    """What the parties gave. ``voided``: who stopped the draw and why, or None for a draw that took place."""

    draw_no: int
    commitments: Mapping[str, bytes]
    contributions: Mapping[str, bytes]
    beacon: Beacon | None
    replacements: Sequence[Replacement]
    voided: Mapping[str, str] | None


def revealed_of(document: Any) -> Revealed:
    """What SEEDS.json states. Commitments that it does not state are computed.

    Raises:
        BadInput: ``E_CONTRIBUTION``, ``E_COMMIT_MISMATCH``, ``E_BEACON``, ``E_REPLACEMENT``, ``E_SIGNATURE``,
            ``E_VOID``, or ``json-shape`` a member is missing or of another type.
    """
    draw_no = member(document, "draw_no", int, what="seeds")
    if not 1 <= draw_no < 2**32:
        raise faults.refused(faults.CHAIN, "seeds: draw_no is no number from 1")
    voided = _voided(document.get("voided"))
    contributions = contributions_of(document.get("contributions"), is_whole=voided is None)
    committed = {role: commitment(role, value) for role, value in contributions.items()}
    if voided or document.get("commitments") is not None:
        committed = contributions_of(document.get("commitments"), what="commitments")
    is_mismatch = voided is not None and voided["reason"] == "COMMIT_MISMATCH"
    for role, value in contributions.items():
        if role not in committed:
            raise faults.refused(faults.COMMIT_MISMATCH, f"{role}: revealed without a commitment")
        if not (voided and is_mismatch and role == voided["by"]):
            check_commitment(role, committed[role], value)
    if voided is None and committed.keys() != contributions.keys():
        raise faults.refused(faults.CONTRIBUTION, "a role that committed has not revealed: void the draw")
    given = document.get("replacements")
    given = [] if given is None else given
    if not isinstance(given, list) or (voided and given):
        raise faults.refused(faults.REPLACEMENT, "seeds: replacements is no list, or the draw is voided")
    return Revealed(
        draw_no=draw_no,
        commitments=committed,
        contributions=contributions,
        beacon=beacon_of(document.get("beacon")),
        replacements=[replacement_of(one, f"replacement {number}") for number, one in enumerate(given, start=1)],
        voided=voided,
    )


def replacement_of(stated: Any, where: str) -> Replacement:
    """The replacement that a JSON object states. Raises BadInput ``E_REPLACEMENT`` or ``E_SIGNATURE``."""
    named = [stated.get(one) for one in ("stratum", "out", "reason")] if isinstance(stated, dict) else [None]
    if not all(isinstance(one, str) for one in named):
        raise faults.refused(faults.REPLACEMENT, f"{where}: stratum, out and reason are not three strings")
    follows, signatures = stated.get("in"), stated.get("signatures", {})
    if follows is not None and not isinstance(follows, str):
        raise faults.refused(faults.REPLACEMENT, f"{where}: in is no string")
    if not isinstance(signatures, dict) or not all(
        isinstance(one, str) and SIGNATURE_HEX.fullmatch(one) for one in signatures.values()
    ):
        raise faults.refused(faults.SIGNATURE, f"{where}: signatures are not 128 hexadecimal digits each")
    return Replacement(
        stratum=stated["stratum"],
        out=stated["out"],
        reason=stated["reason"],
        follows=follows,
        signatures={role: bytes.fromhex(one) for role, one in signatures.items()},
    )


def times_of(document: Any) -> Times:
    """What TIMES.json states. Raises BadInput ``E_TIMES``."""
    stated = document if isinstance(document, dict) else {}
    found = Times(committed_at=str(stated.get("committed_at")), revealed_at=str(stated.get("revealed_at")))
    if moment(found.committed_at) > moment(found.revealed_at):
        raise faults.refused(faults.TIMES, "times: revealed before committed")
    return found


def moment(text: str) -> datetime:
    """The moment that RFC 3339 text states, in UTC and to the second. Raises BadInput ``E_TIMES``."""
    try:
        return datetime.fromisoformat(text if _MOMENT.fullmatch(text) else "")
    except ValueError:
        raise faults.refused(faults.TIMES, "times: a moment is not written as 2025-03-03T08:00:00Z") from None


def body_of(
    frame: Frame, protocol: Protocol, revealed: Revealed, *, times: Times, previous: Any = None, software: str
) -> tuple[dict[str, Any], Drawing | None]:
    """The body of a transcript, and the drawing that it tells; None for a voided draw.

    ``previous``: the transcript of the draw before, as its JSON.

    Raises:
        BadInput: as ``draw``, or ``E_CHAIN`` the draw does not follow the previous one.
    """
    drawing = None
    if revealed.voided is None:
        drawing = draw(
            frame,
            protocol,
            draw_no=revealed.draw_no,
            contributions=revealed.contributions,
            beacon=revealed.beacon,
            replacements=revealed.replacements,
        )
    body: dict[str, Any] = {
        "spec": SPEC,
        "campaign": protocol.campaign,
        "draw_no": revealed.draw_no,
        "protocol": protocol.document,
        "protocol_hash": protocol.hash.hex(),
        "frame": {"root": frame.root.hex(), "size": len(frame.units), "strata": dict(frame.strata)},
        "commitments": _hex(revealed.commitments),
        "committed_at": times.committed_at,
        "contributions": _hex(revealed.contributions),
        "beacon": revealed.beacon.stated if revealed.beacon else None,
        "revealed_at": times.revealed_at,
        "seed": drawing.seed.hex() if drawing else None,
        "selected": units_of(drawing.selected) if drawing else {},
        "replacements": [replacement_json(one) for one in drawing.replacements] if drawing else [],
        "final": units_of(drawing.final) if drawing else {},
        "prev": FIRST if previous is None else follows(previous, draw_no=revealed.draw_no, root=frame.root.hex()),
        "software": software,
    }
    if revealed.voided is not None:
        body["voided"] = dict(revealed.voided)
    canonical(body, what="transcript")
    return body, drawing


def follows(previous: Any, *, draw_no: int, root: str) -> str:
    """``prev`` of the draw that comes after. Raises BadInput ``E_CHAIN`` for another number or another frame."""
    body = member(previous, "body", dict, what="previous transcript")
    if member(body, "draw_no", int, what="previous transcript") + 1 != draw_no:
        raise faults.refused(faults.CHAIN, f"draw {draw_no} does not follow the draw of the previous transcript")
    if member(body, "frame", dict, what="previous transcript").get("root") != root:
        raise faults.refused(faults.CHAIN, "the previous transcript is that of another frame")
    return digest_of(body).hex()


def digest_of(body: Any) -> bytes:
    """SHA-256 of the canonical body: what the next transcript calls ``prev``."""
    return hashlib.sha256(canonical(body, what="transcript")).digest()


def sign(body: Mapping[str, Any], key: Ed25519PrivateKey, *, frame: Frame) -> dict[str, Any]:
    """The transcript: body, signature, public key, and the proof of every unit that was ever drawn."""
    drawn = [unit for cases in body["selected"].values() for unit in cases]
    drawn += [one["in"] for one in body["replacements"]]
    proofs = frame.proofs(drawn)
    return {
        "public_key": key.public_key().public_bytes_raw().hex(),
        "body": body,
        "signature": key.sign(signed_bytes(body)).hex(),
        "proofs": {
            unit: {
                "index": proof.index,
                "tree_size": proof.size,
                "leaf": line(frame.units[proof.index]).decode("ascii"),
                "path": [
                    [side, one.hex()] for side, one in zip(sides(proof.index, proof.size), proof.path, strict=True)
                ],
            }
            for unit, proof in sorted(proofs.items())
        },
    }


def signed_bytes(body: Any) -> bytes:
    """What the signature of a transcript is over."""
    return labelled("transcript") + canonical(body, what="transcript")


def written(transcript: Mapping[str, Any]) -> bytes:
    """The file: one form, whoever writes it."""
    return (json.dumps(transcript, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8")


def units_of(cases: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """Stratum → ids of its cases."""
    return {stratum: [one.unit for one in some] for stratum, some in cases.items()}


def replacement_json(one: Replacement) -> dict[str, Any]:
    """A replacement as the body states it."""
    stated: dict[str, Any] = {"stratum": one.stratum, "out": one.out, "reason": one.reason, "in": one.follows}
    if one.signatures:
        stated["signatures"] = _hex(one.signatures)
    return stated


def is_hash(value: Any) -> bool:
    """Whether a value is 64 hexadecimal digits, lower case."""
    return isinstance(value, str) and HASH_HEX.fullmatch(value) is not None


def _voided(stated: Any) -> dict[str, str] | None:
    if stated is None:
        return None
    by, reason = (stated.get("by"), stated.get("reason")) if isinstance(stated, dict) else (None, None)
    if by not in ROLES or reason not in VOID_REASONS:
        raise faults.refused(faults.VOID, f"voided: by is no role, or reason is none of {', '.join(VOID_REASONS)}")
    return {"by": by, "reason": reason}


def _hex(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.hex() for name, value in values.items()}
