"""QIDO-RS: what a server may answer, page by page, and what is concluded from it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from gateway.lab.pacs import LabPacs, PacsFault
from gateway.lab.pacs_http import LabPacsHttp
from gateway.lab.phantom import LabStudy
from gateway.pacs import dicomweb
from gateway.pacs.dicomweb import DicomWebPeer, DicomWebSource
from indexer.study import Absent, CalendarAnswer, Found, StudyAnswer, Unknown
from security.identity import Uid
from security.keys.lab_pki import CLIENT_AUTH, SERVER_AUTH, LabAuthority
from security.keys.tls import server_context
from tests.support.pacs import dicomweb_peer, invented, lab_pacs, lab_pacs_http
from tests.support.web import Answer, huge, say, trickle, web_server

__all__ = ["lab_pacs", "lab_pacs_http"]  # fixtures of this module

STUDY = Uid("1.2.250.1.999.1")
KIND = "application/dicom+json"
DAY = date(2026, 1, 12)


async def ask(peer: DicomWebPeer, study: Uid = STUDY) -> StudyAnswer:
    return await _asked(peer, lambda source: source.find(study))


async def ask_day(peer: DicomWebPeer) -> CalendarAnswer:
    return await _asked(peer, lambda source: source.studies_on(DAY))


async def _asked(peer: DicomWebPeer, question: Callable[[DicomWebSource], Any]) -> Any:
    source = DicomWebSource(peer)
    try:
        return await question(source)
    finally:
        await source.close()
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]


def held(pacs: LabPacs, *, series: int = 1, instances: int = 1, **changes: str) -> LabStudy:
    study = invented(**changes)
    for _ in range(series):
        study.add_series("CT", instances=instances)
    pacs.load(made.data for made in study.objects)
    return study


def row(**values: object) -> dict[str, object]:
    """A data set in DICOM JSON, a value or a list of them by keyword; None has no ``Value``."""
    return {
        dicomweb._tag(keyword): {"vr": "UN"}
        | ({} if value is None else {"Value": value if isinstance(value, list) else [value]})
        for keyword, value in values.items()
    }


STUDY_ROW = row(
    StudyInstanceUID=STUDY,
    PatientID="IPP1",
    PatientName={"Alphabetic": "FANTÔME^Zoé"},
    PatientBirthDate="19700228",
    PatientSex="F",
    StudyDate="20260112",
)
SERIES_ROW = row(StudyInstanceUID=STUDY, SeriesInstanceUID="1.2.3", Modality="CT", SeriesNumber=1)
INSTANCE_ROW = row(
    StudyInstanceUID=STUDY, SeriesInstanceUID="1.2.3", SOPClassUID="1.2.840.1", SOPInstanceUID="1.2.3.1"
)


def table(
    studies: list[Any] = [STUDY_ROW],  # noqa: B006 - never changed
    series: list[Any] = [SERIES_ROW],  # noqa: B006
    instances: list[Any] = [INSTANCE_ROW],  # noqa: B006
) -> Answer:
    """A well-behaved server that holds these rows."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        path, _, query = handler.path.partition("?")
        rows = {"studies": studies, "series": series, "instances": instances}[path.rpartition("/")[2]]
        offset = next((int(part[7:]) for part in query.split("&") if part.startswith("offset=")), 0)
        say(200, json.dumps(rows[offset:]).encode(), KIND)(handler)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other, the last one for ever."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


@contextmanager
def peer_that(answer: Answer, **changes: object) -> Iterator[DicomWebPeer]:
    with web_server(answer) as url:
        yield dicomweb_peer(url, **({"timeout_s": 5.0, "deadline_s": 10.0} | changes))


