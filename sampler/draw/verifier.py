"""Verify a draw `drim-draw/1`. One file, standard library only, made to be read before it is believed.

    python3 -I -S verifier.py TRANSCRIPT.json [--frame FRAME.csv] [--prev PREVIOUS.json ...] [--key HEX]

TRANSCRIPT.json is what the site published: a body, the site's signature over it, and a proof for each drawn unit.
FRAME.csv (unit,stratum,practitioner) is the whole list; whoever is bound by the audit charter may see it. Without it
this program confirms that the drawn units stand in the list that was committed before the seed was known, and not
that none was skipped. --prev gives the transcripts of voided draws, newest first. --key is the public key that the
site announced by another way; without it, compare the printed one yourself.

It answers for each step `ok`, `failed` or `unchecked`, and ends with 0 (nothing failed), 1 (a step failed) or 2
(a file cannot be read). It shares no line with the program that made the draw: two ways must lead to one sample.

How to read it: the numbers in comments are those of the steps; each has one function, none longer than a screen.
What it does not do: check the BLS signature of the beacon's round (ask the beacon), judge times (they are shown),
know exams that were left out of the list (compare its size with the site's activity).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import hmac
import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

SPEC = "drim-draw/1"
TOKEN = re.compile("[A-Za-z0-9._-]{1,64}")
HEX32 = re.compile("[0-9a-f]{64}")
HEX64 = re.compile("[0-9a-f]{128}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
REASONS = {
    "IMAGES_UNAVAILABLE",
    "PATIENT_OPPOSITION",
    "LEGAL_HOLD",
    "DUPLICATE",
    "OUT_OF_SCOPE",
    "CORRUPT",
    "CONFLICT_OF_INTEREST",
}
STEPS = {
    "form": "le transcript a la forme attendue",
    "protocol": "le protocole est celui dont l'empreinte est publiée",
    "commitments": "chaque partie a révélé ce à quoi elle s'était engagée",
    "beacon": "l'aléa public est l'empreinte de sa signature",
    "seed": "la graine découle de tout ce qui précède",
    "frame": "la liste montrée est celle qui a été engagée",
    "inclusion": "chaque unité tirée figure dans la liste engagée",
    "selection": "la graine tire ces cas, dans cet ordre",
    "replacements": "chaque remplacement suit la règle",
    "chain": "les tirages annulés sont dans la chaîne",
    "signature": "le transcript est signé par cette clé",
}


class Wrong(Exception):
    """A step failed, and why."""


class NotShown(Exception):
    """A step cannot be judged, and what is missing."""


def need(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    """Go on when it holds."""
    if not holds:
        raise Wrong(otherwise)


# ---------------------------------------------------------------- bytes that are hashed


def label(name: str) -> bytes:
    """Every hashed message begins with its kind, so that one cannot pass for another."""
    return (SPEC + "/" + name).encode() + b"\0"


def sha256(*parts: bytes) -> bytes:
    """The hash of the parts, one after the other."""
    return hashlib.sha256(b"".join(parts)).digest()


def jcs(value: Any) -> str:
    """RFC 8785 for ASCII names, strings, integers, booleans, null, arrays and objects; anything else is refused."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        need(abs(value) < 2**53, "an integer of more than 53 bits")
        return str(value)
    if isinstance(value, str):
        need(not any("\ud800" <= letter <= "\udfff" for letter in value), "half a character")
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ",".join(jcs(one) for one in value) + "]"
    need(isinstance(value, dict) and all(name.isascii() for name in value), "a fraction or a name not ASCII")
    return "{" + ",".join(json.dumps(name) + ":" + jcs(value[name]) for name in sorted(value)) + "}"


def ticket(seed: bytes, kind: str, name: str) -> bytes:
    """The random number of a unit or of a practitioner under this seed."""
    return hmac.new(seed, label(kind) + name.encode(), "sha256").digest()


def bytes_of(value: Any, what: str) -> bytes:
    """The 32 bytes that 64 hexadecimal digits state."""
    need(isinstance(value, str) and HEX32.fullmatch(value) is not None, what + " is not 64 hexadecimal digits")
    return bytes.fromhex(value)


