"""What ``poterne selftest attack`` prints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

import typer

from gateway.attack import running
from gateway.attack.corpus import DoorKind
from gateway.i18n import Words
from gateway.settings import Settings
from gateway.settings.fields import address
from security.errors import BadInput, Refused

_KINDS: dict[str, DoorKind] = {"ops": "ops", "index": "index", "dicom": "dicom", "hl7": "hl7"}


def report(settings: Settings, words: Words, *, at: Sequence[str], as_json: bool) -> int:
    """Attack the doors of the configuration, or those of ``at`` (``kind=host:port``); 1 when an attack got through.

    Raises:
        Refused: ``attack-elsewhere``; ``attack-no-door``. BadInput: ``attack-door``.
    """
    own = running.doors(settings)
    targets = [running.allowed(_door(text), {door.host for door in own}) for text in at] or own
    if not targets:
        raise Refused("no door is configured", code="attack-no-door", hint="configure a listener, or give --at")
    outcomes = asyncio.run(running.run(targets))
    through = [one for one in outcomes if not one.is_held]
    if as_json:
        typer.echo(json.dumps({"attacks": [asdict(one) for one in outcomes], "through": len(through)}))
        return 1 if through else 0
    for one in outcomes:
        said = words("stopped") if one.is_held else words("GOT THROUGH")
        typer.echo(f"{one.row}  {one.door:28} {one.attack:26} {one.got:16} {one.seconds:7.3f} s  {said}")
    typer.echo(words("{all} attacks, {through} got through", all=len(outcomes), through=len(through)))
    return 1 if through else 0


def _door(text: str) -> running.Door:
    kind, _, listen = text.partition("=")
    try:
        return running.Door(_KINDS[kind], *address(listen))
    except (KeyError, ValueError):
        raise BadInput(
            "a door is written ops=, index=, dicom= or hl7= and host:port, such as dicom=127.0.0.1:11112",
            code="attack-door",
            hint="host as a number: no name is resolved",
        ) from None