EMPTY = say(200, b"[]", KIND)
NOTHING = say(204, b"", KIND)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(say(200, b"<html>maintenance</html>", "text/html"), "bad-answer", id="html"),
        pytest.param(say(200, b"[]", "multipart/related"), "bad-answer", id="xml-parts"),
        pytest.param(say(200, b"[not json", KIND), "bad-answer", id="garbage"),
        pytest.param(say(200, b"{}", KIND), "bad-answer", id="wrong-shape"),
        pytest.param(say(200, b"[[]]", KIND), "bad-answer", id="no-data-sets"),
        pytest.param(say(200, b"", KIND), "bad-answer", id="no-body"),
        pytest.param(say(200, b"[]", KIND, Content_Encoding="gzip"), "bad-answer", id="compressed"),
        pytest.param(say(200, b"[]", KIND, Warning="299 pacs: partial"), "warned", id="empty-with-a-warning"),
        pytest.param(say(206, b"[]", KIND), "http-206", id="partial"),
        pytest.param(say(302, b"", Location="http://127.0.0.1:9/"), "http-302", id="redirect"),
        pytest.param(say(400, b"[]", KIND), "http-400", id="400"),
        pytest.param(say(401, b"[]", KIND), "unauthorised", id="401"),
        pytest.param(say(403, b"[]", KIND), "unauthorised", id="403"),
        pytest.param(say(404, b"[]", KIND), "http-404", id="404"),
        pytest.param(say(413, b"[]", KIND), "http-413", id="413"),
        pytest.param(say(429, b"[]", KIND, Retry_After="9"), "http-429", id="429"),
        pytest.param(say(500, b"[]", KIND), "http-500", id="500"),
        pytest.param(say(503, b"[]", KIND, Retry_After="120"), "http-503", id="503"),
        pytest.param(huge, "too-large", id="huge"),
        pytest.param(in_turn(EMPTY, say(500, b"")), "http-500", id="empty-but-not-alive"),
        pytest.param(in_turn(NOTHING, say(404, b"")), "http-404", id="empty-but-no-series-resource"),
        pytest.param(in_turn(EMPTY, say(200, json.dumps([SERIES_ROW]).encode(), KIND)), "changing", id="appearing"),
    ],
)
async def test_ff54_a_server_that_answers_anything_but_a_clean_empty_list_is_unknown(answer: Answer, reason: str):
    with peer_that(answer) as peer:
        found = await ask(peer)

    assert isinstance(found, Unknown)
    assert found.reason == reason


@pytest.mark.parametrize("empty", [EMPTY, NOTHING], ids=["200", "204"])
async def test_two_clean_empty_answers_are_an_absence(empty: Answer):
    with peer_that(empty) as peer:
        assert isinstance(await ask(peer), Absent)
        assert await ask_day(peer) == ()


async def test_ff54_a_control_study_that_is_answered_twice_does_not_prove_the_database_whole():
    control = Uid("1.2.250.1.999.2")
    twice = say(200, json.dumps([row(StudyInstanceUID=control)] * 2).encode(), KIND)
    with peer_that(in_turn(EMPTY, EMPTY, twice), control=control) as peer:
        answer = await ask(peer)

    assert getattr(answer, "reason", None) == "control-missing"


async def test_ff54_a_server_that_trickles_its_headers_ends_at_the_total_deadline():
    began = time.monotonic()
    with peer_that(trickle, deadline_s=0.5) as peer:
        answer = await ask(peer)

    assert getattr(answer, "reason", None) == "timeout"
    assert time.monotonic() - began < 4.0


async def test_two_rows_of_one_study_are_ambiguous():
    with peer_that(table(studies=[STUDY_ROW, STUDY_ROW])) as peer:
        assert getattr(await ask(peer), "reason", None) == "ambiguous-study"


async def test_ff12_another_study_than_the_one_asked_for_is_unknown():
    with peer_that(table(studies=[row(StudyInstanceUID="1.2.9")])) as peer:
        assert getattr(await ask(peer), "reason", None) == "wrong-study"