# ---------------------------------------------------------------- Ed25519, RFC 8032 section 5.1

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(p: Any, q: Any) -> Any:
    """The sum of two points (section 5.1.4)."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, point: Any) -> Any:
    """The point added to itself so many times."""
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def decode(data: bytes) -> Any:
    """The point that 32 bytes state (section 5.1.3), or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def encode(point: Any) -> bytes:
    """The 32 bytes of a point (section 5.1.2)."""
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return int.to_bytes(y | (x & 1) << 255, 32, "little")


BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether S*B - k*A is R (section 5.1.7)."""
    key, scalar = decode(public_key), int.from_bytes(signature[32:], "little")
    if key is None or scalar >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    minus = (P - key[0], key[1], key[2], P - key[3])
    return encode(add(times(scalar, BASE), times(k, minus))) == signature[:32]


# ---------------------------------------------------------------- what was given


class Given:
    """A transcript, and what was shown beside it."""

    def __init__(self, transcript: Any, frame: Any = None, previous: Any = (), key: str = "") -> None:
        need(isinstance(transcript, dict) and isinstance(transcript.get("body"), dict), "no transcript: no body")
        self.transcript, self.body = transcript, transcript["body"]
        self.frame, self.previous, self.key = frame, list(previous), key
        self.voided = "voided" in self.body

    def get(self, name: str, kind: Any) -> Any:
        """A member of the body, of that type."""
        found = self.body.get(name)
        need(isinstance(found, kind) and type(found) is not bool, name + " is missing or wrong")
        return found

    def strata(self) -> list[Any]:
        """What the protocol asks of each stratum."""
        found = self.get("protocol", dict).get("strata")
        need(isinstance(found, list) and bool(found), "the protocol has no strata")
        for one in found:
            need(isinstance(one, dict) and isinstance(one.get("id"), str), "a stratum without id")
            need(type(one.get("n")) is int and one["n"] >= 0, "a stratum without n")
            need(one.get("mode") in ("srs", "cap", "two_stage"), "a stratum without mode")
            limit = one.get("max_per_practitioner")
            need(one["mode"] != "cap" or (type(limit) is int and limit > 0), "a cap without max_per_practitioner")
        need(len({one["id"] for one in found}) == len(found), "a stratum stands twice")
        return list(found)

    def cases(self, name: str) -> Any:
        """Stratum -> units, under that name."""
        found = self.get(name, dict)
        for units in found.values():
            need(
                isinstance(units, list) and all(isinstance(u, str) for u in units), name + " holds no lists of units"
            )
        return found

    def replacements(self) -> list[Any]:
        """Each with stratum, out, in and reason."""
        found = self.get("replacements", list)
        for one in found:
            need(isinstance(one, dict), "a replacement is no object")
            need(all(isinstance(one.get(k), str) for k in ("stratum", "out", "in", "reason")), "a replacement lacks")
        return list(found)

    def proof(self, unit: str) -> Any:
        """The proof of that unit, and its leaf's three cells."""
        proofs = self.transcript.get("proofs")
        if proofs is None:
            raise NotShown("the transcript brings no proofs")
        found: Any = proofs.get(unit) if isinstance(proofs, dict) else None
        need(isinstance(found, dict) and isinstance(found.get("leaf"), str), "a drawn unit has no proof")
        cells = found["leaf"][:-1].split("|")
        need(found["leaf"].endswith("\n") and len(cells) == 3, "a leaf has not three cells")
        need(all(TOKEN.fullmatch(cell) for cell in cells) and cells[0] == unit, "a leaf is not that of its unit")
        return found, cells


# ---------------------------------------------------------------- the steps


def check_form(given: Given) -> None:
    """1. Members, sizes and times have their form; nothing is said yet about what they mean."""
    jcs(given.body)
    need(given.body.get("spec") == SPEC, "spec is not " + SPEC)
    need(0 < given.get("draw_no", int) < 2**32, "draw_no is no number from 1")
    frame = given.get("frame", dict)
    bytes_of(frame.get("root"), "the frame's root")
    need(isinstance(frame.get("strata"), dict), "the frame has no strata")
    sizes = list(frame["strata"].values())
    need(all(type(one) is int and one > 0 for one in sizes), "the strata have no sizes")
    need(type(frame.get("size")) is int and sum(sizes) == frame["size"], "the strata do not add up to the frame")
    committed, revealed = given.get("committed_at", str), given.get("revealed_at", str)
    need(bool(TIME.fullmatch(committed) and TIME.fullmatch(revealed)), "a time is not like 2025-03-03T08:00:00Z")
    need(committed <= revealed, "revealed before committed")


