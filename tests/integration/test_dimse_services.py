"""C-FIND, C-GET, C-MOVE, N-CREATE and N-SET through the door, asked by pynetdicom and DCMTK (T14, T15)."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from io import BytesIO

import pytest
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation, UserIdentityNegotiation

from gateway.dimse.associate import Proposal
from gateway.dimse.command import Status
from gateway.dimse.listener import DimseListener
from gateway.dimse.negotiation import Rejection, Terms
from gateway.dimse.peers import PeerTable
from gateway.dimse.services import (
    Admitted,
    Failure,
    Origin,
    Outgoing,
    Pipe,
    Request,
    Services,
    Sink,
    SubOperations,
)
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set
from tests.support.dimse import AET, peer
from tests.support.dimse_raw import RawScu

FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
MPPS = "1.2.840.10008.3.1.2.3.3"
IAN = "1.2.840.10008.5.1.4.33"
ALL = Terms(services=frozenset({FIND, MOVE, GET, MPPS, IAN}), relational=frozenset({FIND}), stores=True, gets=True)


class Archive:
    """Query and retrieve over a number of invented studies; what it was asked is kept."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.made = 0
        self.asked: list[tuple[Request, Dataset]] = []
        self.closed = 0
        self.trail: list[tuple[str, str, str, str]] = []

    async def find(self, request: Request, identifier: bytes) -> AsyncIterator[bytes]:
        wanted = decode(BytesIO(identifier), request.transfer_syntax == "1.2.840.10008.1.2", True)
        self.asked.append((request, wanted))
        if not any(element.value for element in wanted if element.keyword != "QueryRetrieveLevel"):
            raise Failure(Status.DATA_SET_MISMATCH)  # no query without a key (T14)
        try:
            for number in range(self.number):
                self.made += 1
                match = Dataset()
                match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", f"{ROOT}.{number}"
                encoded = encode(match, request.transfer_syntax == "1.2.840.10008.1.2", True)
                assert encoded is not None
                yield encoded
        finally:
            self.closed += 1

    async def get(self, _request: Request, _identifier: bytes) -> AsyncIterator[Outgoing]:
        for number in range(1, self.number + 1):
            body = data_set(number, pixels=bytes([number]) * 300_000)

            async def pieces(body: bytes = body) -> AsyncIterator[bytes]:
                for start in range(0, len(body), 70_000):
                    yield body[start : start + 70_000]

            yield Outgoing(
                sop_class=CT,
                sop_instance=f"{ROOT}.1.1.{number}",
                transfer_syntax=EXPLICIT,
                left=self.number - number,
                pieces=pieces(),
            )

    async def move(self, request: Request, _identifier: bytes, destination: str) -> AsyncIterator[SubOperations]:
        self.asked.append((request, Dataset()))
        for number in range(self.number):
            yield SubOperations(
                remaining=self.number - number - 1, completed=number + 1 - (number > 1), failed=int(number > 1)
            )

    async def create(self, request: Request, attributes: bytes) -> int:
        self.asked.append((request, decode(BytesIO(attributes), True, True)))
        return Status.SUCCESS

    async def set(self, request: Request, modifications: bytes) -> int:
        self.asked.append((request, decode(BytesIO(modifications), True, True)))
        return 0x0112  # no such SOP instance


@pytest.fixture
def archive() -> Archive:
    return Archive(3)


@pytest.fixture
async def listener(archive: Archive) -> AsyncIterator[DimseListener]:
    services = Services(find=archive, retrieve=archive, normalized={MPPS: archive, IAN: archive})
    known = [
        peer(aet, terms=ALL, rows_max=200, destinations=frozenset({"ALLOWED"}))
        for aet in ("SCU", "FINDSCU", "MOVESCU", "GETSCU")
    ]
    table = PeerTable(known, called_aet=AET, is_secured=False)

    def trail(event: str, *, peer: str = "", origin: str = "", why: str = "") -> None:
        archive.trail.append((event, peer, origin, why))

    async with await DimseListener.open("127.0.0.1", 0, table, services, trail=trail) as running:
        yield running


def query(**keys: str) -> Dataset:
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    wanted.StudyInstanceUID = ""
    for keyword, value in keys.items():
        setattr(wanted, keyword, value)
    return wanted


def entity(*sop_classes: str) -> AE:
    made = AE(ae_title="SCU")
    for sop_class in sop_classes:
        made.add_requested_context(sop_class)
    return made


