"""A PACS that fails is never read as a PACS without the study (FF-54), whatever the way it fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pynetdicom.association import Association

from gateway.lab.orthanc import OrthancProcess
from gateway.lab.pacs import LabPacs, PacsFault
from gateway.lab.phantom import LabStudy
from gateway.pacs import dimse
from gateway.pacs.dimse import DimsePeer, DimseSource
from gateway.pacs.orthanc import OrthancPeer
from indexer.study import Found, StudyAnswer, Unknown
from security.identity import Uid
from tests.support.pacs import (
    dimse_peer,
    invented,
    lab_pacs,
    need_orthanc,
    new_uid,
    orthanc,
    orthanc_peer,
    source_of,
)
from tests.support.web import Answer, huge, say, trickle, web_server

__all__ = ["lab_pacs", "orthanc"]  # fixtures of this module

ABSENT_UID = Uid("1.2.250.1.999.404")


async def ask(peer: DimsePeer | OrthancPeer, study: Uid) -> StudyAnswer:
    source = source_of(peer)
    try:
        return await source.find(study)
    finally:
        await source.close()
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]


def held(pacs: LabPacs, **changes: str) -> LabStudy:
    study = invented(**changes)
    study.add_series("CT", instances=3)
    pacs.load(made.data for made in study.objects)
    return study


def peer_of(pacs: LabPacs, **changes: object) -> DimsePeer:
    return dimse_peer(port=pacs.port, called_aet=pacs.aet, **changes)


# DIMSE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (PacsFault.REFUSE, "refused"),
        (PacsFault.HANG, "timeout"),
        (PacsFault.ABORT_MID_FIND, "aborted"),
        (PacsFault.FAIL_STATUS, "failure-status"),
        (PacsFault.EMPTY, "control-missing"),
    ],
)
async def test_ff54_five_ways_to_fail_are_unknown_and_never_absent(lab_pacs: LabPacs, fault: PacsFault, reason: str):
    control = held(lab_pacs)
    study = held(lab_pacs)
    lab_pacs.fault = fault

    answer = await ask(peer_of(lab_pacs, deadline_s=1.5, control=control.uid), study.uid)

    assert isinstance(answer, Unknown)
    assert answer.reason == reason


async def test_ff54_a_pacs_that_is_switched_off_is_unknown():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    answer = await ask(dimse_peer(port=port, called_aet="LABPACS"), ABSENT_UID)

    assert isinstance(answer, Unknown)
    assert answer.reason == "unreachable"


async def test_ff54_a_wrong_called_title_is_unknown(lab_pacs: LabPacs):
    answer = await ask(dimse_peer(port=lab_pacs.port, called_aet="OTHER"), ABSENT_UID)

    assert isinstance(answer, Unknown)
    assert answer.reason == "refused"


async def test_ff12_pending_forever_ends_at_the_total_deadline(lab_pacs: LabPacs):
    study = held(lab_pacs)
    lab_pacs.fault = PacsFault.PENDING_FOREVER
    began = time.monotonic()

    answer = await ask(peer_of(lab_pacs, deadline_s=1.0), study.uid)

    assert isinstance(answer, Unknown)
    assert answer.reason == "timeout"
    assert time.monotonic() - began < 4.0


async def test_ff12_pending_forever_ends_at_the_row_cap(lab_pacs: LabPacs):
    study = held(lab_pacs)
    lab_pacs.fault = PacsFault.PENDING_FOREVER

    answer = await ask(peer_of(lab_pacs, rows_max=50), study.uid)

    assert isinstance(answer, Unknown)
    assert answer.reason == "too-large"


async def test_ff12_a_pacs_that_ignores_the_study_key_is_unknown(lab_pacs: LabPacs):
    held(lab_pacs)
    study = held(lab_pacs)
    lab_pacs.fault = PacsFault.IGNORES_KEYS

    answer = await ask(peer_of(lab_pacs), study.uid)

    assert isinstance(answer, Unknown)
    assert answer.reason == "wrong-study"


async def test_ff12_a_pacs_that_ignores_the_key_does_not_make_an_absent_study_present(lab_pacs: LabPacs):
    held(lab_pacs)
    lab_pacs.fault = PacsFault.IGNORES_KEYS

    answer = await ask(peer_of(lab_pacs), ABSENT_UID)

    assert isinstance(answer, Unknown)
    assert answer.reason == "wrong-study"


async def test_an_instance_without_its_uid_is_a_bad_answer(lab_pacs: LabPacs):
    study = held(lab_pacs)
    lab_pacs.fault = PacsFault.NO_UIDS

    answer = await ask(peer_of(lab_pacs), study.uid)

    assert isinstance(answer, Unknown)
    assert answer.reason == "bad-answer"


@pytest.mark.parametrize("fault", [None, PacsFault.NO_COUNTS, PacsFault.WRONG_COUNTS])
async def test_ff14_the_instances_are_those_enumerated_whatever_the_counts_say(
    lab_pacs: LabPacs, fault: PacsFault | None
):
    study = held(lab_pacs)
    lab_pacs.fault = fault

    answer = await ask(peer_of(lab_pacs), study.uid)

    assert isinstance(answer, Found)
    assert {i.sop_instance for i in answer.study.series[0].instances} == {made.sop_instance for made in study.objects}


@pytest.mark.parametrize("fault", [PacsFault.LATIN1, PacsFault.LATIN1_UNLABELLED])
async def test_ff10_an_answer_in_latin1_labelled_or_not_gives_the_exact_name(lab_pacs: LabPacs, fault: PacsFault):
    study = held(lab_pacs, name="FANTÔME^Zoé")
    lab_pacs.fault = fault

    answer = await ask(peer_of(lab_pacs, default_charset="ISO_IR 100"), study.uid)

    assert isinstance(answer, Found)
    assert answer.study.patient.name == "FANTÔME^Zoé"
    assert answer.study.description == "Scanner thoracique à l'été"


async def test_ff10_an_unlabelled_answer_that_the_default_cannot_decode_is_unknown(lab_pacs: LabPacs):
    study = held(lab_pacs)
    lab_pacs.fault = PacsFault.LATIN1_UNLABELLED

    answer = await ask(peer_of(lab_pacs, default_charset="ISO_IR 6"), study.uid)

    assert isinstance(answer, Unknown)
    assert answer.reason == "undecodable-identity"


async def test_ff10_a_mislabelled_name_is_unknown_and_not_quoted(lab_pacs: LabPacs):
    study = held(lab_pacs, name="FANTÔME^Zoé")
    lab_pacs.fault = PacsFault.LATIN1_MISLABELLED

    answer = await ask(peer_of(lab_pacs), study.uid)

    assert isinstance(answer, Unknown)
    assert answer.reason == "undecodable-identity"
    assert "FANT" not in answer.detail


async def test_ff10_a_mislabelled_comment_is_marked_and_costs_nothing_else(lab_pacs: LabPacs):
    study = held(lab_pacs, name="TEST-DUPONT^Zoe", issuer="CHU", referring_physician="", description="Été")
    lab_pacs.fault = PacsFault.LATIN1_MISLABELLED

    answer = await ask(peer_of(lab_pacs), study.uid)

    assert isinstance(answer, Found)
    assert answer.study.description == "\ufffdt\ufffd"


async def test_ff12_a_slow_pacs_is_waited_for(lab_pacs: LabPacs):
    study = held(lab_pacs)
    lab_pacs.fault, lab_pacs.slow_s = PacsFault.SLOW, 0.1

    assert isinstance(await ask(peer_of(lab_pacs), study.uid), Found)


@contextmanager
def tcp_peer(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server on loopback; ``behave`` gets the first connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):  # the gateway closes first
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            thread.join(10)
            assert not thread.is_alive()


async def test_ff54_a_peer_that_takes_the_connection_and_says_nothing_is_unknown():
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.recv(1)  # until the gateway closes

    with tcp_peer(behave) as port:
        answer = await ask(dimse_peer(port=port, called_aet="LABPACS", deadline_s=1.0), ABSENT_UID)

    assert isinstance(answer, Unknown)
    assert answer.reason == "timeout"


async def test_ff54_a_peer_that_stops_inside_a_pdu_is_unknown_at_the_deadline():
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\x02\x00\x00")
        connection.recv(1)

    began = time.monotonic()
    with tcp_peer(behave) as port:
        answer = await ask(dimse_peer(port=port, called_aet="LABPACS", deadline_s=1.0), ABSENT_UID)

    assert isinstance(answer, Unknown)
    assert answer.reason == "timeout"
    assert time.monotonic() - began < 4.0


async def test_t01_a_peer_that_announces_four_gigabytes_is_cut_before_they_are_read():
    sent = 0

    def behave(connection: socket.socket) -> None:
        nonlocal sent
        connection.recv(65536)
        connection.sendall(b"\x02\x00\xff\xff\xff\xff")
        for _ in range(64):
            connection.sendall(bytes(1024 * 1024))
            sent += 1

    with tcp_peer(behave) as port:
        answer = await ask(dimse_peer(port=port, called_aet="LABPACS"), ABSENT_UID)

    assert isinstance(answer, Unknown)
    assert answer.reason == "unreachable"
    assert sent < 16


async def test_a_cancelled_question_frees_its_thread_and_its_association(lab_pacs: LabPacs):
    study = held(lab_pacs)
    lab_pacs.fault = PacsFault.HANG
    source = DimseSource(peer_of(lab_pacs))
    question = asyncio.create_task(source.find(study.uid), name="question")
    await asyncio.sleep(0.5)
    began = time.monotonic()
    question.cancel()

    with pytest.raises(asyncio.CancelledError):
        await question

    assert time.monotonic() - began < 0.5
    await source.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]


async def test_ff12_no_row_of_a_quick_pacs_is_taken_by_the_associations_own_thread(
    lab_pacs: LabPacs, monkeypatch: pytest.MonkeyPatch
):
    """That thread is held between "may I go on" and its look into the queue, until there is something to take."""

    class Checkpoint(threading.Event):
        def __init__(self, association: Association) -> None:
            super().__init__()
            self._association = association
            self.set()

        def wait(self, timeout: float | None = None) -> bool:
            passed = super().wait(timeout)
            ends = time.monotonic() + 0.3
            while self._association.dimse.msg_queue.empty() and time.monotonic() < ends:
                time.sleep(0.001)
            return passed

    def made(self: Association, *args: object, **options: object) -> None:
        init(self, *args, **options)
        if self.is_requestor:
            self._reactor_checkpoint = Checkpoint(self)

    def slow_row(self: object, *args: object) -> object:
        time.sleep(0.02)
        return row(self, *args)

    init, row = Association.__init__, dimse._Question._row
    monkeypatch.setattr(Association, "__init__", made)
    monkeypatch.setattr(dimse._Question, "_row", slow_row)
    study = invented()
    study.add_series("CT", instances=6)
    study.add_series("CT")
    lab_pacs.load(made.data for made in study.objects)

    answers = [await ask(peer_of(lab_pacs), study.uid) for _ in range(2)]

    assert all(isinstance(answer, Found) for answer in answers)
    assert [[len(series.instances) for series in answer.study.series] for answer in answers] == [[6, 1], [6, 1]]


async def test_ff54_a_day_list_that_breaks_off_is_unknown_and_never_a_short_list(lab_pacs: LabPacs):
    held(lab_pacs, date="20260310")
    held(lab_pacs, date="20260310")
    source = DimseSource(peer_of(lab_pacs, deadline_s=2.0))
    answers = []
    for fault in (PacsFault.ABORT_MID_FIND, PacsFault.FAIL_STATUS, PacsFault.PENDING_FOREVER, PacsFault.IGNORES_KEYS):
        lab_pacs.fault = fault
        answers.append(await source.studies_on(date(2026, 3, 10 if fault is not PacsFault.IGNORES_KEYS else 11)))
    await source.close()

    assert [getattr(answer, "reason", None) for answer in answers] == [
        "aborted",
        "failure-status",
        "timeout",
        "wrong-date",
    ]


async def test_ff12_a_day_list_above_the_row_cap_is_unknown(lab_pacs: LabPacs):
    for _ in range(3):
        held(lab_pacs, date="20260310")
    source = DimseSource(peer_of(lab_pacs, rows_max=2))
    answer = await source.studies_on(date(2026, 3, 10))
    await source.close()

    assert getattr(answer, "reason", None) == "too-large"


# REST


@contextmanager
def http_peer(answer: Answer) -> Iterator[OrthancPeer]:
    """An HTTP server on loopback that answers every request by ``answer``."""
    with web_server(answer) as url:
        yield OrthancPeer(name="web", url=url, timeout_s=5.0, deadline_s=10.0)


def empty_lookup_then(system: Answer) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        (say(200, b"[]") if handler.path == "/tools/lookup" else system)(handler)

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(say(200, b"<html>maintenance</html>", "text/html"), "bad-answer", id="html"),
        pytest.param(say(200, b"[not json"), "bad-answer", id="garbage"),
        pytest.param(say(200, b"{}"), "bad-answer", id="wrong-shape"),
        pytest.param(say(200, b""), "bad-answer", id="nothing"),
        pytest.param(say(200, b'[{"ID": "a", "Type": 7}]'), "bad-answer", id="wrong-type"),
        pytest.param(say(200, b"[]", Content_Encoding="gzip"), "bad-answer", id="compressed"),
        pytest.param(say(302, b"", Location="http://127.0.0.1:9/"), "http-302", id="redirect"),
        pytest.param(say(302, b"", Location="http://["), "http-302", id="redirect-to-no-address"),
        pytest.param(say(401, b"[]"), "unauthorised", id="401"),
        pytest.param(say(403, b"[]"), "unauthorised", id="403"),
        pytest.param(say(500, b"[]"), "http-500", id="500"),
        pytest.param(say(503, b"[]", Retry_After="120"), "http-503", id="503"),
        pytest.param(huge, "too-large", id="huge"),
        pytest.param(empty_lookup_then(say(500, b"")), "http-500", id="empty-but-not-alive"),
        pytest.param(empty_lookup_then(say(200, b"[]")), "bad-answer", id="empty-but-not-orthanc"),
    ],
)
async def test_ff54_a_web_server_that_answers_anything_else_is_unknown(answer: Answer, reason: str):
    with http_peer(answer) as peer:
        found = await ask(peer, ABSENT_UID)

    assert isinstance(found, Unknown)
    assert found.reason == reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_t24_a_redirect_is_neither_prepared_nor_its_endless_body_read(status: int):
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(status)
        handler.send_header("Location", "http://127.0.0.1:9/")
        handler.end_headers()
        handler.close_connection = True
        for _ in range(128):
            handler.wfile.write(bytes(1024 * 1024))
            sent += 1

    with http_peer(endless) as peer:
        found = await ask(peer, ABSENT_UID)

    assert isinstance(found, Unknown)
    assert found.reason == f"http-{status}"
    assert sent < 16


async def test_ff54_a_web_server_that_trickles_its_headers_ends_at_the_total_deadline():
    began = time.monotonic()
    with http_peer(trickle) as peer:
        found = await ask(OrthancPeer(name="web", url=peer.url, timeout_s=5.0, deadline_s=1.0), ABSENT_UID)

    assert isinstance(found, Unknown)
    assert found.reason == "timeout"
    assert time.monotonic() - began < 4.0


@pytest.mark.orthanc
async def test_ff54_an_orthanc_that_refuses_our_password_is_unknown(orthanc: OrthancProcess):
    answer = await ask(orthanc_peer(orthanc, password="wrong"), ABSENT_UID)

    assert isinstance(answer, Unknown)
    assert answer.reason == "unauthorised"


@pytest.mark.orthanc
async def test_one_study_uid_under_two_patients_is_ambiguous(orthanc: OrthancProcess):
    study_uid = new_uid()
    for patient_id in ("IPP-A", "IPP-B"):
        study = invented(study_uid=study_uid, patient_id=patient_id)
        study.add_series("DX", instances=1 if patient_id == "IPP-A" else 2)
        orthanc.load([study.objects[-1].data])

    answers = [
        await ask(orthanc_peer(orthanc), Uid(study_uid)),
        await ask(dimse_peer(port=orthanc.dicom_port, called_aet=orthanc.aet), Uid(study_uid)),
    ]

    assert [getattr(answer, "reason", None) for answer in answers] == ["ambiguous-study", "ambiguous-study"]


@pytest.mark.orthanc
async def test_ff54_a_frozen_or_stopped_orthanc_is_unknown_through_both_doors(tmp_path: Path):
    need_orthanc()
    process = await asyncio.to_thread(OrthancProcess.start, tmp_path)
    try:
        rest = orthanc_peer(process, deadline_s=1.0)
        dimse = dimse_peer(port=process.dicom_port, called_aet=process.aet, deadline_s=1.0)
        os.kill(process.pid, signal.SIGSTOP)
        frozen = [await ask(rest, ABSENT_UID), await ask(dimse, ABSENT_UID)]
        os.kill(process.pid, signal.SIGCONT)
    finally:
        await asyncio.to_thread(process.stop)
    stopped = [await ask(rest, ABSENT_UID), await ask(dimse, ABSENT_UID)]

    assert [getattr(answer, "reason", None) for answer in frozen] == ["timeout", "timeout"]
    assert [getattr(answer, "reason", None) for answer in stopped] == ["unreachable", "unreachable"]