def check_protocol(given: Given) -> None:
    """2. The protocol is the one that was hashed, and speaks of this campaign."""
    protocol = given.get("protocol", dict)
    found = sha256(label("protocol"), jcs(protocol).encode())
    need(found.hex() == given.body.get("protocol_hash"), "the protocol has another hash than stated")
    need(protocol.get("spec") == SPEC, "the protocol's spec is not " + SPEC)
    need(protocol.get("campaign") == given.body.get("campaign"), "the protocol is that of another campaign")
    given.strata()


def check_commitments(given: Given) -> None:
    """3. Each role revealed the bytes whose hash it had published; the auditor and the site both gave some."""
    committed, revealed = given.get("commitments", dict), given.get("contributions", dict)
    need(set(committed) <= {"auditor", "site", "commission"}, "a role is unknown")
    need({"auditor", "site"} <= set(committed), "the auditor or the site has not committed")
    need(set(revealed) <= set(committed), "a role revealed without having committed")
    need(given.voided or set(revealed) == set(committed), "a role that committed has not revealed")
    voided = given.body.get("voided")
    for role, value in revealed.items():
        if isinstance(voided, dict) and voided.get("reason") == "COMMIT_MISMATCH" and voided.get("by") == role:
            continue  # this is why the draw was voided
        found = sha256(label("commit"), role.encode() + b"\0", bytes_of(value, role))
        need(found.hex() == committed[role], role + " revealed something else than it had committed to")


def check_beacon(given: Given) -> None:
    """4. The public randomness is the hash of the round's signature."""
    if given.body.get("beacon") is None:
        return
    beacon = given.get("beacon", dict)
    need(type(beacon.get("round")) is int and beacon["round"] > 0, "the beacon's round is no number from 1")
    randomness = bytes_of(beacon.get("randomness"), "the beacon's randomness")
    if beacon.get("signature") is None:
        raise NotShown("the randomness was typed in without its signature: compare it with the beacon's archive")
    signature = beacon["signature"]
    need(isinstance(signature, str) and re.fullmatch("([0-9a-fA-F]{2})+", signature) is not None, "no signature")
    need(sha256(bytes.fromhex(signature)) == randomness, "the randomness is not the hash of the signature")


def check_seed(given: Given) -> None:
    """5. The seed follows from root, protocol, number of the draw and all that was revealed."""
    if given.voided:
        need(given.body.get("seed") is None, "a voided draw has a seed")
        return
    gifts = {role: bytes_of(value, role) for role, value in given.get("contributions", dict).items()}
    if given.body.get("beacon") is not None:
        gifts["beacon"] = bytes_of(given.get("beacon", dict).get("randomness"), "the beacon's randomness")
    message = label("seed") + bytes_of(given.get("frame", dict).get("root"), "the frame's root")
    message += bytes_of(given.body.get("protocol_hash"), "protocol_hash")
    message += given.get("draw_no", int).to_bytes(4, "big")
    for role in sorted(gifts):
        message += len(role).to_bytes(2, "big") + role.encode() + len(gifts[role]).to_bytes(2, "big") + gifts[role]
    need(sha256(message).hex() == given.body.get("seed"), "what was revealed gives another seed")


def merkle(hashes: list[bytes]) -> bytes:
    """The root of RFC 6962 section 2.1, level by level: pairs are joined, one left over goes up as it is."""
    while len(hashes) > 1:
        joined = [sha256(b"\1", hashes[i], hashes[i + 1]) for i in range(0, len(hashes) - 1, 2)]
        hashes = joined + hashes[len(joined) * 2 :]
    return hashes[0]


def check_frame(given: Given) -> None:
    """6. The list that is shown is the one whose root was published."""
    if given.frame is None:
        raise NotShown("the frame was not shown")
    rows, stated = sorted(given.frame), given.get("frame", dict)
    need(bool(rows), "the frame is empty")
    need(all(len(row) == 3 and all(TOKEN.fullmatch(cell) for cell in row) for row in rows), "a cell is not a token")
    need(len({row[0] for row in rows}) == len(rows), "a unit stands twice")
    root = merkle([sha256(b"\0", ("|".join(row) + "\n").encode()) for row in rows])
    need(root.hex() == stated.get("root"), "the frame that is shown has another root")
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row[1]] = sizes.get(row[1], 0) + 1
    need(sizes == stated.get("strata") and len(rows) == stated.get("size"), "the sizes are not those of the frame")


