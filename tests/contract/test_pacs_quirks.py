"""What every adapter concludes from every quirk of the lab PACS (FF-12): one table, run line by line.

A letter per question: F found, A absent, U unknown, for

1. a study the PACS holds, no control study configured;
2. the same, the control study configured and held;
3. a study the PACS does not hold, no control study configured;
4. the same, the control study configured and held.

``A`` stands where a PACS that holds the study may answer it (an empty answer without a control study: nothing tells it
from the truth, which is why the control study exists) and where it truly does not hold it. ``F`` never stands in the
last two columns, and ``A`` only once in the first two.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import psutil
import pytest
from pynetdicom.association import Association
from requests import Session

from gateway.lab.pacs import LabPacs, PacsFault
from gateway.lab.pacs_http import LabPacsHttp
from gateway.pacs.dicomweb import DicomWebPeer
from gateway.pacs.dimse import DimsePeer
from gateway.pacs.orthanc import OrthancPeer
from indexer.study import Absent, Found, Unknown
from security.identity import Uid
from tests.support.pacs import (
    dicomweb_peer,
    dimse_peer,
    invented,
    lab_pacs,
    lab_pacs_http,
    new_uid,
    orthanc_peer,
    source_of,
)

__all__ = ["lab_pacs", "lab_pacs_http"]  # fixtures of this module

ADAPTERS = ("dimse", "dicomweb", "orthanc")

#                                   dimse   dicomweb orthanc
EXPECTED = {
    None:                          ("FFAA", "FFAA", "FFAA"),
    PacsFault.REFUSE:              ("UUUU", "UUUU", "UUUU"),
    PacsFault.HANG:                ("UUUU", "UUUU", "UUUU"),
    PacsFault.ABORT_MID_FIND:      ("UUAU", "UUAU", "UUAU"),  # no match, nothing to break off
    PacsFault.FAIL_STATUS:         ("UUAU", "UUUU", "UUUU"),  # by C-FIND it fails after a match
    PacsFault.EMPTY:               ("AUAU", "AUAU", "AUAU"),
    PacsFault.NO_COUNTS:           ("FFAA", "FFAA", "FFAA"),
    PacsFault.WRONG_COUNTS:        ("FFAA", "FFAA", "FFAA"),
    PacsFault.LATIN1:              ("FFAA", "UUAU", "UUAA"),  # the control study's row has names in QIDO-RS alone
    PacsFault.LATIN1_UNLABELLED:   ("FFAA", "UUAU", "UUAA"),  # default_charset is ISO_IR 100
    PacsFault.LATIN1_MISLABELLED:  ("UUAA", "UUAU", "UUAA"),
    PacsFault.PENDING_FOREVER:     ("UUAU", "UUAU", "UUAU"),
    PacsFault.SLOW:                ("FFAA", "FFAA", "FFAA"),  # within the deadline
    PacsFault.IGNORES_KEYS:        ("UUUU", "UUUU", "UUUU"),
    PacsFault.IGNORES_OFFSET:      ("FFAA", "UUAA", "FFAA"),
    PacsFault.NO_UIDS:             ("UUAA", "UUAA", "UUAA"),
}  # fmt: skip
# The list of a day that holds two studies, the control study configured: W whole, U unknown, and never a short list.
EXPECTED_DAY = {
    None:                          "WWW",
    PacsFault.REFUSE:              "UUU",
    PacsFault.HANG:                "UUU",
    PacsFault.ABORT_MID_FIND:      "UUU",
    PacsFault.FAIL_STATUS:         "UUU",
    PacsFault.EMPTY:               "UUU",
    PacsFault.NO_COUNTS:           "WWW",
    PacsFault.WRONG_COUNTS:        "WWW",
    PacsFault.LATIN1:              "WUU",  # a day's list by C-FIND holds no text, by HTTP it does
    PacsFault.LATIN1_UNLABELLED:   "WUU",
    PacsFault.LATIN1_MISLABELLED:  "WUU",
    PacsFault.PENDING_FOREVER:     "UUU",
    PacsFault.SLOW:                "WWW",
    PacsFault.IGNORES_KEYS:        "UUU",
    PacsFault.IGNORES_OFFSET:      "WUW",
    PacsFault.NO_UIDS:             "WWW",
}  # fmt: skip
DEADLINE_S = {PacsFault.HANG: 0.4, PacsFault.PENDING_FOREVER: 0.4}


@pytest.fixture(params=ADAPTERS)
def peer(
    request: pytest.FixtureRequest, lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp
) -> DimsePeer | DicomWebPeer | OrthancPeer:
    return {
        "dimse": dimse_peer(port=lab_pacs.port, called_aet=lab_pacs.aet),
        "dicomweb": dicomweb_peer(lab_pacs_http.dicomweb_url),
        "orthanc": orthanc_peer(lab_pacs_http),
    }[request.param]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("bridge-", "lab-pacs"))]


@pytest.mark.parametrize("fault", EXPECTED, ids=str)
async def test_ff12_every_adapter_concludes_from_a_quirk_what_the_table_says(
    fault: PacsFault | None,
    peer: DimsePeer | DicomWebPeer | OrthancPeer,
    lab_pacs: LabPacs,
    request: pytest.FixtureRequest,
):
    study, control = _held(lab_pacs), _held(lab_pacs)
    lab_pacs.fault, lab_pacs.slow_s = fault, 0.03
    expected = EXPECTED[fault][ADAPTERS.index(request.node.callspec.params["peer"])]
    questions = [(asked, named) for asked in (study, Uid(new_uid())) for named in (None, control)]

    concluded = "".join(
        [
            await _letter(replace(peer, control=named, deadline_s=_patience(fault, letter)), asked)
            for letter, (asked, named) in zip(expected, questions, strict=True)
        ]
    )

    assert concluded == expected


def _patience(fault: PacsFault | None, expected: str) -> float:
    """A deadline that is let pass is short, one that must not pass is long: a busy machine decides nothing."""
    return DEADLINE_S.get(fault, 20.0) if expected == "U" else 20.0


async def test_ff12_a_pacs_slower_than_the_deadline_is_unknown(
    peer: DimsePeer | DicomWebPeer | OrthancPeer, lab_pacs: LabPacs
):
    study = _held(lab_pacs)
    lab_pacs.fault = PacsFault.SLOW

    assert await _letter(replace(peer, deadline_s=0.3), study) == "U"


async def test_ff12_the_list_of_a_day_is_whole_or_unknown_under_every_quirk(
    peer: DimsePeer | DicomWebPeer | OrthancPeer, lab_pacs: LabPacs, request: pytest.FixtureRequest
):
    control = _held(lab_pacs, date="20260111")
    whole = {_held(lab_pacs, date="20260112") for _ in range(2)}
    lab_pacs.slow_s = 0.03
    concluded = {}
    for fault in EXPECTED_DAY:
        lab_pacs.fault = fault
        source = source_of(replace(peer, control=control, deadline_s=DEADLINE_S.get(fault, 20.0)))
        answer = await source.studies_on(date(2026, 1, 12))
        await source.close()
        listed = None if isinstance(answer, Unknown) else {study.uid for study in answer}
        concluded[fault] = "U" if listed is None else "W" if listed == whole else "short"

    adapter = ADAPTERS.index(request.node.callspec.params["peer"])
    assert concluded == {fault: letters[adapter] for fault, letters in EXPECTED_DAY.items()}


async def test_ff49_questions_leave_no_socket_no_thread_and_no_memory_behind(
    peer: DimsePeer | DicomWebPeer | OrthancPeer, lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp
):
    study = _held(lab_pacs)
    source = source_of(replace(peer, deadline_s=0.5))
    port = lab_pacs.port if isinstance(peer, DimsePeer) else lab_pacs_http.port

    gc.disable()  # sockets are closed, not collected
    try:
        for fault in (None, PacsFault.ABORT_MID_FIND, PacsFault.REFUSE, PacsFault.HANG):
            lab_pacs.fault = fault
            await asyncio.gather(*(source.find(study) for _ in range(4)))
        left = _our_connections(port)
    finally:
        gc.enable()
    await source.close()

    assert left == 0
    await asyncio.sleep(0.1)  # the loop hears of the threads that were cut
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, Association | Session)]
    assert not [each for each in kept if isinstance(each, Session) or each.is_requestor]


def _our_connections(port: int) -> int:
    """Our ends of connections to that port that are still open, after a moment for threads that were just cut."""
    for _ in range(50):
        open_now = [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]
        if not open_now:
            break
        time.sleep(0.02)
    return len(open_now)


def test_every_quirk_stands_in_the_tables_and_none_makes_a_study_appear():
    assert set(EXPECTED) == set(EXPECTED_DAY) == {None, *PacsFault}
    assert {letters[2:] for line in EXPECTED.values() for letters in line} <= {"AA", "AU", "UU"}
    assert {fault for fault, line in EXPECTED.items() if any("A" in letters[:2] for letters in line)} == {
        PacsFault.EMPTY
    }


def _held(pacs: LabPacs, **changes: str) -> Uid:
    study = invented(**changes)
    study.add_series("CT", instances=2)
    study.add_note(("113000", "Of Interest"), references=study.objects[:1])
    pacs.load(made.data for made in study.objects)
    return study.uid


async def _letter(peer: DimsePeer | DicomWebPeer | OrthancPeer, study: Uid) -> str:
    source = source_of(peer)
    try:
        answer = await source.find(study)
    finally:
        await source.close()
    return {Found: "F", Absent: "A", Unknown: "U"}[type(answer)]
