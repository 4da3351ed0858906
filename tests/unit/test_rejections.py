"""What a rejection note says, and what a manifest may list after it (IHE RAD-66, PS3.16 CID 7010)."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lab.phantom import LabStudy
from indexer.imaging.rejections import HIDING, shown
from indexer.kos.rejection import TITLES, read_rejection
from indexer.notes import KEY_OBJECT_SELECTION
from indexer.report import Coded
from indexer.study import Instance, KeyNote, PacsPatient, Series, Study
from security.errors import BadInput
from security.identity import Uid
from tests.fixtures import rejections as made
from tests.fixtures.dicom_objects import CT

STUDY = Uid("1.2.250.1.999.6.1")
DCM = "1.2.840.10008.2.16.4"
WHO = {"PatientID": "IPP-1", "PatientName": "FANTÔME^ZOÉ", "PatientBirthDate": "19700228", "PatientSex": "F"}


def images(number: int = 3) -> LabStudy:
    study = LabStudy(
        study_uid=STUDY, patient_id="IPP-1", name="FANTÔME^ZOÉ", birth_date="19700228", sex="F", accession="ACC"
    )
    study.add_series("CT", instances=number)
    return study


def held(*instances: Instance) -> Study:
    return Study(
        uid=STUDY,
        patient=PacsPatient(patient_id="IPP-1", issuer="", name="FANTÔME^ZOÉ", birth_date="19700228", sex="F"),
        accession_number="ACC",
        date="20260112",
        time="",
        series=(Series(uid=Uid(f"{STUDY}.1"), modality="CT", instances=instances),),
    )


def image(number: int) -> Instance:
    return Instance(sop_class=Uid(CT), sop_instance=Uid(f"{STUDY}.1.{number}"))


def key(number: int, title: str, *references: int) -> Instance:
    pointed = tuple(image(one).sop_instance for one in references)
    note = KeyNote(title=Coded(code=title, system=DCM, display=""), references=pointed)
    return Instance(sop_class=KEY_OBJECT_SELECTION, sop_instance=Uid(f"{STUDY}.9.{number}"), note=note)


@pytest.mark.parametrize("title", list(TITLES))
def test_a_note_of_each_title_says_which_instances_of_whom(title: str) -> None:
    objects = images().objects[:2]
    read = read_rejection(made.note({STUDY: objects}, title=title, **WHO))
    assert read.title == title
    assert read.patient == PacsPatient(
        patient_id="IPP-1", issuer="", name="FANTÔME^ZOÉ", birth_date="19700228", sex="F"
    )
    (one,) = read.studies
    assert (one.study, one.instances) == (STUDY, tuple(sorted(each.sop_instance for each in objects)))


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (lambda o: made.note({STUDY: o}, title="113000"), "iocm-title"),
        (lambda o: made.note({STUDY: o}, title="113030"), "iocm-title"),
        (lambda o: made.note({STUDY: o}, flagged=o[:1]), "iocm-evidence"),
        (lambda o: made.note({STUDY: o[:1]}, flagged=o), "iocm-evidence"),
        (lambda o: made.note({STUDY: ()}), "iocm-evidence"),
        (lambda o: made.note({STUDY: o, Uid("1.2.250.1.999.6.2"): o}), "iocm-evidence"),
        (lambda o: made.note({"": o}), "iocm-uid"),
        (lambda o: o[0].data, "iocm-not-kos"),
        (lambda o: made.note({STUDY: o})[:-5], "dicom-truncated"),
        (lambda _: b"nothing of DICOM", "dicom-not-part10"),
    ],
)
def test_what_is_no_note_that_can_be_obeyed_is_named(told: object, code: str) -> None:
    assert callable(told)
    with pytest.raises(BadInput) as caught:
        read_rejection(told(images().objects))
    assert caught.value.code == code
    assert caught.value.hint


@given(data=st.binary(max_size=400), cut=st.integers(min_value=0, max_value=2000))
def test_t13_whatever_the_bytes_are_the_caller_sees_a_note_or_bad_input(data: bytes, cut: int) -> None:
    whole = made.note({STUDY: images().objects}, **WHO)
    with contextlib.suppress(BadInput):
        assert read_rejection(whole[:cut] + data + whole[cut + len(data) :]).title in TITLES


@pytest.mark.parametrize("title", list(TITLES))
def test_only_titles_that_hide_take_instances_out(title: str) -> None:
    study = held(image(1), image(2))
    left = shown(study, {image(1).sop_instance: frozenset({title})}, HIDING)
    assert left is not None
    expected = (image(2),) if title != "113039" else (image(1), image(2))
    assert left.series[0].instances == expected
    assert shown(study, {image(1).sop_instance: frozenset({title})}, frozenset({title})) == held(image(2))
    assert shown(study, {image(1).sop_instance: frozenset({title})}, frozenset()) == study


def test_of_several_titles_one_that_hides_is_enough() -> None:
    rejected = {image(1).sop_instance: frozenset({"113039", "113001"})}
    assert shown(held(image(1), image(2)), rejected, HIDING) == held(image(2))


def test_nothing_left_is_none_and_an_empty_series_is_not_listed() -> None:
    rejected = dict.fromkeys((image(1).sop_instance, image(2).sop_instance), frozenset({"113037"}))
    assert shown(held(image(1), image(2)), rejected, HIDING) is None
    other = replace(held(image(3)).series[0], uid=Uid(f"{STUDY}.2"))
    study = replace(held(image(1)), series=(*held(image(1)).series, other))
    assert shown(study, rejected, HIDING) == replace(study, series=(other,))


def test_a_note_that_the_pacs_lists_itself_hides_too_and_is_never_listed() -> None:
    assert shown(held(image(1), image(2), key(1, "113001", 1)), {}, HIDING) == held(image(2))
    assert shown(held(image(1), key(1, "113039", 1)), {}, HIDING) == held(image(1))


def test_a_key_image_note_keeps_what_it_points_at_among_the_images_that_are_left() -> None:
    study = held(image(1), image(2), key(1, "113000", 1, 2))
    left = shown(study, {image(1).sop_instance: frozenset({"113037"})}, HIDING)
    assert left == held(image(2), key(1, "113000", 2))


@given(
    rejected=st.dictionaries(st.integers(1, 6), st.frozensets(st.sampled_from(list(TITLES)), min_size=1), max_size=6),
    hiding=st.frozensets(st.sampled_from(list(TITLES))),
)
def test_nothing_hidden_is_ever_listed_and_nothing_else_is_lost(
    rejected: dict[int, frozenset[str]], hiding: frozenset[str]
) -> None:
    study = held(*(image(number) for number in range(1, 7)))
    left = shown(study, {image(number).sop_instance: titles for number, titles in rejected.items()}, hiding)
    listed = {one.sop_instance for series in left.series for one in series.instances} if left else set()
    hidden = {image(number).sop_instance for number, titles in rejected.items() if titles & hiding}
    assert listed == {image(number).sop_instance for number in range(1, 7)} - hidden
