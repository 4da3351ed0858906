"""From reports and the PACS's answer to one manifest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.assemble import assemble, orders_of, strictest
from indexer.manifest import content_hash
from indexer.report import Coded, Order, Professional, Visibility
from indexer.study import Instance, Series
from security.errors import BadInput
from security.identity import Ins, Uid
from tests.fixtures.exams import CONTEXT, CT, INS_TEST, MANIFEST, ORDER, OTHER_MATRICULE, PATIENT, REPORT, SITE, STUDY

SECOND = Order(accession_number="ACC2", accession_issuer="1.2.250.1.999.2", placer_number="PLA1", placer_issuer="")


def test_one_report_and_one_study_give_the_manifest_and_its_context() -> None:
    assert assemble([REPORT], PATIENT.ins, STUDY, SITE) == (MANIFEST, CONTEXT)


def test_the_newest_report_that_states_a_thing_gives_it() -> None:
    newer = replace(
        REPORT,
        legal_authenticator=Professional(identifier="801234500001", system="1.2.250.1.71.4.2.1"),
        facility_type=None,
        language="fr-BE",
    )
    _, context = assemble([REPORT, newer], PATIENT.ins, STUDY, SITE)
    assert context.legal_authenticator is not None
    assert context.legal_authenticator.identifier == "801234500001"
    assert context.facility_type == REPORT.facility_type
    assert context.language == "fr-BE"


def test_start_and_stop_are_of_the_same_report() -> None:
    later = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)
    newer = replace(REPORT, service_start=later, service_stop=None)
    _, context = assemble([REPORT, newer], PATIENT.ins, STUDY, SITE)
    assert (context.service_start, context.service_stop) == (later, None)
    only_stop = replace(REPORT, service_start=None, service_stop=datetime(2026, 1, 15, 7, 0, tzinfo=UTC))
    _, context = assemble([REPORT, only_stop], PATIENT.ins, STUDY, SITE)
    assert (context.service_start, context.service_stop) == (REPORT.service_start, REPORT.service_stop)
    _, context = assemble([only_stop], PATIENT.ins, STUDY, SITE)
    assert (context.service_start, context.service_stop) == (None, datetime(2026, 1, 15, 7, 0, tzinfo=UTC))


def test_orders_and_regions_of_all_reports_are_united_without_repetition() -> None:
    heart = Coded(code="80891009", system="2.16.840.1.113883.6.96", display="Cœur")
    newer = replace(REPORT, orders=(ORDER, SECOND), regions=(heart, *REPORT.regions))
    manifest, _ = assemble([REPORT, newer], PATIENT.ins, STUDY, SITE)
    assert manifest.orders == (ORDER, SECOND)
    assert manifest.regions == (*REPORT.regions, heart)


def test_a_report_of_two_studies_gives_each_study_its_own_order() -> None:
    report = replace(REPORT, orders=(ORDER, SECOND), studies=(STUDY.uid, Uid("1.2.250.1.999.10.2")))
    assert orders_of(report, STUDY) == (ORDER,)
    assert orders_of(report, replace(STUDY, accession_number="ACC2")) == (SECOND,)
    assert orders_of(report, replace(STUDY, accession_number="ACC3")) == ()


def test_a_report_of_one_study_gives_it_all_its_orders() -> None:
    assert orders_of(replace(REPORT, orders=(ORDER, SECOND)), STUDY) == (ORDER, SECOND)


@pytest.mark.parametrize(
    "restricted",
    [
        Visibility(masked_to_professionals=True),
        Visibility(invisible_to_patient=True),
        Visibility(invisible_to_guardians=True),
        Visibility(secret_connection=True),
        Visibility(for_index=False),
    ],
)
def test_the_strictest_visibility_counts_whoever_states_it(restricted: Visibility) -> None:
    assert strictest([restricted, Visibility()]) == restricted
    assert strictest([Visibility(), restricted]) == restricted


def test_a_change_of_visibility_speaks_of_its_message_only() -> None:
    assert strictest([Visibility(changes_confidentiality=True)]) == Visibility()


@pytest.mark.parametrize(("codes", "strict"), [("NR", "R"), ("RN", "R"), ("VRN", "V"), ("NN", "N")])
def test_the_strictest_confidentiality_counts(codes: str, strict: str) -> None:
    _, context = assemble([replace(REPORT, confidentiality=c) for c in codes], PATIENT.ins, STUDY, SITE)
    assert context.confidentiality == strict


def test_series_and_instances_stand_by_number_then_uid_those_without_number_last() -> None:
    def instance(uid: str, number: int | None) -> Instance:
        return Instance(sop_class=CT, sop_instance=Uid(uid), number=number)

    jumbled = Series(
        uid=Uid("1.1"),
        modality="CT",
        instances=(instance("1.9", None), instance("1.3", 2), instance("1.2", 2), instance("1.8", 1)),
    )
    first = Series(uid=Uid("1.2"), modality="CT", number=0, instances=(instance("1.1", 1),))
    manifest, _ = assemble([REPORT], PATIENT.ins, replace(STUDY, series=(jumbled, first)), SITE)
    assert [series.uid for series in manifest.series] == ["1.2", "1.1"]
    assert [i.sop_instance for i in manifest.series[1].instances] == ["1.8", "1.2", "1.3", "1.9"]


@given(order=st.permutations(range(6)), within=st.permutations(range(4)))
def test_i06_the_order_of_the_pacs_answer_changes_nothing(order: list[int], within: list[int]) -> None:
    series = [
        Series(
            uid=Uid(f"1.2.{n}"),
            modality="CT",
            number=n % 3 or None,
            instances=tuple(
                Instance(sop_class=CT, sop_instance=Uid(f"1.2.{n}.{i}"), number=i % 2 or None) for i in range(4)
            ),
        )
        for n in range(6)
    ]
    jumbled = tuple(replace(series[n], instances=tuple(series[n].instances[i] for i in within)) for n in order)
    plain = assemble([REPORT], PATIENT.ins, replace(STUDY, series=tuple(series)), SITE)
    other = assemble([REPORT], PATIENT.ins, replace(STUDY, series=jumbled), SITE)
    assert content_hash(*plain) == content_hash(*other)


def refusal(*args: object) -> str:
    with pytest.raises(BadInput) as caught:
        assemble(*args)  # type: ignore[arg-type]  # forwarded
    assert "FANTÔME" not in str(caught.value)
    return caught.value.code


def test_ff19_reports_about_two_people_make_no_manifest() -> None:
    stranger = Ins(matricule=OTHER_MATRICULE, oid=INS_TEST, status="")
    other = replace(REPORT, patient=replace(PATIENT, ins=stranger))
    assert refusal([other, REPORT], PATIENT.ins, STUDY, SITE) == "identity-ins"
    assert refusal([REPORT], None, STUDY, SITE) == "identity-ins-missing"


def test_a_study_whose_order_no_report_names_makes_no_manifest() -> None:
    report = replace(REPORT, studies=(STUDY.uid, Uid("1.2.3")))
    assert refusal([report], PATIENT.ins, replace(STUDY, accession_number="ACC9"), SITE) == "accession-unknown"


def test_an_unknown_confidentiality_code_makes_no_manifest() -> None:
    assert refusal([replace(REPORT, confidentiality="X")], PATIENT.ins, STUDY, SITE) == "confidentiality-unknown"


def test_a_body_part_is_coded_and_gives_the_coarse_region_where_no_report_states_one() -> None:
    """BodyPartExamined KNEE is 72696002, in the lower limb; what no table knows stays a text."""
    first, second = STUDY.series
    study = replace(STUDY, series=(replace(first, body_part="knee "), replace(second, body_part="OREILLE")))
    manifest, _ = assemble([replace(REPORT, regions=())], PATIENT.ins, study, SITE)
    placed = {one.body_part: one.region for one in manifest.series}
    assert placed == {
        "knee ": Coded(code="72696002", system="2.16.840.1.113883.6.96", display="Genou"),
        "OREILLE": None,
    }
    assert manifest.regions == (Coded(code="61685007", system="2.16.840.1.113883.6.96", display="Membre inférieur"),)


def test_the_regions_of_the_reports_outweigh_what_the_images_say() -> None:
    first, second = STUDY.series
    study = replace(STUDY, series=(replace(first, body_part="KNEE"), second))
    manifest, _ = assemble([REPORT], PATIENT.ins, study, SITE)
    assert manifest.regions == REPORT.regions


def test_a_region_the_archive_states_is_kept_and_two_series_of_one_region_state_it_once() -> None:
    hip = Coded(code="24136001", system="2.16.840.1.113883.6.96", display="Hip joint")
    foreign = Coded(code="T-D9200", system="SRT", display="Foot")
    first, second = STUDY.series
    study = replace(
        STUDY,
        series=(
            replace(first, body_part="HEAD", region=hip),
            replace(second, body_part="FOOT"),
            replace(second, uid=Uid("1.2.3"), region=foreign),
        ),
    )
    manifest, _ = assemble([replace(REPORT, regions=())], PATIENT.ins, study, SITE)
    assert [one.region and one.region.code for one in manifest.series] == ["24136001", "56459004", "T-D9200"]
    assert [one.code for one in manifest.regions] == ["61685007"]


def test_without_a_report_s_region_and_without_a_known_body_part_there_is_none() -> None:
    manifest, _ = assemble([replace(REPORT, regions=())], PATIENT.ins, STUDY, SITE)
    assert manifest.regions == ()
