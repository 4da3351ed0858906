"""``poterne check``: everything that is wrong with a configuration, at once, without opening a socket (FF-47).

The rules live with the settings; this module asks for all of them, then tries every certificate with its key (do
they belong together, are they valid now), and prints the answer for people or programs. Warnings name what is
usable and yet hardly meant; they change no exit code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.certificates.links import pairs
from gateway.settings import ConfigurationError, Problem, Settings, read
from security.clock import SystemClock
from security.errors import Fault
from security.keys.signer import PemSigner, verify

_PROBE = b"poterne check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """``problems``: empty when the configuration can be used. ``warnings``: looked for when it can be read."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()


def findings(path: Path | None, environ: Mapping[str, str]) -> Findings:
    """Every problem of the configuration and every warning, each sorted by file and key."""
    try:
        reading = read(path, environ)
    except ConfigurationError as error:
        return Findings(problems=error.problems)
    return Findings(problems=tuple(_unusable_pairs(path, reading.settings)), warnings=reading.warnings)


def _unusable_pairs(path: Path | None, settings: Settings) -> Iterator[Problem]:
    """A problem for each certificate and key that cannot sign now what the certificate verifies."""
    known = [
        (
            f"{pair.key}_key_file" if pair.kind == "sign" else f"{pair.key}.key_file",
            pair.certificate_file,
            pair.key_file,
        )
        for pair in pairs(settings).values()
    ]
    if settings.ops.certificate_file and settings.ops.key_file:
        known.append(("ops.key_file", settings.ops.certificate_file, settings.ops.key_file))
    for key, certificate, private in known:
        try:
            signer = PemSigner(certificate, private, SystemClock())
            verify(signer.certificate, signer.algorithm, _PROBE, signer.sign(_PROBE))
        except Fault as fault:
            yield Problem(file=str(path), key=key, reason=str(fault.args[0]), hint=fault.hint)


def as_text(found: Findings) -> str:
    """One line per problem and per warning, then one that counts them."""
    lines = [str(problem) for problem in found.problems] + [f"warning: {warning}" for warning in found.warnings]
    counts = [_count(len(found.problems), "problem") if found.problems else "no problem found"]
    if found.warnings:
        counts.append(_count(len(found.warnings), "warning"))
    return "".join(f"{line}\n" for line in (*lines, f"configuration: {', '.join(counts)}"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_json(found: Findings) -> str:
    """``{"usable": bool, "problems": [{file, key, reason, hint}], "warnings": [likewise]}``."""
    facts = {
        "usable": not found.problems,
        "problems": [asdict(problem) for problem in found.problems],
        "warnings": [asdict(warning) for warning in found.warnings],
    }
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def report(path: Path | None, environ: Mapping[str, str], *, as_json: bool = False) -> int:
    """Print the verdict on standard output; returns the exit code: 0 usable, 2 not."""
    found = findings(path, environ)
    sys.stdout.write(_FORMS[as_json](found))
    return 2 if found.problems else 0


_FORMS = {False: as_text, True: as_json}
