"""What ``poterne draw`` does: run a draw, verify one, hand out the stand-alone verifier.

``verify`` answers by two ways that share no code: ``sampler.draw.checks``, which draws again with what the gateway
draws with, and ``sampler.draw.verifier``, the file that audit bodies read and keep. A transcript stands when it does
so by both; where one of them refuses what the other takes, one is wrong: that is told, and counts as a failure.

Invariants:

* the transcript is written whole or not at all, never over a file that was read;
* exit codes: 0 done, 1 a draw is refused or a step fails, 2 a file cannot be used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.faults import told
from gateway.i18n import N_, Words
from sampler.draw import checks, verifier
from sampler.draw.protocol import protocol_of
from sampler.draw.table import rows_of
from sampler.draw.transcript import Times, body_of, revealed_of, sign, times_of, written
from sampler.draw.units import Unit, commit
from security.clock import Clock
from security.errors import BadInput, Broken
from security.parse.json import parse_json
from security.secrets import read_secret, replace_private

JSON_MAX = 64 * 1024 * 1024
REFUSAL = "E_"
"""How the codes of a refused draw begin; other faults are those of files."""

STEPS: Mapping[str, str] = {
    "form": N_("the transcript has its form"),
    "protocol": N_("the protocol is the one that was hashed"),
    "commitments": N_("each party revealed what it had committed to"),
    "beacon": N_("the public randomness is the hash of its signature"),
    "seed": N_("the seed follows from all of these"),
    "frame": N_("the list shown is the one that was committed"),
    "inclusion": N_("each drawn unit stands in the committed list"),
    "selection": N_("the seed draws these cases in this order"),
    "replacements": N_("each replacement follows the rule"),
    "chain": N_("voided draws are in the chain"),
    "signature": N_("the transcript is signed by this key"),
}
OUTCOMES: Mapping[str, str] = {"ok": N_("right"), "failed": N_("FAILED"), "unchecked": N_("unchecked")}
NOTES: Mapping[str, str] = {
    "BEACON_ABSENT": N_("No public randomness: the last party to reveal could have stayed silent on purpose."),
    "BEACON_UNSIGNED": N_("The public randomness was typed in: compare it with the archive of its source."),
    "BEACON_EARLY": N_(
        "The public randomness was not ten minutes after the last commitment: it may have been known."
    ),
    "LATE_REVEAL": N_("Revealed more than 24 hours after the commitment."),
    "CHAIN_NOT_SHOWN": N_("This is no first draw: ask for the transcripts of the draws before."),
    "OTHER_CAMPAIGN": N_("A draw of the chain bears the name of another campaign."),
    "TWO_VOIDED": N_("One party voided two draws: this goes to the commission."),
    "STRATUM_NOT_DRAWN": N_("The protocol asks nothing of a stratum of the frame."),
    "REPLACEMENTS_UNSIGNED": N_("Replacements without two signatures: the protocol names no signers."),
    "REPLACEMENT_RATE": N_("More than a tenth of the cases were replaced: print the worst-case bound."),
    "FRAME_ERRORS": N_("A case out of scope is an error of the frame: estimate on the domain."),
    "VOIDED": N_("This draw was voided: it drew nothing."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a draw is made from, and where its transcript goes."""

    frame: Path
    protocol: Path
    seeds: Path
    out: Path
    key: Path | None = None
    prev: Path | None = None
    times: Path | None = None


def run(files: Files, words: Words, *, clock: Clock, as_json: bool) -> int:
    """Draw, sign, write, tell. 1 when the draw is refused.

    Raises:
        BadInput: a file has not its form.
        Broken: ``draw-file`` a file cannot be read or written; ``draw-key``, ``secret-…`` the key is not usable.
    """
    try:
        return _run(files, words, clock=clock, as_json=as_json)
    except BadInput as fault:
        if not fault.code.startswith(REFUSAL):
            raise
        if as_json:
            typer.echo(json.dumps({"ok": False, "code": fault.code, "what": fault.args[0], "hint": fault.hint}))
        typer.echo(told(fault, words), err=True)
        return 1


def _run(files: Files, words: Words, *, clock: Clock, as_json: bool) -> int:
    _check_out(files)
    protocol = protocol_of(read_json(files.protocol))
    revealed = revealed_of(read_json(files.seeds))
    now = f"{clock.now():%Y-%m-%dT%H:%M:%SZ}"
    times = times_of(read_json(files.times)) if files.times else Times(committed_at=now, revealed_at=now)
    previous = read_json(files.prev) if files.prev else None
    key = Ed25519PrivateKey.generate() if files.key is None else _key(files.key)
    frame = commit(rows(files.frame))
    software = f"poterne {metadata.version('poterne')}"
    body, _ = body_of(frame, protocol, revealed, times=times, previous=previous, software=software)
    transcript = sign(body, key, frame=frame)
    write(files.out, written(transcript))
    notes = checks.check(transcript, previous=() if previous is None else (previous,)).notes
    if as_json:
        facts = {name: body[name] for name in ("campaign", "draw_no", "frame", "seed", "selected", "final")}
        key_kind = "throw-away" if files.key is None else "file"
        facts |= {"ok": True, "key": key_kind, "public_key": transcript["public_key"], "notes": notes}
        facts |= {"times": "given" if files.times else "now", "out": str(files.out)}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return 0
    for line in _drawn(body, words):
        typer.echo(line)
    typer.echo(words("transcript written: {path}", path=files.out))
    typer.echo(words("public key: {key}", key=transcript["public_key"]))
    if files.key is None:
        typer.echo(
            words("Signed with a throw-away key: nobody can tell who signed. A campaign gives --key."), err=True
        )
    if files.times is None:
        typer.echo(words("Times of commitment and revelation: now, for want of --times."), err=True)
    for note in notes:
        typer.echo(words(NOTES[note]), err=True)
    return 0


