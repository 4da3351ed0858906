"""The attacks of ``poterne selftest attack``: our doors stop each of them, and a door that takes anything is told apart."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.attack.corpus import CORPUS
from gateway.attack.running import Door, Outcome, allowed, run
from gateway.dimse.limits import Limits
from security.errors import Refused
from tests.integration.registry_lab import running as index_node
from tests.integration.test_console import visiting
from tests.support.dimse import door as dicom_door


def _through(found: list[Outcome]) -> list[tuple[str, str, str]]:
    return [(one.row, one.attack, one.got) for one in found if not one.is_held]


async def test_the_index_node_stops_every_attack(tmp_path: Path) -> None:
    async with index_node(tmp_path) as peer:
        found = await run([Door("index", "127.0.0.1", int(peer.base.rsplit(":", 1)[1].split("/")[0]))])
    assert _through(found) == []
    assert Counter(one.row for one in found)["T20"] == 3
    assert {one.got for one in found} <= {"HTTP 400", "HTTP 413", "HTTP 415", "HTTP 500", "closed", "in-service"}


async def test_the_ops_listener_and_its_console_stop_every_attack() -> None:
    async with visiting() as (visitor, _):
        found = await run([Door("ops", "127.0.0.1", urlsplit(visitor.url).port or 0)])
    assert _through(found) == []
    assert len(found) >= 12


async def test_the_dicom_door_stops_every_attack(tmp_path: Path) -> None:
    async with dicom_door(tmp_path, limits=Limits(header_s=1.0)) as door:
        found = await run([Door("dicom", *door.listener.address[:2])])
    assert _through(found) == []
    assert {one.attack for one in found} >= {"pdu-length-bomb", "slow-header", "unknown-ae-title"}


@asynccontextmanager
async def _gullible(answer: bytes) -> AsyncIterator[int]:
    """A door that takes whatever comes and says yes."""

    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError):
            while await asyncio.wait_for(reader.read(65_536), 0.3):
                pass
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(agree, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.sleep(0.6)  # the silent connections are let go


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("ops", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("ops", b"HTTP/1.1 400 Bad Request\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),  # the second request, smuggled
        ("ops", b"HTTP/1.1 303 See Other\r\nLocation: /console/\r\n\r\n"),
        ("index", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("dicom", b"\x02\x00\x00\x00\x00\x44" + bytes(68)),  # A-ASSOCIATE-AC
        ("hl7", b"\x0bMSH|^~\\&|B|B|A|A|2026||ACK|1|P|2.5\rMSA|AA|1\r\x1c\r"),
    ],
)
async def test_a_door_that_takes_everything_is_told_apart(kind, answer) -> None:
    async with _gullible(answer) as port:
        found = await run([Door(kind, "127.0.0.1", port)])
    assert all(not one.is_held for one in found if one.attack != "silent-connections")
    assert len(found) == 1 + sum(attack.door == kind for attack in CORPUS)


@pytest.mark.parametrize("host", ["192.0.2.7", "10.0.0.1", "::ffff:192.0.2.7", "0.0.0.0", "8.8.8.8"])
def test_nothing_but_this_machine_and_its_configured_listeners_is_attacked(host: str) -> None:
    with pytest.raises(Refused) as caught:
        allowed(Door("ops", host, 80), {"198.51.100.4"})
    assert caught.value.code == "attack-elsewhere"


def test_this_machine_and_a_configured_listener_may_be_attacked() -> None:
    assert allowed(Door("ops", "127.0.0.1", 80), ()).port == 80
    assert allowed(Door("ops", "198.51.100.4", 80), {"198.51.100.4"}).port == 80