@pytest.mark.parametrize(
    ("series", "instances", "reason"),
    [
        pytest.param([], [INSTANCE_ROW], "changing", id="an-instance-of-no-series"),
        pytest.param([SERIES_ROW], [], "changing", id="a-series-without-instances"),
        pytest.param([], [], "bad-answer", id="a-study-without-series"),
        pytest.param([SERIES_ROW], [INSTANCE_ROW | row(SeriesInstanceUID=None)], "bad-answer", id="no-series-uid"),
        pytest.param([SERIES_ROW], [INSTANCE_ROW | row(SOPClassUID=None)], "bad-answer", id="no-class"),
        pytest.param([SERIES_ROW], [INSTANCE_ROW | row(StudyInstanceUID="1.9")], "wrong-study", id="other-study"),
        pytest.param([SERIES_ROW | row(StudyInstanceUID="1.9")], [INSTANCE_ROW], "wrong-study", id="series-of-other"),
        pytest.param([SERIES_ROW], [INSTANCE_ROW, INSTANCE_ROW], "bad-answer", id="one-instance-twice"),
        pytest.param([SERIES_ROW, SERIES_ROW], [INSTANCE_ROW], "bad-answer", id="one-series-twice"),
        pytest.param([SERIES_ROW | row(Modality=True)], [INSTANCE_ROW], "bad-answer", id="no-dicom-json"),
        pytest.param([SERIES_ROW | {"00080060": []}], [INSTANCE_ROW], "bad-answer", id="no-element"),
        pytest.param([SERIES_ROW | {"00080060": {"Value": "CT"}}], [INSTANCE_ROW], "bad-answer", id="no-list"),
    ],
)
async def test_lists_that_contradict_each_other_are_unknown(series: list[Any], instances: list[Any], reason: str):
    with peer_that(table(series=series, instances=instances)) as peer:
        answer = await ask(peer)

    assert getattr(answer, "reason", None) == reason


async def test_numbers_come_as_numbers_or_as_text_and_names_as_objects_or_as_text():
    study = STUDY_ROW | row(
        PatientName={"Alphabetic": "FANTOME^Zoe", "Ideographic": "幻^像"},
        ReferringPhysicianName="MÉDECIN^Noëlle",
        StudyDescription=None,
        AccessionNumber=[None],
    )
    series = SERIES_ROW | row(SeriesNumber="7")
    instance = INSTANCE_ROW | row(InstanceNumber=3, NumberOfFrames="12")
    with peer_that(table([study], [series], [instance])) as peer:
        answer = await ask(peer)

    assert isinstance(answer, Found)
    found = answer.study
    assert found.patient.name == "FANTOME^Zoe=幻^像"
    assert (found.referring_physician, found.description, found.accession_number) == ("MÉDECIN^Noëlle", "", "")
    assert found.series[0].number == 7
    assert (found.series[0].instances[0].number, found.series[0].instances[0].frames) == (3, 12)


@pytest.mark.parametrize("name", ["FANT\ufffdME^Zo\ufffd", "FANT\u0094ME^Zoé"])
async def test_ff10_a_harmed_name_is_unknown_and_not_quoted(name: str):
    with peer_that(table([STUDY_ROW | row(PatientName={"Alphabetic": name})])) as peer:
        answer = await ask(peer)

    assert getattr(answer, "reason", None) == "undecodable-identity"
    assert "FANT" not in answer.detail


@pytest.mark.parametrize("fault", [PacsFault.LATIN1, PacsFault.LATIN1_UNLABELLED, PacsFault.LATIN1_MISLABELLED])
async def test_ff10_json_in_latin1_is_unknown_whatever_its_label(
    lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp, fault: PacsFault
):
    study = held(lab_pacs, name="FANTÔME^Zoé")
    lab_pacs.fault = fault

    answer = await ask(dicomweb_peer(lab_pacs_http.dicomweb_url), study.uid)

    assert getattr(answer, "reason", None) == "undecodable-identity"
    assert "FANT" not in answer.detail


