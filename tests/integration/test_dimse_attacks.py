"""Attacks on the DICOM door, each with its memory and the honest peer's latency measured while it goes on."""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from gateway.dimse.limits import Limits
from gateway.dimse.pdu import Pdu, PduType, whole_pdu
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set
from tests.support.dimse import DoorProcess, echo_s
from tests.support.dimse_raw import ECHO, IMPLICIT, RawScu, associate_rq

MIB = 1024**2
WITNESS, WITNESS_S = "127.0.0.3", 10.0  # seconds: each attack states what it may cost, this is for all of them
HONEST = "127.0.0.2"  # the attacker's own address is at its cap
QUICK = {"header_s": 1.0, "body_s": 1.5, "request_s": 2.0, "message_s": 1.5, "idle_s": 2.0, "closing_s": 1.0}
FORGIVING = {"hostile_max": 1_000_000}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorProcess]:
    """One door for every attack: what one leaves behind, the next would meet."""
    with DoorProcess.start(
        tmp_path_factory.mktemp("door") / "d", limits=QUICK | FORGIVING | {"connections_max": 40}
    ) as running:
        echo_s(running.port)
        yield running


class Witness:
    """An honest peer of an address of its own, and the door's memory, looked at all through an attack."""

    def __init__(self, door: DoorProcess) -> None:
        self.waits_s: list[float] = []
        self.rss: list[int] = [door.rss]
        self._door, self._over = door, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            began = time.monotonic()
            self._served(until=began + WITNESS_S)
            self.waits_s.append(time.monotonic() - began)
            self.rss.append(self._door.rss)
            if self._over.wait(0.2):
                return

    def _served(self, *, until: float) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError, OSError):
                echo_s(
                    self._door.port, address=WITNESS, aet="ECHOSCU"
                )  # another peer than the attacker: caps are per peer
                return
            time.sleep(0.1)


@pytest.fixture(autouse=True)
def _nobody_is_disturbed_and_nothing_is_left(door: DoorProcess) -> Iterator[None]:
    before = door.descriptors
    with Witness(door) as witness:
        yield
    assert max(witness.waits_s) < WITNESS_S, "an honest peer was not served during the attack"
    assert max(witness.rss) - witness.rss[0] <= 64 * MIB, "the attack cost memory"
    deadline = time.monotonic() + 8
    while door.descriptors > before + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert door.descriptors <= before + 1, "connections were left open"
    assert echo_s(door.port) < 2.0