def check_inclusion(given: Given) -> None:
    """7. Each unit that was ever drawn leads, by the hashes beside its path, to the root that was published."""
    frame = given.get("frame", dict)
    drawn = [unit for units in given.cases("selected").values() for unit in units]
    drawn += [one["in"] for one in given.replacements()]
    if not drawn and not given.voided and given.transcript.get("proofs") is None:
        raise NotShown("the transcript brings no proofs")
    for unit in drawn:
        proof, _ = given.proof(unit)
        index, size, path = proof.get("index"), frame.get("size"), proof.get("path")
        need(type(index) is int and type(size) is int and 0 <= index < size, "a proof has no place in the tree")
        need(proof.get("tree_size") == size and isinstance(path, list), "a proof is that of another tree")
        need(path_sides(index, size) == [one[0] for one in path], "a path does not lead from its place to the root")
        found = sha256(b"\0", proof["leaf"].encode())
        for side, beside in path:
            other = bytes_of(beside, "a hash of a path")
            found = sha256(b"\1", other, found) if side == "L" else sha256(b"\1", found, other)
        need(found.hex() == frame.get("root"), "a drawn unit does not stand in the committed frame")


def path_sides(index: int, size: int) -> list[str]:
    """On which side each sibling stands, from the leaf up."""
    sides = []
    last = size - 1
    while last:
        if index & 1:
            sides.append("L")
        elif index < last:
            sides.append("R")
        index, last = index >> 1, last >> 1
    return sides


def walk(stratum: Any, rows: list[Any], seed: bytes) -> list[Any]:
    """The first n units of a stratum's order, as its mode says. A row is (unit, stratum, practitioner)."""
    tickets = {row[0]: ticket(seed, "ticket", row[0]) for row in rows}
    waiting = sorted(rows, key=lambda row: (tickets[row[0]], row[0]))
    taken: list[Any] = []
    if stratum["mode"] == "srs":
        return waiting[: stratum["n"]]
    if stratum["mode"] == "two_stage":
        return two_stage(waiting, seed)[: stratum["n"]]
    cap = stratum["max_per_practitioner"]
    held: dict[str, int] = {}
    while waiting and len(taken) < stratum["n"]:
        refused = []
        for row in waiting:
            if held.get(row[2], 0) < cap:
                held[row[2]] = held.get(row[2], 0) + 1
                taken.append(row)
            else:
                refused.append(row)
        waiting, cap = refused, cap + stratum["max_per_practitioner"]
    return taken[: stratum["n"]]


def two_stage(rows: list[Any], seed: bytes) -> list[Any]:
    """Rows by ticket -> first each practitioner's first, in the practitioners' own order, then the seconds ..."""
    turn = {name: ticket(seed, "practitioner", name) for name in {row[2] for row in rows}}
    rounds: dict[str, int] = {}
    keyed = []
    for row in rows:
        rounds[row[2]] = rounds.get(row[2], 0) + 1
        keyed.append((rounds[row[2]], turn[row[2]], row[2], row))
    return [row for *_, row in sorted(keyed)]


def check_selection(given: Given) -> None:
    """8. The stated seed takes these units in this order, from the frame, or else among those that are proved."""
    selected = given.cases("selected")
    if given.voided:
        need(selected == {} and given.body.get("final") == {}, "a voided draw has cases")
        return
    seed, strata = bytes_of(given.body.get("seed"), "the seed"), given.strata()
    need(set(selected) == {one["id"] for one in strata}, "the strata are not those of the protocol")
    for one in strata:
        stated = selected[one["id"]]
        need(len(stated) == one["n"], "stratum " + one["id"] + " has not as many cases as the protocol says")
        if given.frame is None:
            rows = [given.proof(unit)[1] for unit in stated]
            need(all(row[1] == one["id"] for row in rows), "a case is proved to be of another stratum")
        else:
            rows = [row for row in given.frame if row[1] == one["id"]]
        found = [row[0] for row in walk(one, rows, seed)]
        need(found == stated, "stratum " + one["id"] + ": the seed takes other units, or in another order")
    if given.frame is None:
        raise NotShown("the order of these cases is right; that no unit was skipped needs the frame")


