"""One draw: a frame, a protocol and what was revealed become the selected cases, then the final ones (§5.4, §5.5).

Invariants:

* every stratum of the protocol has as many cases as it asks for, or the draw is refused;
* a replaced case keeps its place: the one that follows stands where it stood;
* with signers in the protocol, each replacement bears valid signatures of two of them; they bind it to this draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sampler.draw import faults
from sampler.draw.canonical import canonical, labelled
from sampler.draw.protocol import Protocol, Stratum
from sampler.draw.seed import Beacon, seed_of
from sampler.draw.selection import Replacement, by_ticket, check_reason, first, following, order
from sampler.draw.units import Frame, Unit

SIGNATURES_MIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What was drawn. ``selected``, ``final``: stratum → units; ``replacements``: as made, each with who follows."""

    seed: bytes
    selected: Mapping[str, Sequence[Unit]]
    replacements: Sequence[Replacement]
    final: Mapping[str, Sequence[Unit]]


def draw(
    frame: Frame,
    protocol: Protocol,
    *,
    draw_no: int,
    contributions: Mapping[str, bytes],
    beacon: Beacon | None = None,
    replacements: Sequence[Replacement] = (),
) -> Drawing:
    """The draw of ``drim-draw/1``.

    Raises:
        BadInput: ``E_N_GT_STRATUM``, ``E_REASON``, ``E_REPLACEMENT``, ``E_NO_RESERVE`` or ``E_SIGNATURE``.
    """
    seed = seed_of(
        root=frame.root,
        protocol_hash=protocol.hash,
        draw_no=draw_no,
        contributions=contributions,
        randomness=beacon.randomness if beacon else None,
    )
    selected = {one.id: select(frame.of(one.id), seed=seed, stratum=one) for one in protocol.strata}
    made, final = replace(frame, protocol, seed=seed, selected=selected, replacements=replacements)
    return Drawing(seed=seed, selected=selected, replacements=made, final=final)


def select(units: Sequence[Unit], *, seed: bytes, stratum: Stratum) -> list[Unit]:
    """The cases of one stratum. Raises BadInput ``E_N_GT_STRATUM`` when it has fewer units than it asks for."""
    if stratum.n > len(units):
        raise faults.refused(
            faults.N_GT_STRATUM, f"stratum {stratum.id}: {stratum.n} cases asked for, the frame holds {len(units)}"
        )
    return first(units, seed=seed, stratum=stratum)


def replace(
    frame: Frame,
    protocol: Protocol,
    *,
    seed: bytes,
    selected: Mapping[str, Sequence[Unit]],
    replacements: Sequence[Replacement],
) -> tuple[list[Replacement], dict[str, list[Unit]]]:
    """The replacements, each with who follows, and the final cases of each stratum. Raises as ``draw``."""
    final = {stratum: list(cases) for stratum, cases in selected.items()}
    ever = {one.unit for cases in selected.values() for one in cases}
    by_id = {one.id: one for one in protocol.strata}
    walks: dict[str, Sequence[Unit]] = {}
    made = []
    for number, wish in enumerate(replacements, start=1):
        where = f"replacement {number}"
        check_reason(wish.reason, where=where)
        stratum = by_id.get(wish.stratum)
        at = next((at for at, one in enumerate(final.get(wish.stratum, ())) if one.unit == wish.out), None)
        if stratum is None or at is None:
            raise faults.refused(faults.REPLACEMENT, f"{where}: out is no case of the stratum now")
        cases = final[stratum.id]
        if stratum.id not in walks:
            whole = frame.of(stratum.id)
            is_own = stratum.mode == "two_stage"
            walks[stratum.id] = order(whole, seed=seed, stratum=stratum) if is_own else by_ticket(whole, seed=seed)
        found = following(walks[stratum.id], active=cases, out=cases[at], ever=ever, stratum=stratum)
        if found is None:
            raise faults.refused(faults.NO_RESERVE, f"{where}: every unit of stratum {stratum.id} was a case once")
        if wish.follows not in {None, found.unit}:
            raise faults.refused(faults.REPLACEMENT, f"{where}: in is not the unit that follows by the order")
        done = Replacement(
            stratum=wish.stratum, out=wish.out, reason=wish.reason, follows=found.unit, signatures=wish.signatures
        )
        check_signatures(done, protocol, seed=seed, where=where)
        cases[at] = found
        ever.add(found.unit)
        made.append(done)
    return made, final


def signed_bytes(one: Replacement, *, seed: bytes) -> bytes:
    """What the two sign: the replacement and the seed, so that a signature counts in this draw alone."""
    stated: dict[str, Any] = {
        "seed": seed.hex(),
        "stratum": one.stratum,
        "out": one.out,
        "in": one.follows,
        "reason": one.reason,
    }
    return labelled("replacement") + canonical(stated, what="replacement")


def check_signatures(one: Replacement, protocol: Protocol, *, seed: bytes, where: str) -> None:
    """Raises BadInput ``E_SIGNATURE`` when not two of the protocol's signers have signed (it may name none)."""
    if not protocol.signers:
        if one.signatures:
            raise faults.refused(faults.SIGNATURE, f"{where}: signatures, but the protocol names no signers")
        return
    message = signed_bytes(one, seed=seed)
    for role, signature in one.signatures.items():
        key = protocol.signers.get(role)
        if key is None or not is_signed(key, signature, message):
            raise faults.refused(faults.SIGNATURE, f"{where}: the signature of a role is not that of its key")
    if len(one.signatures) < SIGNATURES_MIN:
        raise faults.refused(
            faults.SIGNATURE, f"{where}: {len(one.signatures)} signatures, {SIGNATURES_MIN} are needed"
        )


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether it is an Ed25519 signature of the message (RFC 8032 §5.1.7)."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