@pytest.mark.parametrize("page_max", [1, 3, 7, 12])
async def test_ff12_a_server_that_caps_its_pages_below_our_limit_is_read_to_the_end(
    lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp, page_max: int
):
    study = held(lab_pacs, series=3, instances=4)
    lab_pacs_http.page_max = page_max

    answer = await ask(dicomweb_peer(lab_pacs_http.dicomweb_url), study.uid)

    assert isinstance(answer, Found)
    assert [len(series.instances) for series in answer.study.series] == [4, 4, 4]


async def test_ff12_a_capped_list_of_a_day_is_read_to_the_end(lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp):
    studies = [held(lab_pacs, time=f"1{number}0000") for number in range(5)]
    lab_pacs_http.page_max = 2

    answer = await ask_day(dicomweb_peer(lab_pacs_http.dicomweb_url))

    assert isinstance(answer, tuple)
    assert [listed.uid for listed in answer] == [study.uid for study in studies]


async def test_ff12_a_server_that_gives_the_same_page_again_is_unknown_at_once():
    asked = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        rows = {"studies": STUDY_ROW, "series": SERIES_ROW, "instances": INSTANCE_ROW}
        say(200, json.dumps([rows[handler.path.partition("?")[0].rpartition("/")[2]]]).encode(), KIND)(handler)

    with peer_that(answer) as peer:
        study, day = await ask(peer), await ask_day(peer)

    assert [getattr(one, "reason", None) for one in (study, day)] == ["paging-ignored", "paging-ignored"]
    assert len(asked) == 5  # the study; series and again; the day and again


async def test_ff12_pages_without_end_stop_at_the_row_cap():
    made = iter(range(10**9))

    def answer(handler: BaseHTTPRequestHandler) -> None:
        rows = [row(StudyInstanceUID=f"1.2.{next(made)}", StudyDate="20260112") for _ in range(10)]
        say(200, json.dumps(rows).encode(), KIND)(handler)

    with peer_that(answer, rows_max=45) as peer:
        day = await ask_day(peer)

    assert getattr(day, "reason", None) == "too-large"


async def test_ff12_a_row_that_moves_between_two_pages_is_never_left_out():
    """One of four studies goes away after the first page was read: the third would be skipped."""
    days = [row(StudyInstanceUID=f"1.2.{number}", StudyDate="20260112") for number in range(1, 5)]
    asked = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        held = days[1:] if asked else days
        asked.append(handler.path)
        offset = int(handler.path.rpartition("offset=")[2])
        say(200, json.dumps(held[offset : offset + 2]).encode(), KIND)(handler)

    with peer_that(answer) as peer:
        day = await ask_day(peer)

    assert getattr(day, "reason", None) == "changing"


async def test_ff12_a_day_list_of_another_day_is_unknown():
    with peer_that(table([row(StudyInstanceUID="1.2.3", StudyDate="20260111")])) as peer:
        assert getattr(await ask_day(peer), "reason", None) == "wrong-date"


async def test_queries_hold_no_escape_and_ask_for_what_a_search_leaves_out():
    asked = []
    well = table()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append((handler.path, handler.headers["Accept"]))
        well(handler)

    with peer_that(answer) as peer:
        assert isinstance(await ask(peer), Found)

    assert asked[0] == (
        f"/studies?StudyInstanceUID={STUDY}&includefield=00100021&includefield=00081030&limit=2",
        KIND,
    )
    series = "&".join(f"includefield={tag}" for tag in ("0008103E", "00180015", "00080021", "00080031", "00200060"))
    assert [path for path, _ in asked[1:]] == [
        f"/studies/{STUDY}/series?{series}&limit=5000&offset=0",
        f"/studies/{STUDY}/series?{series}&limit=5000&offset=1",
        f"/studies/{STUDY}/instances?includefield=0020000E&includefield=00280008&limit=5000&offset=0",
        f"/studies/{STUDY}/instances?includefield=0020000E&includefield=00280008&limit=5000&offset=1",
    ]