async def test_a_query_is_answered_match_by_match(listener: DimseListener, archive: Archive) -> None:
    def ask() -> tuple[list[tuple[int, str]], bytes]:
        extended = SOPClassExtendedNegotiation()
        extended.sop_class_uid, extended.service_class_application_information = UID(FIND), b"\x01"
        association = entity(FIND).associate("127.0.0.1", listener.port, ae_title=AET, ext_neg=[extended])
        agreed = association.acceptor.sop_class_extended[UID(FIND)]
        answers = [
            (status.Status, found.StudyInstanceUID if found else "")
            for status, found in association.send_c_find(query(PatientID="IPP1"), FIND)
        ]
        association.release()
        return answers, agreed

    answers, agreed = await asyncio.to_thread(ask)
    assert answers == [(0xFF00, f"{ROOT}.0"), (0xFF00, f"{ROOT}.1"), (0xFF00, f"{ROOT}.2"), (0, "")]
    assert agreed == b"\x01"
    ((request, wanted),) = archive.asked
    assert (request.calling_aet, request.sop_class, wanted.PatientID) == ("SCU", FIND, "IPP1")


async def test_dcmtk_finds(listener: DimseListener, archive: Archive) -> None:
    command = ["/usr/bin/findscu", "-S", "-aec", AET, "127.0.0.1", str(listener.port)]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=IPP1", "-k", "StudyInstanceUID", "-v"]
    said = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert (said.stdout + said.stderr).count(f"{ROOT}.") == 3


async def test_t14_a_query_without_a_key_is_refused_with_the_status_of_the_service(listener: DimseListener) -> None:
    def ask() -> list[int]:
        association = entity(FIND).associate("127.0.0.1", listener.port, ae_title=AET)
        answers = [status.Status for status, _ in association.send_c_find(query(), FIND)]
        association.release()
        return answers

    assert await asyncio.to_thread(ask) == [0xA900]


async def test_t14_a_million_rows_end_at_the_cap_and_are_never_made(
    listener: DimseListener, archive: Archive
) -> None:
    archive.number = 1_000_000

    def ask() -> list[int]:
        association = entity(FIND).associate("127.0.0.1", listener.port, ae_title=AET)
        answers = [status.Status for status, _ in association.send_c_find(query(PatientID="*"), FIND)]
        association.release()
        return answers

    answers = await asyncio.to_thread(ask)
    assert answers == [0xFF00] * 200 + [0xA700]
    assert archive.made == 201
    assert archive.closed == 1


async def test_t14_a_query_that_is_taken_back_ends_with_fe00(archive: Archive) -> None:
    archive.number = 1_000_000
    table = PeerTable([peer(terms=ALL, rows_max=10**7)], called_aet=AET, is_secured=False)

    def ask(port: int) -> list[int]:
        association = entity(FIND).associate("127.0.0.1", port, ae_title=AET)
        answers = []
        for status, _ in association.send_c_find(query(PatientID="*"), FIND, msg_id=5):
            answers.append(status.Status)
            if len(answers) == 3:
                association.send_c_cancel(5, query_model=FIND)
        association.release()
        return answers

    async with await DimseListener.open("127.0.0.1", 0, table, Services(find=archive)) as listener:
        answers = await asyncio.to_thread(ask, listener.port)
    assert answers[-1] == 0xFE00
    assert archive.closed == 1


async def test_a_peer_that_leaves_amid_a_query_ends_it(archive: Archive) -> None:
    archive.number = 1_000_000
    table = PeerTable([peer(terms=ALL, rows_max=10**7)], called_aet=AET, is_secured=False)

    def leave(port: int) -> None:
        association = entity(FIND).associate("127.0.0.1", port, ae_title=AET)
        for number, _ in enumerate(association.send_c_find(query(PatientID="*"), FIND)):
            if number == 3:
                association.abort()
                return

    async with await DimseListener.open("127.0.0.1", 0, table, Services(find=archive)) as listener:
        await asyncio.to_thread(leave, listener.port)
        async with asyncio.timeout(5):
            while listener.connections:
                await asyncio.sleep(0.02)
    assert archive.closed == 1


