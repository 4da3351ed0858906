import pytest

from gateway.pacs import door
from gateway.pacs.door import Inconclusive
from indexer.study import Instance, PacsPatient, Series
from security.identity import Uid

NOBODY = PacsPatient(patient_id="IPP1", issuer="", name="TEST-DUPONT^Zoé", birth_date="19700228", sex="F")


def instance(number: int | None, uid: str) -> Instance:
    return Instance(sop_class=Uid("1.2.840.10008.5.1.4.1.1.2"), sop_instance=Uid(uid), number=number)


def series(number: str, uid: str, *instances: Instance) -> Series:
    return door.series(
        series_uid=uid, modality="CT", number_text=number, description="", body_part="", instances=instances
    )


def study(*listed: Series) -> object:
    return door.study(
        study_uid=Uid("1.2.3"), patient=NOBODY, accession_number="", date="", time="", description="", study_id="",
        referring_physician="", series=listed,
    )  # fmt: skip


def reason(build: object) -> str:
    with pytest.raises(Inconclusive) as raised:
        build()  # type: ignore[operator]
    return raised.value.reason


def test_series_and_instances_are_ordered_by_number_then_uid_and_silence_comes_last():
    one = series("2", "1.2.3.2", instance(None, "1.9"), instance(10, "1.2"), instance(9, "1.4"), instance(9, "1.3"))
    other = series("1", "1.2.3.9", instance(1, "1.5"))

    made = study(one, series("", "1.2.3.1", instance(1, "1.6")), other)

    assert [s.uid for s in made.series] == ["1.2.3.9", "1.2.3.2", "1.2.3.1"]
    assert [i.sop_instance for i in made.series[1].instances] == ["1.3", "1.4", "1.2", "1.9"]


@pytest.mark.parametrize("value", ["", "abc", "1..2", "1" * 65])
def test_an_empty_or_invalid_uid_is_a_bad_answer(value: str):
    assert reason(lambda: door.uid(value, keyword="SOPInstanceUID")) == "bad-answer"


def test_a_series_without_instances_and_a_study_without_series_are_bad_answers():
    assert reason(lambda: series("1", "1.2.3.1")) == "bad-answer"
    assert reason(study) == "bad-answer"


def test_ff09_one_instance_in_two_series_is_a_bad_answer():
    one, other = series("1", "1.2.3.1", instance(1, "1.5")), series("2", "1.2.3.2", instance(1, "1.5"))

    assert reason(lambda: study(one, other)) == "bad-answer"


@pytest.mark.parametrize("value", ["FANT\ufffdME", "FANT\x94ME", "FANTOME\nMSH|"])
def test_ff10_a_harmed_name_is_no_identity(value: str):
    assert reason(lambda: door.identity(value, exact=True, keyword="PatientName")) == "undecodable-identity"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        (" 12 ", 12),
        ("-1", -1),
        ("+5", 5),
        ("9" * 12, 999_999_999_999),
        ("", None),
        ("-", None),
        ("-+5", None),
        ("1A", None),
        ("1\n", None),
        ("²", None),
        ("\u0665", None),  # five in Arabic digits
        ("9" * 13, None),
    ],
)
def test_an_integer_string_is_read_or_ignored(text: str, value: int | None):
    assert door.number(text) == value