async def test_a_cancelled_question_frees_its_thread_and_its_socket(lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp):
    lab_pacs.fault = PacsFault.HANG
    source = DicomWebSource(dicomweb_peer(lab_pacs_http.dicomweb_url))
    question = asyncio.create_task(source.find(STUDY), name="question")
    await asyncio.sleep(0.3)
    began = time.monotonic()
    question.cancel()

    with pytest.raises(asyncio.CancelledError):
        await question

    assert time.monotonic() - began < 0.5
    await source.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]


async def test_t34_a_broken_exchange_leaves_no_uid_in_the_log(
    lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp, caplog: pytest.LogCaptureFixture
):
    study = held(lab_pacs)
    lab_pacs.fault = PacsFault.HANG
    caplog.set_level(logging.DEBUG)

    answer = await ask(dicomweb_peer(lab_pacs_http.dicomweb_url, deadline_s=0.3), study.uid)

    assert getattr(answer, "reason", None) == "timeout"
    assert study.uid not in caplog.text


# TLS


async def test_a_server_that_demands_our_certificate_gets_it_and_one_of_another_authority_is_refused(
    tmp_path: Path,
):
    now = datetime.now(UTC)
    span = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=1)}
    authority = LabAuthority.create(tmp_path / "pki", now=now)
    stranger = LabAuthority.create(tmp_path / "other", now=now)
    pacs = authority.issue("pacs", **span, purposes=(SERVER_AUTH,))
    ours = authority.issue("gateway", **span, purposes=(CLIENT_AUTH,))
    context = server_context(pacs.certificate, pacs.key, authority.certificate)
    with web_server(table(), tls=context) as url:
        known = dicomweb_peer(
            url.replace("127.0.0.1", "localhost"),
            ca_file=authority.certificate,
            certificate_file=ours.certificate,
            key_file=ours.key,
            timeout_s=5.0,
        )
        answers = [
            await ask(known),
            await ask(replace(known, certificate_file=None, key_file=None)),
            await ask(replace(known, ca_file=stranger.certificate)),
        ]

    assert isinstance(answers[0], Found)
    assert [getattr(answer, "reason", None) for answer in answers[1:]] == ["unreachable", "unreachable"]


# A client nobody here wrote


def test_an_independent_client_reads_the_labs_qido_face(lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp):
    client_api = pytest.importorskip("dicomweb_client.api", reason="dicomweb-client is not installed")
    study = held(lab_pacs, series=2, instances=3)
    client = client_api.DICOMwebClient(lab_pacs_http.dicomweb_url)

    studies = client.search_for_studies(search_filters={"StudyInstanceUID": study.uid})
    series = client.search_for_series(study.uid)
    instances = client.search_for_instances(study.uid, get_remaining=True)
    first = client.search_for_instances(study.uid, series[0]["0020000E"]["Value"][0])
    none = client.search_for_studies(search_filters={"StudyInstanceUID": "1.2.3"})

    assert [row["00100010"]["Value"] for row in studies] == [[{"Alphabetic": "FANTÔME-ÇIÈRÊS^Zoé Anaïs"}]]
    assert [row["00201209"]["Value"] for row in series] == [[3], [3]]
    assert {row["00080018"]["Value"][0] for row in instances} == {made.sop_instance for made in study.objects}
    assert len(first) == 3
    assert none == []


@pytest.mark.parametrize(
    "warning",
    [
        '299 pacs "There are 4 additional results that can be requested"',
        '299 pacs "The number of results exceeded the maximum supported by the server."',
    ],
)
async def test_ff12_a_server_that_says_there_is_more_and_then_gives_nothing_has_not_given_a_whole_list(warning: str):
    rows = {"studies": STUDY_ROW, "series": SERIES_ROW, "instances": INSTANCE_ROW}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        path, _, query = handler.path.partition("?")
        level = path.rpartition("/")[2]
        if "offset=" in query and not query.endswith("offset=0"):
            say(204, b"", KIND)(handler)
        else:
            more = {"Warning": warning} if level == "instances" else {}
            say(200, json.dumps([rows[level]]).encode(), KIND, **more)(handler)

    with peer_that(answer) as peer:
        found = await ask(peer)

    assert getattr(found, "reason", None) == "warned"