async def test_objects_come_back_on_the_association_that_asked(listener: DimseListener) -> None:
    got: dict[str, bytes] = {}

    def keep(event: evt.Event) -> int:
        got[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0xB000 if event.request.AffectedSOPInstanceUID.endswith(".2") else 0

    def ask() -> list[tuple[int, int, int, int]]:
        asking = entity(GET)
        asking.add_requested_context(CT, [EXPLICIT])
        association = asking.associate(
            "127.0.0.1",
            listener.port,
            ae_title=AET,
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, keep)],
        )
        answers = [
            (
                status.Status,
                status.NumberOfCompletedSuboperations,
                status.NumberOfFailedSuboperations,
                status.NumberOfWarningSuboperations,
            )
            for status, _ in association.send_c_get(query(StudyInstanceUID=f"{ROOT}.1"), GET)
        ]
        association.release()
        return answers

    answers = await asyncio.to_thread(ask)
    assert answers == [(0xFF00, 1, 0, 0), (0xFF00, 1, 0, 1), (0xFF00, 2, 0, 1), (0xB000, 2, 0, 1)]
    assert got == {
        f"{ROOT}.1.1.{number}": data_set(number, pixels=bytes([number]) * 300_000) for number in range(1, 4)
    }


async def test_an_object_that_no_context_takes_counts_as_failed(listener: DimseListener) -> None:
    def ask() -> tuple[int, int]:
        association = entity(GET).associate("127.0.0.1", listener.port, ae_title=AET)
        *_, (status, _) = association.send_c_get(query(StudyInstanceUID=f"{ROOT}.1"), GET)
        association.release()
        return status.Status, status.NumberOfFailedSuboperations

    assert await asyncio.to_thread(ask) == (0xA702, 3)


async def test_t15_a_move_goes_to_a_destination_of_the_peer_alone(listener: DimseListener, archive: Archive) -> None:
    def ask(destination: str) -> list[int]:
        association = entity(MOVE).associate("127.0.0.1", listener.port, ae_title=AET)
        answers = [
            status.Status for status, _ in association.send_c_move(query(StudyInstanceUID="1.2"), destination, MOVE)
        ]
        association.release()
        return answers

    assert await asyncio.to_thread(ask, "ELSEWHERE") == [0xA801]
    assert archive.asked == []
    assert archive.trail == [("accepted", "scu", "127.0.0.1", ""), ("move-refused", "scu", "127.0.0.1", "")]
    assert await asyncio.to_thread(ask, "ALLOWED") == [0xFF00, 0xFF00, 0xFF00, 0xB000]


async def test_a_procedure_step_is_created_and_set(listener: DimseListener, archive: Archive) -> None:
    def ask() -> tuple[int, int]:
        association = entity(MPPS).associate("127.0.0.1", listener.port, ae_title=AET)
        step = Dataset()
        step.PerformedProcedureStepStatus = "IN PROGRESS"
        created, _ = association.send_n_create(step, MPPS, f"{ROOT}.5")
        changed, _ = association.send_n_set(step, MPPS, f"{ROOT}.5")
        association.release()
        return created.Status, changed.Status

    assert await asyncio.to_thread(ask) == (0, 0x0112)
    assert [request.command.sop_instance for request, _ in archive.asked] == [f"{ROOT}.5"] * 2
    assert archive.asked[0][1].PerformedProcedureStepStatus == "IN PROGRESS"


async def test_what_is_not_served_is_answered_0211_and_the_association_goes_on(listener: DimseListener) -> None:
    def ask() -> tuple[int, int]:
        with RawScu(listener.port) as scu:
            scu.associate([("1.2.840.10008.1.1", ["1.2.840.10008.1.2"]), (CT, [EXPLICIT])])
            return scu.store(3, CT, f"{ROOT}.1.1.1", data_set()), scu.echo()

    assert await asyncio.to_thread(ask) == (0x0211, 0)


async def test_a_service_that_breaks_is_answered_0110_and_the_association_goes_on() -> None:
    class Breaking:
        def begin(self, _request: Request) -> Sink:
            return Failing()

    class Failing:
        def write(self, data: memoryview) -> None: ...

        async def finish(self) -> int:
            raise ZeroDivisionError("a secret in its text")

        def abandon(self) -> None: ...

    table = PeerTable([peer()], called_aet=AET, is_secured=False)
    async with await DimseListener.open("127.0.0.1", 0, table, Services(store=Breaking())) as listener:

        def ask() -> list[int]:
            with RawScu(listener.port) as scu:
                scu.associate([(CT, [EXPLICIT])])
                return [scu.store(1, CT, f"{ROOT}.1.1.1", data_set()) for _ in range(2)]

        assert await asyncio.to_thread(ask) == [0x0110, 0x0110]


