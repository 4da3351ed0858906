"""The contract of ``indexer.ports.StudySource`` and ``StudyCalendar``, run against every adapter, each on the lab
PACS and on a PACS nobody here wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import count

import pytest

from gateway.pacs.dimse import DimseSource
from gateway.pacs.source import PacsSource
from indexer.report import Coded
from indexer.study import Absent, Found, KeyNote, ListedStudy
from security.identity import Uid
from tests.support.pacs import (
    dicomweb_peer,
    dimse_peer,
    invented,
    lab_pacs,
    lab_pacs_http,
    new_uid,
    orthanc,
    orthanc_peer,
    source_of,
)

__all__ = ["lab_pacs", "lab_pacs_http", "orthanc"]  # fixtures of this module

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
MR = "1.2.840.10008.5.1.4.1.1.4"
DX = "1.2.840.10008.5.1.4.1.1.1.1"


@dataclass
class Subject:
    """One adapter with a way to fill the PACS behind it."""

    source: PacsSource
    load: Callable[[Iterable[bytes]], None]
    delete_study: Callable[[str], None]
    control: Callable[[str], PacsSource]


@pytest.fixture(
    params=[
        "dimse-lab",
        "dicomweb-lab",
        "rest-lab",
        pytest.param("dimse-orthanc", marks=pytest.mark.orthanc),
        pytest.param("dicomweb-orthanc", marks=pytest.mark.orthanc),
        pytest.param("rest-orthanc", marks=pytest.mark.orthanc),
    ]
)
async def pacs(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    door, _, behind = request.param.partition("-")
    if behind == "lab":
        node, face = request.getfixturevalue("lab_pacs"), request.getfixturevalue("lab_pacs_http")
        peer = {
            "dimse": dimse_peer(port=node.port, called_aet=node.aet),
            "dicomweb": dicomweb_peer(face.dicomweb_url),
            "rest": orthanc_peer(face),
        }[door]
    else:
        node = request.getfixturevalue("orthanc")
        peer = {
            "dimse": dimse_peer(port=node.dicom_port, called_aet=node.aet),
            "dicomweb": dicomweb_peer(node.url + "/dicom-web", username=node.username, password=node.password),
            "rest": orthanc_peer(node),
        }[door]
    made = []

    def source(control: str | None = None) -> PacsSource:
        made.append(source_of(replace(peer, control=Uid(control) if control else None)))
        return made[-1]

    yield Subject(source=source(), load=node.load, delete_study=node.delete_study, control=source)
    for one in made:
        await one.close()


async def test_a_study_is_found_with_every_series_and_the_class_of_each_instance(pacs: Subject):
    study = invented()
    first = study.add_series("CT", instances=3, description="Sans injection à 5 mm", body_part="CHEST")
    study.add_image("CT", series=first, number=4, frames=6)  # one series, two classes, one multi-frame
    study.add_series("MR", instances=2)
    study.adopt("CT_small.dcm")
    pacs.load(made.data for made in study.objects)

    answer = await pacs.source.find(study.uid)

    assert isinstance(answer, Found)
    found = answer.study
    assert found.uid == study.uid
    assert [(s.modality, s.number, s.description, s.body_part) for s in found.series] == [
        ("CT", 1, "Sans injection à 5 mm", "CHEST"),
        ("MR", 2, "", ""),
        ("CT", 3, "", ""),
    ]
    assert [[(i.number, i.sop_class, i.frames) for i in s.instances] for s in found.series] == [
        [(1, CT, None), (2, CT, None), (3, CT, None), (4, ENHANCED_CT, 6)],
        [(1, MR, None), (2, MR, None)],
        [(1, CT, None)],
    ]
    assert {i.sop_instance for s in found.series for i in s.instances} == {
        made.sop_instance for made in study.objects
    }


async def test_french_names_arrive_accent_by_accent(pacs: Subject):
    study = invented(patient_id="IPP0042", accession="ACC-É-1")
    study.add_series("DX")
    pacs.load(made.data for made in study.objects)

    answer = await pacs.source.find(study.uid)

    assert isinstance(answer, Found)
    patient = answer.study.patient
    assert patient.name == "FANTÔME-ÇIÈRÊS^Zoé Anaïs"
    assert (patient.patient_id, patient.issuer) == ("IPP0042", "CHU-FANTÔME")
    assert (patient.birth_date, patient.sex) == ("19700228", "F")
    assert (answer.study.accession_number, answer.study.study_id) == ("ACC-É-1", "1")
    assert (answer.study.date, answer.study.time) == ("20260112", "093015")
    assert answer.study.description == "Scanner thoracique à l'été"
    assert answer.study.referring_physician == "MÉDECIN^Noëlle"


async def test_a_study_the_living_pacs_does_not_hold_is_absent(pacs: Subject):
    answer = await pacs.source.find(Uid(new_uid()))

    assert isinstance(answer, Absent)


async def test_absence_counts_when_the_control_study_is_there(pacs: Subject):
    control = invented()
    control.add_series("DX")
    pacs.load(made.data for made in control.objects)

    answer = await pacs.control(control.uid).find(Uid(new_uid()))

    assert isinstance(answer, Absent)
    assert answer.evidence.endswith("control study: found")


async def test_ff54_absence_counts_for_nothing_when_the_control_study_is_missing_too(pacs: Subject):
    answer = await pacs.control(new_uid()).find(Uid(new_uid()))

    assert getattr(answer, "reason", None) == "control-missing"


async def test_a_deleted_study_is_absent(pacs: Subject):
    study = invented()
    study.add_series("DX")
    pacs.load(made.data for made in study.objects)
    pacs.delete_study(study.uid)

    assert isinstance(await pacs.source.find(study.uid), Absent)


async def test_an_instance_that_arrives_later_is_in_the_next_answer(pacs: Subject):
    study = invented()
    series = study.add_series("CT")
    pacs.load(made.data for made in study.objects)
    before = await pacs.source.find(study.uid)
    late = study.add_image("CT", series=series, number=2)
    pacs.load([late.data])

    after = await pacs.source.find(study.uid)

    assert isinstance(before, Found)
    assert isinstance(after, Found)
    assert [i.number for i in before.study.series[0].instances] == [1]
    assert [i.number for i in after.study.series[0].instances] == [1, 2]


async def test_two_studies_of_one_patient_do_not_mix(pacs: Subject):
    one, other = invented(patient_id="IPP0099"), invented(patient_id="IPP0099")
    one.add_series("CT", instances=2)
    other.add_series("MR", instances=3)
    pacs.load(made.data for made in one.objects + other.objects)

    answers = [await pacs.source.find(one.uid), await pacs.source.find(other.uid)]

    assert all(isinstance(answer, Found) for answer in answers)
    assert [[s.modality for s in answer.study.series] for answer in answers] == [["CT"], ["MR"]]
    assert [len(answer.study.series[0].instances) for answer in answers] == [2, 3]


async def test_eight_questions_at_once_get_their_own_answers(pacs: Subject):
    studies = [invented(accession=f"ACC-{number}") for number in range(8)]
    for number, study in enumerate(studies):
        study.add_series("DX", instances=number + 1)
        pacs.load(made.data for made in study.objects)

    answers = await asyncio.gather(*(pacs.source.find(study.uid) for study in studies))

    assert [answer.study.accession_number for answer in answers] == [f"ACC-{number}" for number in range(8)]
    assert [len(answer.study.series[0].instances) for answer in answers] == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_deleted_series_is_no_longer_announced(pacs: Subject):
    study = invented()
    study.add_series("CT", instances=2)
    study.add_series("MR")
    pacs.load(made.data for made in study.objects)
    whole = await pacs.source.find(study.uid)
    pacs.delete_study(study.uid)
    pacs.load(made.data for made in study.objects[:2])

    part = await pacs.source.find(study.uid)

    assert isinstance(whole, Found)
    assert isinstance(part, Found)
    assert [s.modality for s in whole.study.series] == ["CT", "MR"]
    assert [s.modality for s in part.study.series] == ["CT"]


async def test_twenty_series_are_all_there_each_time(pacs: Subject):
    study = invented()
    for _ in range(20):
        study.add_series("CT")
    pacs.load(made.data for made in study.objects)

    answers = [await pacs.source.find(study.uid) for _ in range(3)]

    assert all(isinstance(answer, Found) for answer in answers)
    assert [len(answer.study.series) for answer in answers] == [20, 20, 20]


DAYS = (date(1990, 1, 2) + timedelta(days=3 * number) for number in count())
"""Days, with their neighbours, that no other test of the session uses: its Orthanc is shared."""


async def test_the_studies_of_a_day_are_listed_by_time_without_those_of_its_neighbours(pacs: Subject):
    day = next(DAYS)
    before, after = day - timedelta(days=1), day + timedelta(days=1)
    late = invented(date=f"{day:%Y%m%d}", time="171500", accession="")
    late.add_series("DX", instances=2)
    early = invented(date=f"{day:%Y%m%d}", time="080000", accession="ACC-7")
    early.add_series("MR")
    early.add_series("CT")
    others = [invented(date=f"{other:%Y%m%d}") for other in (before, after)]
    for other in others:
        other.add_series("DX")
    pacs.load(made.data for study in (late, early, *others) for made in study.objects)

    answer = await pacs.source.studies_on(day)

    assert answer == (
        ListedStudy(uid=early.uid, time="080000", modalities=("CT", "MR"), has_accession=True),
        ListedStudy(uid=late.uid, time="171500", modalities=("DX",), has_accession=False),
    )


async def test_a_day_without_studies_is_an_empty_list(pacs: Subject):
    assert await pacs.source.studies_on(next(DAYS)) == ()


async def test_a_series_tells_when_it_was_made_and_of_which_side(pacs: Subject):
    study = invented(date="20260112", time="093015")
    study.add_series("DX", laterality="L")
    study.add_series("DX")
    pacs.load(made.data for made in study.objects)

    answer = await pacs.source.find(study.uid)

    assert isinstance(answer, Found)
    told = [(series.date, series.time, series.laterality) for series in answer.study.series]
    assert told == [("20260112", "093015", "L"), ("20260112", "093015", "")]


async def test_a_key_image_note_tells_what_it_points_at_where_the_door_shows_content(pacs: Subject):
    study = invented()
    study.add_series("CT", instances=3)
    pointed = study.objects[1:3]
    made = study.add_note(("113000", "Of Interest"), description="Nodule à l'été", references=pointed)
    pacs.load(each.data for each in study.objects)

    answer = await pacs.source.find(study.uid)

    assert isinstance(answer, Found)
    by_uid = {one.sop_instance: one for series in answer.study.series for one in series.instances}
    assert len(by_uid) == 4
    if isinstance(pacs.source, DimseSource):  # a query shows no content
        assert {one.note for one in by_uid.values()} == {None}
        return
    assert [uid for uid, one in by_uid.items() if one.note is not None] == [made.sop_instance]
    assert by_uid[made.sop_instance].note == KeyNote(
        title=Coded(code="113000", system="1.2.840.10008.2.16.4", display="Of Interest"),
        description="Nodule à l'été",
        references=tuple(one.sop_instance for one in pointed),
    )