def attacked(port: int, *, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def read_to_end(connection: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(4096):
            got += data
    return got


@pytest.mark.parametrize("head", [b"\x04\0", b"\x01\0"], ids=["p-data", "associate"])
def test_t01_four_gibibytes_announced_are_refused_before_four_mebibytes_came(door: DoorProcess, head: bytes) -> None:
    before, sent = door.rss, 0
    with attacked(door.port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # what it holds is not yet sent
        if head[0] == 4:
            connection.sendall(associate_rq([(ECHO, [IMPLICIT])]))
            connection.recv(4096)
        connection.sendall(head + b"\xff\xff\xff\xff")
        with contextlib.suppress(OSError):
            while sent < 64 * MIB:
                connection.sendall(bytes(MIB))
                sent += MIB
        answer = read_to_end(connection) if sent == 0 else b""
    assert sent <= 4 * MIB
    assert door.rss - before <= 8 * MIB
    assert answer in {b"", bytes.fromhex("07000000000400000206")}


def test_t01_the_peer_that_waits_is_told_with_an_abort(door: DoorProcess) -> None:
    with attacked(door.port) as connection:
        connection.sendall(b"\x01\0\xff\xff\xff\xff")
        assert read_to_end(connection) == bytes.fromhex("07000000000400000206")


@pytest.mark.parametrize(
    ("opening", "limit_s"),
    [(b"\x01\0", QUICK["header_s"]), (b"\x01\0\0\0\x40\0" + bytes(10), QUICK["body_s"]), (b"", QUICK["request_s"])],
    ids=["header", "body", "nothing"],
)
def test_t02_a_byte_a_moment_does_not_move_the_deadline(door: DoorProcess, opening: bytes, limit_s: float) -> None:
    with attacked(door.port) as connection:
        began = time.monotonic()
        connection.sendall(opening)
        connection.settimeout(0.1)
        while time.monotonic() - began < limit_s + 5:
            with contextlib.suppress(TimeoutError):
                if connection.recv(64) == b"":
                    break
            if opening and len(opening) > 6:
                with contextlib.suppress(OSError):
                    connection.sendall(b"\0")
        assert limit_s - 0.3 <= time.monotonic() - began <= limit_s + 2


def test_t02_thirty_slow_peers_delay_no_honest_one(door: DoorProcess) -> None:
    slow = [socket.create_connection(("127.0.0.1", door.port), source_address=(f"127.0.1.{n}", 0)) for n in range(30)]
    try:
        for connection in slow:
            connection.sendall(b"\x01\0\0")
        assert statistics.median(echo_s(door.port, address=HONEST) for _ in range(5)) < 1.0
    finally:
        for connection in slow:
            connection.close()


def test_t02_a_data_set_that_stops_inside_a_message_ends_the_association(door: DoorProcess) -> None:
    with RawScu(door.port) as scu:
        scu.associate([(CT, [EXPLICIT])])
        began = time.monotonic()
        scu.store(1, CT, f"{ROOT}.1.1.1", data_set(), first=200)
        assert scu.status() == -1
        assert time.monotonic() - began <= QUICK["message_s"] + 2


def test_ff07_an_idle_association_ends_and_one_that_works_does_not(door: DoorProcess) -> None:
    with RawScu(door.port) as scu:
        scu.associate([(ECHO, [IMPLICIT])])
        for _ in range(4):
            time.sleep(QUICK["idle_s"] / 3)
            assert scu.echo() == 0
        began = time.monotonic()
        assert isinstance(end := scu.unit(), Pdu)
        assert end.type is PduType.ABORT
        assert time.monotonic() - began <= QUICK["idle_s"] + 1


def test_t03_a_thousand_connects_leave_the_honest_peer_served(door: DoorProcess) -> None:
    threads, before, flood = door.threads, door.rss, []
    try:
        for _ in range(1000):
            connection = socket.socket()
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.connect(("127.0.0.1", door.port))
            flood.append(connection)
        time.sleep(0.3)
        for connection in flood:
            with contextlib.suppress(OSError):
                connection.send(b"\x01")
        assert echo_s(door.port, address=HONEST) <= 2.0
        assert door.threads <= threads + 2
        assert door.rss - before <= 8 * MIB
    finally:
        for connection in flood:
            connection.close()
    time.sleep(QUICK["header_s"] + 0.5)
    assert echo_s(door.port) <= 2.0


def test_t03_what_is_over_the_cap_of_its_address_is_closed_without_a_word(door: DoorProcess) -> None:
    cap = Limits().connections_per_address_max
    alone = "127.0.5.1"  # an address of its own: what another test has just closed may still be counted
    held = [attacked(door.port, source=alone) for _ in range(cap)]
    try:
        time.sleep(0.2)
        with attacked(door.port, source=alone) as one_more:
            began = time.monotonic()
            assert read_to_end(one_more) == b""
            assert time.monotonic() - began < QUICK["request_s"] - 0.3, "it was let in, and then came its deadline"
    finally:
        for connection in held:
            connection.close()


def test_t05_garbage_of_every_kind_ends_in_an_abort_and_costs_no_memory(door: DoorProcess) -> None:
    whole = associate_rq([(CT, [EXPLICIT])] * 128, user=struct.pack(">BxH", 0x58, 60_000) + bytes(60_000))
    kinds = [
        whole.replace(b"\x40\0\0\x13", b"\x40\0\xff\xff", 1),
        whole_pdu(PduType.ASSOCIATE_RQ, bytes(68)),
        whole_pdu(PduType.ASSOCIATE_RQ, bytes(68) + struct.pack(">BxH", 0x20, 0xFFFF)),
        whole_pdu(PduType.RELEASE_RP, bytes(4)),
        bytes([9, 0, 0, 0, 0, 4, 1, 2, 3, 4]),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]
    before = door.rss
    for _ in range(20):
        for bytes_ in kinds:
            with attacked(door.port) as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(bytes_)
                    connection.shutdown(socket.SHUT_WR)
                assert read_to_end(connection)[:1] in {b"\x07", b"\x03", b""}
    assert door.rss <= before * 1.1


def test_ff06_a_peer_that_ignores_the_window_is_aborted(door: DoorProcess) -> None:
    with RawScu(door.port) as scu:
        scu.associate([(CT, [EXPLICIT])])
        body = data_set()
        for number in (1, 2):
            with contextlib.suppress(OSError):
                scu.store(1, CT, f"{ROOT}.1.1.1", body, first=len(body) if number == 2 else None)
        assert scu.status() == -1


def test_ff07_hundreds_of_probes_and_hung_associations_leave_nothing(door: DoorProcess) -> None:
    _probes(door, probes=500, hung=20)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_ff07_ten_thousand_probes_and_two_hundred_hung_associations_leave_nothing(door: DoorProcess) -> None:
    _probes(door, probes=10_000, hung=200)


def _probes(door: DoorProcess, *, probes: int, hung: int) -> None:
    for _ in range(50):
        attacked(door.port).close()
    before = door.rss
    for _ in range(probes):
        attacked(door.port).close()
    for start in range(0, hung, 20):
        held = []
        for number in range(min(20, hung - start)):
            scu = RawScu(door.port, source=f"127.0.2.{number // 5 + 1}")
            assert scu.associate([(ECHO, [IMPLICIT])]) in ({1: 0}, {})  # the peer's own cap comes first
            held.append(scu)
        time.sleep(QUICK["idle_s"] + 0.5)
        for scu in held:
            scu.close()
    began = time.monotonic()
    with RawScu(door.port, source=HONEST) as scu:
        scu.associate([(CT, [EXPLICIT])])
        assert scu.store(1, CT, f"{ROOT}.1.1.1", data_set()) == 0
    assert time.monotonic() - began < 2.0
    assert door.rss <= before * 1.1


def test_a_peer_beyond_its_own_cap_is_rejected_for_now(door: DoorProcess) -> None:
    held = [RawScu(door.port, source=f"127.0.3.{number}") for number in range(1, 12)]
    try:
        taken = [scu.associate([(ECHO, [IMPLICIT])]) for scu in held]
        assert taken == [{1: 0}] * 10 + [{}]
        assert held[-1].answer == Pdu(PduType.ASSOCIATE_RJ, bytes([0, 2, 3, 2]))
    finally:
        for scu in held:
            scu.close()


def test_a_peer_that_does_not_read_holds_no_memory_and_no_slot(door: DoorProcess) -> None:
    """Answers pile up in its socket, then it is let go."""
    before = door.rss
    with RawScu(door.port) as scu:
        scu.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        scu.associate([(ECHO, [IMPLICIT])])
        with contextlib.suppress(OSError):
            for _ in range(2000):
                scu.command(1, {})
    assert door.rss - before <= 8 * MIB


def test_many_honest_senders_at_once_are_all_served(door: DoorProcess) -> None:
    def one(number: int) -> list[int]:
        with RawScu(door.port, source=f"127.0.4.{number}") as scu:
            scu.associate([(CT, [EXPLICIT])])
            return [
                scu.store(1, CT, f"{ROOT}.7.{number}.{n}", data_set(n, sop=f"{ROOT}.7.{number}.{n}"))
                for n in range(8)
            ]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(1, 9))) == [[0] * 8] * 8


def test_three_violations_ban_an_address_for_a_while_and_nobody_else(tmp_path: Path) -> None:
    with DoorProcess.start(tmp_path / "d", limits={"ban_s": 3.0, "closing_s": 0.2}) as strict:
        for _ in range(3):
            with attacked(strict.port) as connection:
                connection.sendall(b"\x09\0\0\0\0\4abcd")
                assert read_to_end(connection)[:1] == b"\x07"
        with attacked(strict.port) as connection:
            began = time.monotonic()
            assert read_to_end(connection) == b""
            assert time.monotonic() - began < 5.0, "it was let in, and then came its deadline"
        assert echo_s(strict.port, address=HONEST) < 2.0
        time.sleep(3.2)
        assert echo_s(strict.port) < 2.0


@pytest.mark.parametrize("size", [1, 16])
def test_t02_a_flood_of_tiny_values_delays_no_honest_peer(door: DoorProcess, size: int) -> None:
    """The most work per byte that a peer can ask for: beyond the rule, and just within it."""
    value = struct.pack(">LBB", 2 + size, 1, 0) + bytes(size)
    pdu = whole_pdu(PduType.P_DATA, value * 9000)
    stop = time.monotonic() + 2.5

    def flood(number: int) -> None:
        with RawScu(door.port, source=f"127.0.5.{number}") as scu, contextlib.suppress(OSError):
            scu.associate([(CT, [EXPLICIT])])
            body = data_set()
            scu.store(1, CT, f"{ROOT}.1.1.1", body, first=len(body) - 512)
            while time.monotonic() < stop:
                scu.socket.sendall(pdu)

    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(flood, number) for number in range(1, 5)]
        time.sleep(0.5)
        typical = statistics.median(echo_s(door.port, address=HONEST) for _ in range(3))
        for one in floods:
            one.result()
    assert typical < 1.0
