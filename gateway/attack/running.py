"""Sends the attacks to doors of this site, one after the other, and judges what came back.

Invariants:

* only loopback, or a host that the configuration names as a listener, is ever dialled;
* after its attacks a door must still take a connection: one that does not was put out of service.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from gateway.attack.corpus import CORPUS, Attack, DoorKind
from gateway.settings import Settings
from gateway.settings.fields import address
from security.errors import Refused

ANSWER_BYTES_MAX = 64 * 1024
PATIENCE_S = 20.0
FLOOD = 64
"""Connections that are opened at once and say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one attack got. ``got``: the first word of the answer, or how the connection ended."""

    row: str
    attack: str
    door: str
    got: str
    seconds: float
    is_held: bool


@dataclass(frozen=True, slots=True)
class Door:
    """One door of this site."""

    kind: DoorKind
    host: str
    port: int


def doors(settings: Settings) -> list[Door]:
    """The doors that the configuration opens."""
    listens: list[tuple[DoorKind, str]] = [("ops", settings.ops.listen)]
    for tenant in settings.tenants.values():
        listens += [("dicom", tenant.dicom.listen), ("hl7", tenant.hl7.listen)]
    if settings.index_node:
        listens.append(("index", settings.index_node.listen))
    return [Door(kind, *address(listen)) for kind, listen in listens if listen]


def allowed(door: Door, configured: Collection[str]) -> Door:
    """The door, when it is this machine's or the configuration's.

    Raises:
        Refused: ``attack-elsewhere``.
    """
    with suppress(ValueError):
        if ipaddress.ip_address(door.host).is_loopback:
            return door
    if door.host in configured:
        return door
    raise Refused(
        "this address is neither loopback nor a listener of the configuration",
        code="attack-elsewhere",
        hint="attacks are sent to one's own doors only",
    )


async def run(targets: Iterable[Door]) -> list[Outcome]:
    """Attack every door in turn."""
    found: list[Outcome] = []
    for door in targets:
        found += [await _one(door, attack) for attack in CORPUS if attack.door == door.kind]
        found.append(await _flood(door))
    return found


async def _one(door: Door, attack: Attack) -> Outcome:
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer = await _answer(door, attack)
    except TimeoutError:
        return _outcome(door, attack, "kept-open", began, is_held=False)
    except (ConnectionResetError, ConnectionAbortedError):
        return _outcome(door, attack, "closed", began, is_held=True)
    except OSError:
        return _outcome(door, attack, "unreachable", began, is_held=False)
    return _outcome(door, attack, _told(answer), began, is_held=attack.held(answer))


async def _answer(door: Door, attack: Attack) -> bytes:
    reader, writer = await asyncio.open_connection(door.host, door.port)
    try:
        with suppress(ConnectionError):  # refused before all was sent: what came back counts
            writer.write(attack.sent)
            await writer.drain()
            if not attack.stalls and door.kind in {"hl7", "dicom"}:
                writer.write_eof()
        answer = b""
        with suppress(ConnectionError):
            while len(answer) < ANSWER_BYTES_MAX and (more := await reader.read(ANSWER_BYTES_MAX)):
                answer += more
        return answer
    finally:
        writer.close()


async def _flood(door: Door) -> Outcome:
    """Many silent connections; meanwhile, or at the latest after they are gone, the door takes another one."""
    began, opened = time.monotonic(), []
    attack = Attack(row="T03", name="silent-connections", door=door.kind, sent=b"", held=lambda _answer: True)
    try:
        for _ in range(FLOOD):
            with suppress(OSError):
                opened.append((await asyncio.open_connection(door.host, door.port))[1])
    finally:
        for writer in opened:
            writer.close()
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(door.host, door.port)
            writer.close()
    except (OSError, TimeoutError):
        return _outcome(door, attack, "out-of-service", began, is_held=False)
    return _outcome(door, attack, "in-service", began, is_held=True)


def _told(answer: bytes) -> str:
    if not answer:
        return "closed"
    if answer.startswith(b"HTTP/"):
        return "HTTP " + answer.split(b" ", 2)[1][:3].decode("ascii", "replace")
    kinds: Mapping[int, str] = {2: "A-ASSOCIATE-AC", 3: "A-ASSOCIATE-RJ", 7: "A-ABORT"}
    if answer[0] in kinds:
        return kinds[answer[0]]
    place = answer.find(b"MSA|")
    return "MSA " + answer[place + 4 : place + 6].decode("ascii", "replace") if place >= 0 else f"{len(answer)} bytes"


def _outcome(door: Door, attack: Attack, got: str, began: float, *, is_held: bool) -> Outcome:
    return Outcome(
        row=attack.row,
        attack=attack.name,
        door=f"{door.kind} {door.host}:{door.port}",
        got=got,
        seconds=round(time.monotonic() - began, 3),
        is_held=is_held,
    )
