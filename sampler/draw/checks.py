"""A transcript checked by drawing again: every step by name, each against what the transcript itself states.

Invariants:

* a step looks at what it names and at nothing that another step has judged, so that one changed bit fails the step
  it belongs to (and the signature, when it stands in the signed body);
* what cannot be judged without the frame or the transcript before is ``unchecked``, never ``ok``;
* what a reader must weigh is in ``notes``, and fails no step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sampler.draw import faults
from sampler.draw.drawing import check_signatures, is_signed, replace, select
from sampler.draw.notes import notes_of
from sampler.draw.protocol import SPEC, Protocol, protocol_of
from sampler.draw.seed import beacon_of, check_commitment, contributions_of, seed_of
from sampler.draw.selection import Replacement, check_reason, order
from sampler.draw.transcript import (
    FIRST,
    SIGNATURE_HEX,
    VOID_REASONS,
    digest_of,
    is_hash,
    moment,
    replacement_json,
    replacement_of,
    signed_bytes,
    units_of,
)
from sampler.draw.units import TOKEN, Frame, Unit, commit, leaf_hash, sides
from security.audit.tree import includes
from security.errors import BadInput
from security.parse.json import member

STEPS = (
    "form",
    "protocol",
    "commitments",
    "beacon",
    "seed",
    "frame",
    "inclusion",
    "selection",
    "replacements",
    "chain",
    "signature",
)
Outcome = Literal["ok", "failed", "unchecked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step found. ``why``: in plain words, for ``failed`` and ``unchecked``."""

    name: str
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Every step in the order of ``STEPS``, and what a reader must weigh."""

    steps: Sequence[Step]
    notes: Sequence[str]

    @property
    def failed(self) -> list[str]:
        """Names of the steps that failed; empty when the transcript stands."""
        return [one.name for one in self.steps if one.outcome == "failed"]


class _Unchecked(Exception):
    """Why a step cannot be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What is checked. ``rows``: the frame as shown, or None."""

    document: Mapping[str, Any]
    body: Mapping[str, Any]
    rows: Sequence[Unit] | None
    previous: Sequence[Any]
    key: str

    def stated(self, name: str) -> Any:
        return self.body.get(name)

    @property
    def is_voided(self) -> bool:
        return "voided" in self.body

    def protocol(self) -> Protocol:
        return protocol_of(self.stated("protocol"))


def check(
    document: Any, *, rows: Iterable[Unit] | None = None, previous: Sequence[Any] = (), key: str = ""
) -> Verdict:
    """What each step says about a transcript.

    ``rows``: the frame, where it was shown. ``previous``: transcripts of the draws before, newest first. ``key``: the
    announced public key in hexadecimal digits, or nothing.

    Raises:
        BadInput: ``json-shape`` there is no body at all.
    """
    body = member(document, "body", dict, what="transcript")
    given = _Given(
        document=document, body=body, rows=None if rows is None else list(rows), previous=previous, key=key
    )
    frame, steps = _frame(given)
    judge: dict[str, Callable[[], None]] = {
        "form": lambda: _form(given),
        "protocol": lambda: _protocol(given),
        "commitments": lambda: _commitments(given),
        "beacon": lambda: _beacon(given),
        "seed": lambda: _seed(given),
        "inclusion": lambda: _inclusion(given),
        "selection": lambda: _selection(given, frame),
        "replacements": lambda: _replacements(given, frame),
        "chain": lambda: _chain(given),
        "signature": lambda: _signature(given),
    }
    steps |= {name: _judged(name, one) for name, one in judge.items()}
    return Verdict(steps=[steps[name] for name in STEPS], notes=notes_of(body, previous))


def _judged(name: str, judge: Callable[[], None]) -> Step:
    try:
        judge()
    except _Unchecked as cause:
        return Step(name=name, outcome="unchecked", why=str(cause))
    except BadInput as cause:
        return Step(name=name, outcome="failed", why=f"{cause.args[0]} [{cause.code}]")
    return Step(name=name, outcome="ok")


def _wrong(what: str, code: str = "draw-check") -> BadInput:
    return BadInput(
        what, code=code, hint="ask the site for the transcript as it signed it; a wrong one voids the draw"
    )


def _form(given: _Given) -> None:
    body = given.body
    signed_bytes(body)
    if body.get("spec") != SPEC:
        raise _wrong(f"spec is not {SPEC}")
    _number(body)
    size = member(_frame_of(given), "size", int, what="frame")
    if not is_hash(_frame_of(given).get("root")):
        raise _wrong("the frame's root is not 64 hexadecimal digits")
    strata = member(_frame_of(given), "strata", dict, what="frame")
    if any(not isinstance(one, int) or one < 1 for one in strata.values()) or sum(strata.values()) != size:
        raise _wrong("the sizes of the strata do not add up to the frame's")
    if moment(str(body.get("committed_at"))) > moment(str(body.get("revealed_at"))):
        raise _wrong("revealed before committed")
    voided = body.get("voided")
    if given.is_voided and (not isinstance(voided, dict) or voided.get("reason") not in VOID_REASONS):
        raise _wrong("voided states no reason of the list")


def _frame_of(given: _Given) -> dict[str, Any]:
    return member(given.body, "frame", dict, what="body")


def _protocol(given: _Given) -> None:
    protocol = given.protocol()
    if protocol.hash.hex() != given.stated("protocol_hash"):
        raise _wrong("the protocol has another hash than stated")
    if protocol.campaign != given.stated("campaign"):
        raise _wrong("the protocol is that of another campaign")


def _commitments(given: _Given) -> None:
    revealed = contributions_of(given.stated("contributions"), is_whole=not given.is_voided)
    committed = contributions_of(given.stated("commitments"), what="commitments")
    if revealed.keys() - committed.keys() or (not given.is_voided and revealed.keys() != committed.keys()):
        raise _wrong("those who committed are not those who revealed", faults.COMMIT_MISMATCH)
    voided = given.stated("voided") if given.is_voided else None
    excused = voided.get("by") if isinstance(voided, dict) and voided.get("reason") == "COMMIT_MISMATCH" else None
    for role, value in revealed.items():
        if role != excused:
            check_commitment(role, committed[role], value)


def _beacon(given: _Given) -> None:
    beacon = beacon_of(given.stated("beacon"))
    if beacon and not beacon.is_signed:
        raise _Unchecked("the randomness was typed in without its signature: compare it with the beacon's archive")


def _seed(given: _Given) -> None:
    if given.is_voided:
        if given.stated("seed") is not None:
            raise _wrong("a voided draw has no seed")
        return
    root, protocol_hash = _frame_of(given).get("root"), given.stated("protocol_hash")
    if not is_hash(root) or not is_hash(protocol_hash):
        raise _wrong("the frame's root or the protocol's hash is not 64 hexadecimal digits")
    found = seed_of(
        root=bytes.fromhex(str(root)),
        protocol_hash=bytes.fromhex(str(protocol_hash)),
        draw_no=_number(given.body),
        contributions=contributions_of(given.stated("contributions")),
        randomness=_randomness(given),
    )
    if found.hex() != given.stated("seed"):
        raise _wrong("what was revealed gives another seed")


def _randomness(given: _Given) -> bytes | None:
    if given.stated("beacon") is None:
        return None
    stated = member(member(given.body, "beacon", dict, what="body"), "randomness", str, what="beacon")
    if not is_hash(stated):
        raise _wrong("the beacon's randomness is not 64 hexadecimal digits")
    return bytes.fromhex(stated)


def _frame(given: _Given) -> tuple[Frame | None, dict[str, Step]]:
    """The frame that was shown, when it is one, and the step."""
    if given.rows is None:
        return None, {"frame": Step(name="frame", outcome="unchecked", why="the frame was not shown")}
    found: list[Frame] = []

    def judge() -> None:
        frame = commit(given.rows or ())
        found.append(frame)
        stated = _frame_of(given)
        if frame.root.hex() != stated.get("root"):
            raise _wrong("the frame shown has another root: it is not the one that was committed")
        if len(frame.units) != stated.get("size") or dict(frame.strata) != stated.get("strata"):
            raise _wrong("the frame shown has other sizes than stated")

    step = _judged("frame", judge)
    return (found[0] if found else None), {"frame": step}


def _drawn(given: _Given) -> list[str]:
    return [unit for cases in _cases(given, "selected").values() for unit in cases] + [
        str(one.follows) for one in _wishes(given)
    ]


def _cases(given: _Given, name: str) -> dict[str, list[str]]:
    """Stratum → units, as the body states them under ``name``."""
    stated = member(given.body, name, dict, what="body")
    for cases in stated.values():
        if not isinstance(cases, list) or not all(isinstance(one, str) and TOKEN.fullmatch(one) for one in cases):
            raise _wrong(f"{name} is no object of lists of units")
    return stated


def _wishes(given: _Given) -> list[Replacement]:
    stated = member(given.body, "replacements", list, what="body")
    return [replacement_of(one, f"replacement {number}") for number, one in enumerate(stated, start=1)]


def _inclusion(given: _Given) -> None:
    proofs = given.document.get("proofs")
    if proofs is None:
        raise _Unchecked("the transcript brings no proofs")
    root = bytes.fromhex(str(_frame_of(given)["root"])) if is_hash(_frame_of(given).get("root")) else b""
    for unit in _drawn(given):
        proof = proofs.get(unit) if isinstance(proofs, dict) else None
        if proof is None or not _is_proved(unit, proof, root=root, size=_frame_of(given).get("size")):
            raise _wrong("a drawn unit is not proved to stand in the committed frame")


def _leaf(proof: Any) -> Unit | None:
    leaf = proof.get("leaf") if isinstance(proof, dict) else None
    cells = leaf.removesuffix("\n").split("|") if isinstance(leaf, str) and leaf.isascii() else []
    return Unit(*cells) if len(cells) == len(Unit._fields) else None


def _is_proved(unit: str, proof: Any, *, root: bytes, size: Any) -> bool:
    found = _leaf(proof)
    index, path = (proof.get("index"), proof.get("path")) if isinstance(proof, dict) else (None, None)
    if found is None or found.unit != unit or not isinstance(index, int) or not isinstance(path, list):
        return False
    if proof.get("tree_size") != size or not isinstance(size, int) or not 0 <= index < size:
        return False
    if not all(isinstance(one, list) and len(one) == 2 and is_hash(one[1]) for one in path):
        return False
    if [side for side, _ in path] != sides(index, size):
        return False
    hashes = [bytes.fromhex(one) for _, one in path]
    return includes(root=root, size=size, leaf=leaf_hash(found), index=index, path=hashes)


def _seed_stated(given: _Given) -> bytes:
    seed = given.stated("seed")
    if not is_hash(seed):
        raise _wrong("the seed is not 64 hexadecimal digits")
    return bytes.fromhex(str(seed))


def _selection(given: _Given, frame: Frame | None) -> None:
    stated = _cases(given, "selected")
    if given.is_voided:
        if stated or given.stated("final") != {}:
            raise _wrong("a voided draw has no cases")
        return
    seed, protocol = _seed_stated(given), given.protocol()
    if frame is not None:
        again = {one.id: select(frame.of(one.id), seed=seed, stratum=one) for one in protocol.strata}
        if units_of(again) != stated:
            raise _wrong("the seed selects other cases, or in another order")
        return
    if {one.id: one.n for one in protocol.strata} != {stratum: len(cases) for stratum, cases in stated.items()}:
        raise _wrong("the numbers of cases are not those of the protocol")
    proofs = given.document.get("proofs")
    if not isinstance(proofs, dict):
        raise _Unchecked("neither the frame nor proofs were shown")
    for one in protocol.strata:
        leaves = [leaf for leaf in (_leaf(proofs.get(unit)) for unit in stated[one.id]) if leaf]
        is_shown = [leaf.unit for leaf in leaves] == stated[one.id]
        if not is_shown or any(leaf.stratum != one.id for leaf in leaves):
            raise _wrong(f"stratum {one.id}: a case is not proved to be one of this stratum")
        if order(leaves, seed=seed, stratum=one) != leaves:
            raise _wrong(f"stratum {one.id}: the cases stand in another order")
    raise _Unchecked("the cases stand in their order; that none was skipped needs the frame")


def _replacements(given: _Given, frame: Frame | None) -> None:
    stated, wishes = given.stated("replacements"), _wishes(given)
    selected, final = _cases(given, "selected"), _cases(given, "final")
    if given.is_voided:
        if stated:
            raise _wrong("a voided draw replaces nothing")
        return
    seed, protocol = _seed_stated(given), given.protocol()
    if frame is not None:
        cases = {one: [_known(frame, unit) for unit in units] for one, units in selected.items()}
        made, found = replace(frame, protocol, seed=seed, selected=cases, replacements=wishes)
        if [replacement_json(one) for one in made] != stated or units_of(found) != final:
            raise _wrong("the replacements lead to other cases")
        return
    standing = {one: list(units) for one, units in selected.items()}
    ever = {unit for units in standing.values() for unit in units}
    for number, wish in enumerate(wishes, start=1):
        where = f"replacement {number}"
        check_reason(wish.reason, where=where)
        check_signatures(wish, protocol, seed=seed, where=where)
        now = standing.get(wish.stratum, [])
        if wish.out not in now or wish.follows is None or wish.follows in ever:
            raise _wrong(f"{where}: out is no case, or in was one already", faults.REPLACEMENT)
        now[now.index(wish.out)] = wish.follows
        ever.add(wish.follows)
    if standing != final:
        raise _wrong("the replacements lead to other cases")
    if wishes:
        raise _Unchecked("reasons, places and signatures stand; that each next one was due needs the frame")


def _known(frame: Frame, unit: str) -> Unit:
    found = frame.find(unit)
    if found is None:
        raise _wrong("a selected unit does not stand in the frame shown")
    return found


def _chain(given: _Given) -> None:
    """Each transcript that was shown, newest first, is what the one after it calls ``prev``."""
    body: Mapping[str, Any] = given.body
    for one in given.previous:
        before = member(one, "body", dict, what="previous transcript")
        if digest_of(before).hex() != body.get("prev"):
            raise _wrong("prev is not the hash of the transcript before")
        if _number(before) + 1 != _number(body) or before.get("frame") != body.get("frame"):
            raise _wrong("the transcript before has not the number before, or another frame")
        verdict = check(one)
        if verdict.failed:
            raise _wrong(f"the transcript before fails: {', '.join(verdict.failed)}")
        body = before
    prev, is_first = body.get("prev"), _number(body) == 1
    if not is_hash(prev) or (is_first and prev != FIRST):
        raise _wrong("prev is no hash, or the first draw names one before it")
    if not is_first:
        raise _Unchecked("the transcript of the draw before was not shown")


def _number(body: Mapping[str, Any]) -> int:
    found = member(body, "draw_no", int, what="body")
    if not 1 <= found < 2**32:
        raise _wrong("draw_no is no number from 1")
    return found


def _signature(given: _Given) -> None:
    key = member(given.document, "public_key", str, what="transcript")
    signature = member(given.document, "signature", str, what="transcript")
    is_valid = is_hash(key) and SIGNATURE_HEX.fullmatch(signature) is not None
    is_valid = is_valid and is_signed(bytes.fromhex(key), bytes.fromhex(signature), signed_bytes(given.body))
    if given.key not in {"", key}:
        raise _wrong("the transcript was signed by another key than the announced one")
    if not is_valid:
        raise _wrong("the signature is not that of the public key over this body")
