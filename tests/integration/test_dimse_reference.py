"""The door and the plain pynetdicom reference, driven with the same octets: same answers, same statuses, same bytes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dimse.limits import Limits
from gateway.dimse.pdu import Pdu
from tests.fixtures.dicom_objects import CT, EXPLICIT, IMPLICIT, ROOT, data_set
from tests.support.dimse import AET, Door, data_set_of, door
from tests.support.dimse_raw import ECHO, RawScu
from tests.support.dimse_reference import ReferenceScp

MR = "1.2.840.10008.5.1.4.1.1.4"
VENDOR = "1.2.840.113619.5.2"
CLASSES = {ECHO: [EXPLICIT, IMPLICIT], CT: [EXPLICIT, IMPLICIT, VENDOR], MR: [EXPLICIT, IMPLICIT, VENDOR]}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Store:
    """A C-STORE: ``cut`` bytes taken off its end, ``other`` instance in the command, PDUs of ``pdu`` bytes."""

    sop_class: str
    size: int
    pdu: int
    cut: int
    is_other: bool
    has_study: bool


Step = Store | str
stores = st.builds(
    Store,
    sop_class=st.sampled_from([CT, MR]),
    size=st.integers(0, 3000).map(lambda n: 2 * n),
    pdu=st.sampled_from([64, 500, 16_384]),
    cut=st.sampled_from([0, 0, 0, 3]),
    is_other=st.sampled_from([False, False, True]),
    has_study=st.sampled_from([True, True, False]),
)
steps = st.lists(stores | st.just("echo"), min_size=1, max_size=5)
calls = st.sampled_from([("SCU", AET), ("SCU", AET), ("SCU", AET), ("SCU", "ELSEWHERE"), ("NOBODY", AET)])
ends = st.sampled_from(["release", "abort", "close", "unknown-pdu", "second-request"])


def played(
    port: int, number: int, calling: tuple[str, str], syntaxes: Sequence[str], script: Sequence[Step], end: str
) -> list[object]:
    """What the peer saw, from the first octet to the last."""
    seen: list[object] = []
    with RawScu(port) as scu:
        contexts = [
            (ECHO, [IMPLICIT]),
            (CT, list(syntaxes)),
            (MR, [syntaxes[0]]),
            ("1.2.840.10008.5.1.4.31", [IMPLICIT]),
        ]
        results = scu.associate(contexts, aet=calling[0], called=calling[1])
        seen.append(results or (scu.answer.body if isinstance(scu.answer, Pdu) else None))
        if not results:
            return seen
        for place, step in enumerate(script):
            if isinstance(step, str):
                seen.append(scu.echo(1))
                continue
            context = 3 if step.sop_class == CT else 5
            if results[context]:
                continue
            sop = f"{ROOT}.6.{number}.{place}"
            plain = IMPLICIT if syntaxes[0] in {IMPLICIT, VENDOR} else EXPLICIT
            body = data_set(
                1,
                sop=sop,
                sop_class=step.sop_class,
                study=f"{ROOT}.6" if step.has_study else "",
                pixels=bytes(step.size),
                syntax=plain,
            )
            named = f"{ROOT}.5.{number}.{place}" if step.is_other else sop
            seen.append(scu.store(context, step.sop_class, named, body[: len(body) - step.cut], pdu=step.pdu))
        seen.append(_ended(scu, end))
    return seen


def _ended(scu: RawScu, end: str) -> object:
    match end:
        case "release":
            return scu.release()
        case "abort":
            scu.socket.sendall(b"\x07\0\0\0\0\4\0\0\0\0")
        case "unknown-pdu":
            scu.socket.sendall(b"\x09\0\0\0\0\4\0\0\0\0")
        case "second-request":
            scu.socket.sendall(b"\x01\0\0\0\0\x44" + b"\0\1" + bytes(66))
        case "close":
            return None
    unit = scu.unit()
    return unit.type if isinstance(unit, Pdu) else unit


async def assert_same(
    opened: Door,
    reference: ReferenceScp,
    calling: tuple[str, str],
    syntaxes: Sequence[str],
    script: Sequence[Step],
    end: str,
) -> None:
    number, before = next(_numbers), {row["object_id"] for row in await opened.rows()}
    reference.kept.clear()
    ours = await asyncio.to_thread(played, opened.port, number, calling, syntaxes, script, end)
    theirs = await asyncio.to_thread(played, reference.port, number, calling, syntaxes, script, end)
    assert ours == theirs
    rows = [row for row in await opened.rows() if row["object_id"] not in before]
    assert [
        (row["sop_class"], row["transfer_syntax"], row["keeping"], row["reason"], data_set_of(opened.bytes_of(row)))
        for row in rows
    ] == [(kept[1], *kept[2:]) for kept in reference.kept]


def _driven(folder: Path, examples: int) -> None:
    async def drive() -> None:
        loop = asyncio.get_running_loop()
        limits = Limits(pdu_bytes_max=65_536, hostile_max=10**9)
        with ReferenceScp(CLASSES) as reference:
            async with door(folder / "d", limits=limits) as opened:

                @settings(
                    max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
                )
                @given(calls, st.sampled_from([[EXPLICIT], [IMPLICIT], [VENDOR], [EXPLICIT, IMPLICIT]]), steps, ends)
                def same(calling: tuple[str, str], syntaxes: list[str], script: list[Step], end: str) -> None:
                    asyncio.run_coroutine_threadsafe(
                        assert_same(opened, reference, calling, syntaxes, script, end), loop
                    ).result(60)

                await asyncio.to_thread(same)

    asyncio.run(drive())


@pytest.mark.timeout(300)
def test_the_door_behaves_as_the_plain_reference(tmp_path: Path) -> None:
    _driven(tmp_path, 15)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_door_behaves_as_the_plain_reference_in_hundreds_of_associations(tmp_path: Path) -> None:
    _driven(tmp_path, 600)