def check_replacements(given: Given) -> None:
    """9. A reason of the closed list, no unit twice, the next one due, two signatures of the protocol's signers."""
    now = {stratum: list(units) for stratum, units in given.cases("selected").items()}
    used = {unit for units in now.values() for unit in units}
    strata = {} if given.voided else {one["id"]: one for one in given.strata()}
    done = given.replacements()
    need(not (given.voided and done), "a voided draw replaces")
    if given.frame is not None:
        need(used <= {row[0] for row in given.frame}, "a case does not stand in the frame that is shown")
    for one in done:
        units = now.get(one["stratum"], [])
        need(one["reason"] in REASONS, "a reason is not of the closed list")
        need(one["out"] in units and one["in"] not in used, "out is no case now, or in was a case before")
        check_signers(given, one)
        if given.frame is not None:
            due = next_due(strata[one["stratum"]], given, units, used, one["out"])
            need(due == one["in"], "another unit was due in a replacement")
        units[units.index(one["out"])] = one["in"]
        used.add(one["in"])
    need(now == given.body.get("final"), "the replacements lead to other final cases")
    if done and given.frame is None:
        raise NotShown("reasons and places are right; that each next unit was the one due needs the frame")


def next_due(stratum: Any, given: Given, units: list[str], used: set[str], out: str) -> str | None:
    """The first unused unit whose practitioner is under the cap, once the removed case is freed; the cap may rise."""
    seed = bytes_of(given.body.get("seed"), "the seed")
    rows = sorted(row for row in given.frame if row[1] == stratum["id"])
    rows.sort(key=lambda row: ticket(seed, "ticket", row[0]))
    if stratum["mode"] == "two_stage":
        rows = two_stage(rows, seed)
    by_unit = {row[0]: row[2] for row in rows}
    held = [by_unit.get(unit) for unit in units if unit != out]
    free = [row for row in rows if row[0] not in used]
    step = {"srs": len(rows) + 1, "two_stage": 1}.get(stratum["mode"]) or stratum["max_per_practitioner"]
    for cap in range(step, len(units) + step + 1, step):
        for row in free:
            if held.count(row[2]) < cap:
                return str(row[0])
    return None


def check_signers(given: Given, one: Any) -> None:
    """Two of the protocol's signers, over the seed and the replacement."""
    signers, signatures = given.get("protocol", dict).get("signers", {}), one.get("signatures", {})
    need(isinstance(signers, dict) and isinstance(signatures, dict), "signers or signatures are no objects")
    need(set(signatures) <= set(signers), "somebody signed whom the protocol does not name")
    need(not signers or len(signatures) >= 2, "a replacement has fewer than two signatures")
    need(not signers or len(set(signers.values())) == len(signers), "two signers have one key")
    stated = {name: one[name] for name in ("stratum", "out", "in", "reason")}
    stated["seed"] = given.body.get("seed")
    message = label("replacement") + jcs(stated).encode()
    for role, signature in signatures.items():
        key = bytes_of(signers[role], "the key of a signer")
        need(isinstance(signature, str) and HEX64.fullmatch(signature) is not None, "no signature")
        need(
            is_signed(key, bytes.fromhex(signature), message), "the signature of " + role + " is not that of its key"
        )


def check_chain(given: Given) -> None:
    """10. `prev` is the hash of the draw before, which bears the number before and speaks of the same frame."""
    body = given.body
    for one in given.previous:
        before = Given(one).body
        need(sha256(jcs(before).encode()).hex() == body.get("prev"), "prev is not the hash of the transcript before")
        need(before.get("draw_no") == body.get("draw_no", 0) - 1, "the transcript before has not the number before")
        need(before.get("frame") == body.get("frame"), "the transcript before speaks of another frame")
        failed = [step for step, outcome, _ in verify(Given(one)) if outcome == "failed"]
        need(not failed, "the transcript before fails: " + ", ".join(failed))
        body = before
    bytes_of(body.get("prev"), "prev")
    if body.get("draw_no") == 1:
        need(body["prev"] == "0" * 64, "the first draw names one before it")
    else:
        raise NotShown("the transcript of the draw before was not shown")


