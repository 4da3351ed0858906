"""How many reports a second the HL7 door acknowledges, each durable before its answer."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from hl7apy.parser import parse_message

from gateway.hl7.mllp import MllpClient, serve_mllp
from gateway.lab.ris import LabExam, LabOrder, LabPatient, build_oru
from tests.benchmarks.figures import Figure, publish
from tests.support.world import world

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

MESSAGES = 400  # per measurement
WARM = 24
ROUNDS = 3
PARSED_BY_RIVAL = 60
FSYNCS = 200
ALONE, GROUPED, UNGROUPED = "1 connection", "8 connections", "8 connections, one commit per message"
HL7APY = "hl7apy parse_message alone, nothing stored"
FSYNC = "bare append and fsync of as many bytes"


def _messages() -> list[bytes]:
    """Reports of as many exams of as many patients."""
    arcs = "1.2.250.1.213.4.5.9"
    made = []
    for number in range(MESSAGES + WARM):
        born = date(1950, 1, 1) + timedelta(days=29 * number)
        exam = LabExam(
            patient=LabPatient(birth_date=born, rank=number + 1, ipp=f"IPP{number}"),
            studies=(f"{arcs}.2.{number}",),
            orders=(LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
            document_id=f"{arcs}.1.{number}",
        )
        made.append(build_oru(exam, control_id=f"BENCH-{number}"))
    return made


async def _send(port: int, messages: Sequence[bytes]) -> None:
    """One sender: the next message goes when the last one is acknowledged."""
    async with await MllpClient.connect("127.0.0.1", port) as client:
        for message in messages:
            ack = await client.send(message)
            assert b"\rMSA|AA|" in ack, ack


async def _rate(folder: Path, messages: Sequence[bytes], connections: int) -> float:
    """Acknowledged messages a second, listener and senders in this process."""
    folder.mkdir()
    async with world(folder) as w, await serve_mllp("127.0.0.1", 0, w.intake.handle) as server:
        await _send(server.port, messages[:WARM])
        rest = messages[WARM:]
        started = time.perf_counter()
        await asyncio.gather(*(_send(server.port, rest[first::connections]) for first in range(connections)))
        took = time.perf_counter() - started
        assert await w.count("hl7_message") == await w.count("outbox_job") == MESSAGES + WARM
    return MESSAGES / took


def _parse_rate(messages: Sequence[bytes]) -> float:
    """hl7apy: the same messages into its tree, no report read, nothing checked or stored."""
    texts = [message.decode() for message in messages[:PARSED_BY_RIVAL]]
    parse_message(texts[0])
    started = time.perf_counter()
    for text in texts:
        assert parse_message(text).msh.msh_10.value.startswith("BENCH-")
    return PARSED_BY_RIVAL / (time.perf_counter() - started)


def _fsync_rate(path: Path, size: int) -> float:
    """Bare appends of one message and fsync, on the same disk."""
    with path.open("wb") as file:
        started = time.perf_counter()
        for _ in range(FSYNCS):
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
        return FSYNCS / (time.perf_counter() - started)


async def test_bench_reports_acknowledged_per_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = _messages()
    size = round(statistics.mean(map(len, messages)))
    rates: dict[str, list[float]] = {name: [] for name in (ALONE, GROUPED, UNGROUPED, HL7APY, FSYNC)}
    for turn in range(ROUNDS):
        rates[ALONE].append(await _rate(tmp_path / f"alone-{turn}", messages, 1))
        rates[GROUPED].append(await _rate(tmp_path / f"grouped-{turn}", messages, 8))
        with monkeypatch.context() as patched:
            patched.setattr("security.store.sqlite.GROUP_MAX", 1)
            rates[UNGROUPED].append(await _rate(tmp_path / f"ungrouped-{turn}", messages, 8))
        rates[HL7APY].append(_parse_rate(messages))
        rates[FSYNC].append(_fsync_rate(tmp_path / "fsync", size))
    alone, grouped, ungrouped, hl7apy, fsync = (statistics.median(found) for found in rates.values())
    unit = "messages/s"
    spread = ", ".join(f"{name} {min(r):.0f}-{max(r):.0f}" for name, r in rates.items())
    publish(
        "intake",
        [
            Figure(what=ALONE, value=alone, unit=unit, ratios={HL7APY: alone / hl7apy}),
            Figure(
                what=GROUPED,
                value=grouped,
                unit=unit,
                ratios={HL7APY: grouped / hl7apy, ALONE: grouped / alone, UNGROUPED: grouped / ungrouped},
            ),
            Figure(what=UNGROUPED, value=ungrouped, unit=unit),
            Figure(what=HL7APY, value=hl7apy, unit=unit),
            Figure(what=FSYNC, value=fsync, unit="fsync/s"),
        ],
        conditions=f"{MESSAGES} reports of {size} bytes through MLLP, parser, gate and SQLite (WAL, synchronous=FULL); "
        f"senders in the same process; median of {ROUNDS} ({spread})",
    )
    assert min(alone, grouped, ungrouped, hl7apy, fsync) > 0