async def test_a_data_set_that_is_gathered_is_gathered_up_to_its_cap(
    listener: DimseListener, archive: Archive
) -> None:
    def ask() -> tuple[int, int]:
        association = entity(MPPS).associate("127.0.0.1", listener.port, ae_title=AET)
        step = Dataset()
        step.CommentsOnThePerformedProcedureStep = "x" * 1000
        step.add_new(0x00091001, "OB", bytes(2 * 1024**2))
        refused, _ = association.send_n_create(step, MPPS, f"{ROOT}.5")
        del step[0x00091001]
        taken, _ = association.send_n_create(step, MPPS, f"{ROOT}.5")
        association.release()
        return refused.Status, taken.Status

    assert await asyncio.to_thread(ask) == (0xA700, 0)
    assert len(archive.asked) == 1


async def test_who_the_user_says_it_is_reaches_the_policy() -> None:
    seen: list[tuple[int, bytes]] = []

    class Curious:
        def admit(self, proposal: Proposal, _origin: Origin) -> Admitted | Rejection:
            assert proposal.identity is not None
            seen.append((proposal.identity.kind, proposal.identity.primary))
            return peer().admitted

    async with await DimseListener.open("127.0.0.1", 0, Curious(), Services()) as listener:

        def ask() -> bool:
            user = UserIdentityNegotiation()
            user.user_identity_type, user.primary_field = 1, b"zoe"
            association = entity("1.2.840.10008.1.1").associate(
                "127.0.0.1", listener.port, ae_title=AET, ext_neg=[user]
            )
            association.release()
            return bool(association.is_released)

        assert await asyncio.to_thread(ask)
    assert seen == [(1, b"zoe")]


# ── a reader that waits ──────────────────────────────────────────────────────────────────────────────────────


class Piped:
    """Hands every object to the reader that waits for its instance."""

    def __init__(self) -> None:
        self.pipes: dict[str, Pipe] = {}

    def begin(self, request: Request) -> Sink:
        pipe = Pipe(bytes_max=200_000, accepted=self.accepted)
        self.pipes[request.command.sop_instance] = pipe
        return pipe

    async def accepted(self) -> int:
        return Status.SUCCESS


async def test_an_object_flows_to_its_reader_in_bounded_memory() -> None:
    piped, body = Piped(), data_set(pixels=os.urandom(8 * 1024**2))
    table = PeerTable([peer()], called_aet=AET, is_secured=False)
    async with await DimseListener.open("127.0.0.1", 0, table, Services(store=piped)) as listener:

        def store() -> int:
            with RawScu(listener.port) as scu:
                scu.associate([(CT, [EXPLICIT])])
                return scu.store(1, CT, f"{ROOT}.1.1.1", body)

        sending = asyncio.create_task(asyncio.to_thread(store))
        while not piped.pipes:
            await asyncio.sleep(0.01)
        pipe = piped.pipes[f"{ROOT}.1.1.1"]
        await asyncio.sleep(0.3)
        assert len(pipe._held) <= 200_000 + 256 * 1024, "what nobody read was taken from the socket"
        got = b"".join([piece async for piece in pipe.read()])
        assert (got, await sending) == (body, 0)


async def test_a_reader_that_leaves_gets_its_sender_a700_and_a_sender_that_leaves_tells_its_reader() -> None:
    piped, body = Piped(), data_set(pixels=os.urandom(4 * 1024**2))
    table = PeerTable([peer()], called_aet=AET, is_secured=False)
    async with await DimseListener.open("127.0.0.1", 0, table, Services(store=piped)) as listener:

        def store(sop: str, first: int | None) -> int:
            with RawScu(listener.port) as scu:
                scu.associate([(CT, [EXPLICIT])])
                return scu.store(1, CT, sop, body, first=first)

        sending = asyncio.create_task(asyncio.to_thread(store, "1.2.1", None))
        while "1.2.1" not in piped.pipes:
            await asyncio.sleep(0.01)
        reading = piped.pipes["1.2.1"].read()
        await anext(reading)
        await reading.aclose()
        assert await sending == 0xA700

        leaving = asyncio.create_task(asyncio.to_thread(store, "1.2.2", 100_000))
        while "1.2.2" not in piped.pipes:
            await asyncio.sleep(0.01)
        with pytest.raises(EOFError):
            async for _ in piped.pipes["1.2.2"].read():
                pass
        await leaving