def check_signature(given: Given) -> None:
    """11. The body is signed by the key that stands beside it, and this is the announced one."""
    key = bytes_of(given.transcript.get("public_key"), "the public key")
    signature = given.transcript.get("signature")
    need(isinstance(signature, str) and HEX64.fullmatch(signature) is not None, "no signature")
    need(given.key in ("", key.hex()), "the transcript was signed by another key than the announced one")
    message = label("transcript") + jcs(given.body).encode()
    need(is_signed(key, bytes.fromhex(signature), message), "the signature is not that of the key over this body")


CHECKS: dict[str, Callable[[Given], None]] = {
    "form": check_form,
    "protocol": check_protocol,
    "commitments": check_commitments,
    "beacon": check_beacon,
    "seed": check_seed,
    "frame": check_frame,
    "inclusion": check_inclusion,
    "selection": check_selection,
    "replacements": check_replacements,
    "chain": check_chain,
    "signature": check_signature,
}


def verify(given: Given) -> Iterator[tuple[str, str, str]]:
    """Each step, what became of it (ok, failed, unchecked), and why."""
    for step, check in CHECKS.items():
        try:
            check(given)
        except Wrong as cause:
            yield step, "failed", str(cause)
        except NotShown as cause:
            yield step, "unchecked", str(cause)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as cause:
            yield step, "failed", "the transcript has not the form of one (" + type(cause).__name__ + ")"
        else:
            yield step, "ok", ""


# ---------------------------------------------------------------- files and words


def once(pairs: Any) -> Any:
    """A JSON object whose names are all different."""
    found = dict(pairs)
    need(len(found) == len(pairs), "a name stands twice in one object")
    return found


def read_json(path: str) -> Any:
    """The JSON of a file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file, object_pairs_hook=once)


def read_frame(path: str) -> Any:
    """The rows of a frame; its first line names the columns."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = [tuple(row) for row in csv.reader(file) if row]
    need(rows[:1] == [("unit", "stratum", "practitioner")], "the frame's first line is not unit,stratum,practitioner")
    return rows[1:]


def tell(found: list[tuple[str, str, str]], given: Given, french: bool) -> None:  # noqa: FBT001
    """What was found, a line for each step."""
    said = {"ok": "conforme", "failed": "ÉCHEC", "unchecked": "non vérifié"}
    for step, outcome, why in found:
        told = said[outcome] if french else outcome
        print(f"{step:<12} {told:<13}", STEPS[step] if french else (CHECKS[step].__doc__ or "").split(". ", 1)[1])
        if why:
            print(" " * 26, why)
    failed = [step for step, outcome, _ in found if outcome == "failed"]
    print(("clé : " if french else "key: ") + str(given.transcript.get("public_key")))
    for name in ("campaign", "draw_no", "committed_at", "revealed_at", "software"):
        print(name + ": " + str(given.body.get(name)))
    if failed:
        print(("étape en échec : " if french else "failing step: ") + ", ".join(failed))
    else:
        print("aucune étape n'échoue" if french else "no step fails")
    left = [step for step, outcome, _ in found if outcome == "unchecked"]
    if left:
        print(("non vérifié : " if french else "unchecked: ") + ", ".join(left))


def main(arguments: list[str] | None = None) -> int:
    """Read, check, tell."""
    parser = argparse.ArgumentParser(description="Vérifie un tirage drim-draw/1. Verify a draw drim-draw/1.")
    parser.add_argument("transcript", metavar="TRANSCRIPT.json")
    parser.add_argument("--frame", metavar="FRAME.csv")
    parser.add_argument("--prev", metavar="PREVIOUS.json", action="append", default=[])
    parser.add_argument("--key", metavar="HEX", default="")
    parser.add_argument("--lang", choices=["fr", "en"], default="fr")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        frame = read_frame(asked.frame) if asked.frame else None
        given = Given(read_json(asked.transcript), frame, [read_json(one) for one in asked.prev], asked.key)
    except (OSError, ValueError, RecursionError, csv.Error, Wrong) as cause:
        print("illisible / cannot be read:", cause, file=sys.stderr)
        return 2
    found = list(verify(given))
    failed = [step for step, outcome, _ in found if outcome == "failed"]
    if asked.json:
        steps = [{"step": step, "outcome": outcome, "why": why} for step, outcome, why in found]
        print(json.dumps({"ok": not failed, "failed": failed, "steps": steps}, indent=1))
    else:
        tell(found, given, asked.lang == "fr")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