def _drawn(body: Mapping[str, Any], words: Words) -> Iterator[str]:
    size, strata = body["frame"]["size"], body["frame"]["strata"]
    yield words("{size} units, root {root}", size=words.number(size), root=body["frame"]["root"])
    for stratum, cases in body["final"].items():
        yield words("stratum {stratum}: {n} of {size}", stratum=stratum, n=len(cases), size=strata.get(stratum, 0))
        yield from (f"  {unit}" for unit in cases)


def verify(
    path: Path, words: Words, *, frame: Path | None, previous: Sequence[Path], key: str, strict: bool, as_json: bool
) -> int:
    """Every step by both ways; 1 when one fails, the ways differ, or with ``strict`` anything is left to weigh.

    Raises:
        BadInput: a file has not its form.
        Broken: ``draw-file`` a file cannot be read.
    """
    transcript, before = read_json(path), [read_json(one) for one in previous]
    shown = None if frame is None else list(rows(frame))
    verdict = checks.check(transcript, rows=shown, previous=before, key=key)
    apart = verifier.verify(verifier.Given(transcript, shown, before, key))
    refused = [step for step, outcome, _ in apart if outcome == "failed"]
    differing = sorted({*refused, *verdict.failed}) if bool(refused) != bool(verdict.failed) else []
    is_left = bool(verdict.notes) or any(one.outcome == "unchecked" for one in verdict.steps)
    is_ok = not verdict.failed and not differing and not (strict and is_left)
    if as_json:
        facts = {"ok": is_ok, "failed": verdict.failed, "differing": differing, "notes": verdict.notes}
        steps = [asdict(one) for one in verdict.steps]
        typer.echo(json.dumps(facts | {"public_key": transcript.get("public_key"), "steps": steps}))
        return 0 if is_ok else 1
    for one in verdict.steps:
        typer.echo(f"{one.name:<12}  {words(OUTCOMES[one.outcome]):<12}  {words(STEPS[one.name])}")
        if one.why:
            typer.echo(f"{'':<28}{one.why}")
    for note in verdict.notes:
        typer.echo(words(NOTES[note]))
    typer.echo(words("public key: {key}", key=transcript.get("public_key")))
    if differing:
        typer.echo(words("the two verifiers differ about: {steps}", steps=", ".join(differing)), err=True)
    if verdict.failed:
        typer.echo(words("failing step: {steps}", steps=", ".join(verdict.failed)), err=True)
    return 0 if is_ok else 1


def source() -> str:
    """The stand-alone verifier, as a body gets it."""
    return (resources.files("sampler.draw") / "verifier.py").read_text(encoding="utf-8")


def rows(path: Path) -> Iterator[Unit]:
    """The units of FRAME.csv. Raises BadInput ``frame-table``, Broken ``draw-file``."""
    try:
        # Bytes that are no UTF-8 become characters that no token holds: units names the row.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            yield from rows_of(lines)
    except OSError as error:
        raise _unreadable(path, error) from error


def _check_out(files: Files) -> None:
    read = (files.frame, files.protocol, files.seeds, files.key, files.prev, files.times)
    if any(one is not None and one.absolute() == files.out.absolute() for one in read):
        raise BadInput(
            f"{files.out}: --out names a file that is read", code="draw-out", hint="give the transcript another name"
        )


def read_json(path: Path) -> Any:
    """The JSON of a file. Raises BadInput ``json-…``, Broken ``draw-file``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return parse_json(data, what=path.name, limit=JSON_MAX)


def read_lines(path: Path) -> list[str]:
    """The lines of a file that are not empty. Raises BadInput ``draw-text``, Broken ``draw-file``."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError:
        raise BadInput(f"{path.name} is not UTF-8", code="draw-text", hint="one identifier a line, UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key of a file: PEM (PKCS #8), 64 hexadecimal digits, or 32 bytes."""
    data = read_secret(path, what="key of the transcript")
    try:
        if data.startswith(b"-----"):
            found = load_pem_private_key(data, password=None)
            if isinstance(found, Ed25519PrivateKey):
                return found
        elif len(data) == 32:
            return Ed25519PrivateKey.from_private_bytes(data)
        else:
            return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(data.decode("ascii")))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass  # no form fits: told below
    raise Broken(
        f"{path} is no Ed25519 private key",
        code="draw-key",
        hint="openssl genpkey -algorithm ed25519 -out KEYFILE; chmod 400 KEYFILE",
    )


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, mode 0600. Raises Broken ``draw-file``."""
    try:
        replace_private(path, data)
    except OSError as error:
        raise Broken(
            f"{path} cannot be written: {error.strerror}", code="draw-file", hint="see the folder's owner and space"
        ) from error


def _unreadable(path: Path, error: OSError) -> Broken:
    return Broken(f"{path} cannot be read: {error.strerror}", code="draw-file", hint="see name, owner and mode")
