"""The identity gate: every field, every pair of sources, and what must not count as a difference."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from indexer.gate import Conflict, Held, Rules, Verdict, against_pacs, before_ack
from indexer.report import Order, Report
from indexer.study import Study
from security.identity import Ins, LocalId, PatientIdentity, Uid
from tests.fixtures.exams import INS_TEST, MATRICULE, ORDER, OTHER_MATRICULE, PATIENT, REPORT, STUDY, TRAITS

OTHER_INS = Ins(matricule=OTHER_MATRICULE, oid=INS_TEST, status="VALI")
NIR = "1.2.250.1.213.1.4.8"
HOLD = Rules(birthplace_history="hold", test_identity="off")


def traits(**changes: object) -> PatientIdentity:
    """The patient with other traits."""
    return replace(PATIENT, traits=replace(TRAITS, **changes))


def ins(**changes: str) -> PatientIdentity:
    assert PATIENT.ins is not None
    return replace(PATIENT, ins=replace(PATIENT.ins, **changes))


def judge(
    envelope: PatientIdentity = PATIENT, cda: PatientIdentity = PATIENT, *held: Held, rules: Rules = HOLD
) -> Verdict:
    return before_ack(envelope=envelope, report=replace(REPORT, patient=cda), held=held, rules=rules)


def held(patient: PatientIdentity, *shares: str) -> Held:
    return Held(patient=patient, source="report 1.2.3", shares=frozenset(shares))  # type: ignore[arg-type]  # literals


def pacs(report: Report = REPORT, rules: Rules = HOLD, **changes: str) -> Verdict:
    """The report against a PACS that states something else about patient or study."""
    of_study = {name: value for name, value in changes.items() if name == "accession_number"}
    of_patient = {name: value for name, value in changes.items() if name not in of_study}
    study: Study = replace(STUDY, patient=replace(STUDY.patient, **of_patient), **of_study)
    return against_pacs(report=report, study=study, rules=rules)


def facts(verdict: Verdict) -> list[tuple[str, str, str, str, str]]:
    return [(c.code, c.left_source, c.left, c.right_source, c.right) for c in verdict.conflicts]


def test_sources_that_agree_pass() -> None:
    assert judge(PATIENT, PATIENT, held(PATIENT, "ins", "local-id", "study")) == Verdict()
    assert pacs() == Verdict()


OTHERS = [
    ("identity-ins", {"ins": OTHER_INS}, MATRICULE, OTHER_MATRICULE),
    ("identity-birth-name", {"birth_name": "SPECTRE"}, "FANTÔME", "SPECTRE"),
    ("identity-first-given-name", {"first_given_name": "ZOÉ"}, "LÉA", "ZOÉ"),
    ("identity-sex", {"sex": "M"}, "F", "M"),
    ("identity-birth-date", {"birth_date": date(1985, 6, 8)}, "19850607", "19850608"),
    ("identity-birthplace", {"birthplace": "33063"}, "75112", "33063"),
]


def other(change: dict[str, object]) -> PatientIdentity:
    if "ins" in change:
        return replace(PATIENT, ins=OTHER_INS)
    return traits(**change)


@pytest.mark.parametrize(("code", "change", "ours", "theirs"), OTHERS, ids=[row[0] for row in OTHERS])
def test_ff19_hl7_against_cda_holds_with_both_values(
    code: str, change: dict[str, object], ours: str, theirs: str
) -> None:
    verdict = judge(PATIENT, other(change))
    assert verdict.holds
    assert facts(verdict) == [(code, "HL7", ours, "CDA", theirs)]
    assert verdict.reason == code


@pytest.mark.parametrize(("code", "change", "ours", "theirs"), OTHERS[1:], ids=[row[0] for row in OTHERS[1:]])
def test_ff19_same_ins_as_a_held_report_with_other_traits_holds(
    code: str, change: dict[str, object], ours: str, theirs: str
) -> None:
    verdict = judge(PATIENT, PATIENT, held(other(change), "ins"))
    assert verdict.holds
    assert facts(verdict) == [(code, "CDA", ours, "report 1.2.3", theirs)]


@pytest.mark.parametrize("share", ["local-id", "study", "accession"])
def test_ff19_what_shares_an_identifier_must_share_the_ins(share: str) -> None:
    verdict = judge(PATIENT, PATIENT, held(replace(PATIENT, ins=OTHER_INS), share))
    assert verdict.holds
    assert facts(verdict) == [("identity-ins", "CDA", MATRICULE, "report 1.2.3", OTHER_MATRICULE)]


@pytest.mark.parametrize(
    ("code", "change", "ours", "theirs"),
    [
        ("identity-local-id", {"patient_id": "IPP-2"}, "IPP-1", "IPP-2"),
        ("identity-local-id", {"patient_id": ""}, "IPP-1", ""),
        (
            "identity-local-id",
            {"issuer": "1.2.250.1.999.77"},
            "IPP-1 (1.2.250.1.999.1)",
            "IPP-1 (1.2.250.1.999.77)",
        ),
        ("accession-unknown", {"accession_number": "ACC2"}, "ACC1", "ACC2"),
        ("accession-unknown", {"accession_number": ""}, "ACC1", ""),
        ("identity-name", {"name": "SPECTRE^LEA"}, "FANTÔME^LÉA", "SPECTRE^LEA"),
        ("identity-name", {"name": "FANTOME^ZOE"}, "FANTÔME^LÉA", "FANTOME^ZOE"),
        ("identity-birth-date", {"birth_date": "19850706"}, "19850607", "19850706"),
        ("identity-sex", {"sex": "M"}, "F", "M"),
    ],
)
def test_ff19_report_against_pacs_holds_with_both_values(
    code: str, change: dict[str, str], ours: str, theirs: str
) -> None:
    verdict = pacs(**change)
    assert verdict.holds
    assert facts(verdict) == [(code, "CDA", ours, "PACS", theirs)]


def test_ff19_several_disagreements_are_all_named() -> None:
    verdict = pacs(name="SPECTRE^ZOE", birth_date="19700101", patient_id="X")
    assert [conflict.code for conflict in verdict.conflicts] == [
        "identity-local-id",
        "identity-name",
        "identity-birth-date",
    ]
    assert verdict.reason == "identity-local-id"


@pytest.mark.parametrize("status", ["PROV", "VIDE", "", "vali"])
def test_ff19_an_ins_that_is_not_qualified_holds(status: str) -> None:
    assert facts(judge(ins(status=status))) == [("identity-ins-status", "HL7", status, "rule", "VALI")]


def test_ff19_a_matricule_with_a_wrong_key_holds() -> None:
    wrong = MATRICULE[:-1] + "8"
    verdict = judge(ins(matricule=wrong), ins(matricule=wrong))
    assert facts(verdict) == [("identity-ins-key", "HL7", wrong, "rule", "")]
    assert verdict.holds


def test_ff19_an_unknown_authority_holds() -> None:
    assert judge(ins(oid="1.2.3"), ins(oid="1.2.3")).reason == "identity-ins-authority"


def test_ff19_the_same_matricule_of_another_authority_holds() -> None:
    verdict = judge(PATIENT, ins(oid=NIR))
    assert facts(verdict) == [("identity-ins-authority", "HL7", INS_TEST, "CDA", NIR)]


def test_ff19_a_matricule_that_contradicts_sex_and_birth_date_holds() -> None:
    stranger = traits(sex="M", birth_date=date(1979, 3, 7))
    verdict = judge(stranger, stranger)
    assert facts(verdict) == [
        ("identity-ins-digits", "INS digits", MATRICULE, "HL7", "M"),
        ("identity-ins-digits", "INS digits", MATRICULE, "HL7", "1979"),
        ("identity-ins-digits", "INS digits", MATRICULE, "HL7", "03"),
    ]
    assert verdict.holds


@pytest.mark.parametrize(
    ("code", "empty"),
    [
        ("identity-ins-missing", replace(PATIENT, ins=None)),
        ("identity-birth-name-missing", traits(birth_name=" - ")),
        ("identity-first-given-name-missing", traits(first_given_name="")),
        ("identity-sex-missing", traits(sex="")),
        ("identity-birth-date-missing", traits(birth_date=None)),
    ],
)
def test_ff19_a_mandatory_field_that_hl7_or_cda_leaves_out_holds(code: str, empty: PatientIdentity) -> None:
    assert judge(empty, PATIENT).reason == code
    assert judge(PATIENT, empty).reason == code
    assert judge(empty, empty).reason == code


def test_what_a_source_need_not_state_may_be_missing() -> None:
    silent = replace(traits(birthplace="", given_names="", used_name=""), local_ids=())
    assert judge(silent, PATIENT) == Verdict()
    assert judge(PATIENT, PATIENT, held(silent, "ins")) == Verdict()
    assert pacs(name="", birth_date="", sex="") == Verdict()


@pytest.mark.parametrize("birth_name", ["FANTOME", "fantôme", "Fantome", " FANTO\u0302ME ", "FANTÔME"])
def test_case_and_accents_are_no_difference(birth_name: str) -> None:
    assert judge(PATIENT, traits(birth_name=birth_name)) == Verdict()


@pytest.mark.parametrize("written", ["D'ŒUVRE-LÀ", "D’OEUVRE LA", "D OEUVRE   LA", "d'œuvre‐là"])
def test_apostrophes_hyphens_blanks_and_ligatures_are_no_difference(written: str) -> None:
    assert judge(traits(birth_name="D'OEUVRE-LA"), traits(birth_name=written)) == Verdict()


@pytest.mark.parametrize("written", ["FANTOM", "FANTOME SPECTRE", "FAN TOME"])
def test_a_part_of_a_name_is_another_name(written: str) -> None:
    assert judge(PATIENT, traits(birth_name=written)).reason == "identity-birth-name"


@pytest.mark.parametrize(
    "name",
    [
        "FANTOME^LEA",
        "Fantôme^Léa^^^",
        "TEST DUPONT^LEA",  # used name
        "FANTOME^LEA MARIE-JOSE",  # the whole list of given names
        "FANTOME^LEA^MARIE JOSE",  # the second one as middle name
        "FANTOME^LEA=幽霊^レア",  # ideographic group beside it
        "FANTOME^",
    ],
)
def test_a_pacs_name_that_says_the_same_person_passes(name: str) -> None:
    assert pacs(name=name) == Verdict()


@pytest.mark.parametrize(
    "name", ["FANTOME^LE", "FANTOME^MARIE JOSE", "FANTOME LEA", "LEA^FANTOME", "FANTOME^LEA MARIE"]
)
def test_a_pacs_name_that_only_resembles_holds(name: str) -> None:
    assert pacs(name=name).reason == "identity-name"


@pytest.mark.parametrize("sex", ["O", ""])
def test_a_pacs_sex_of_other_or_nothing_says_nothing(sex: str) -> None:
    assert pacs(sex=sex) == Verdict()


def test_a_label_in_the_pacs_issuer_is_not_compared() -> None:
    assert pacs(issuer="HOPITAL") == Verdict()


def test_a_report_without_local_id_holds_against_the_pacs() -> None:
    assert pacs(replace(REPORT, patient=replace(PATIENT, local_ids=()))).reason == "identity-local-id"


def test_any_order_of_the_report_may_be_the_one_of_the_pacs() -> None:
    second = Order(accession_number="ACC2", accession_issuer="", placer_number="PLA1", placer_issuer="")
    two = replace(REPORT, orders=(ORDER, second), studies=(*REPORT.studies, Uid("1.2.3")))
    assert pacs(two, accession_number="ACC2") == Verdict()


def ids(*pairs: tuple[str, str]) -> PatientIdentity:
    return replace(PATIENT, local_ids=tuple(LocalId(value=value, issuer=issuer) for value, issuer in pairs))


@pytest.mark.parametrize(
    ("hl7", "cda"),
    [
        (ids(("1", "1.2"), ("2", "1.3")), ids(("2", "1.3"))),
        (ids(("1", "1.2")), ids(("9", "1.3"))),  # two registers say nothing about each other
        (ids(("1", "")), ids(("1", "1.2"), ("9", "1.3"))),
        (ids(("1", "1.2"), ("7", "1.2")), ids(("1", "1.2"))),  # merged in one register
    ],
)
def test_local_ids_that_can_be_the_same_person_pass(hl7: PatientIdentity, cda: PatientIdentity) -> None:
    assert judge(hl7, cda) == Verdict()


@pytest.mark.parametrize(
    ("hl7", "cda"),
    [
        (ids(("1", "1.2")), ids(("2", "1.2"))),
        (ids(("1", "1.2"), ("5", "1.3")), ids(("1", "1.2"), ("6", "1.3"))),
        (ids(("1", "")), ids(("2", "1.2"))),
        (ids(("1", "")), ids(("2", ""))),
    ],
)
def test_ff19_local_ids_of_one_register_that_differ_hold(hl7: PatientIdentity, cda: PatientIdentity) -> None:
    assert judge(hl7, cda).reason == "identity-local-id"


def test_another_birthplace_than_the_held_one_warns_by_default() -> None:
    verdict = judge(PATIENT, PATIENT, held(traits(birthplace="33063"), "ins"), rules=Rules(test_identity="off"))
    assert [(c.code, c.severity) for c in verdict.conflicts] == [("identity-birthplace", "warn")]
    assert not verdict.holds
    assert verdict.reason == ""


@pytest.mark.parametrize(
    ("rule", "envelope", "change"),
    [
        ("nir_digits", traits(sex="M"), {}),
        ("pacs_name", PATIENT, {"name": "SPECTRE^LEA"}),
        ("pacs_birth_date", PATIENT, {"birth_date": "19000101"}),
        ("pacs_sex", PATIENT, {"sex": "M"}),
    ],
)
def test_a_tenant_may_weigh_a_rule(rule: str, envelope: PatientIdentity, change: dict[str, str]) -> None:
    def severities(weight: str) -> list[str]:
        rules = Rules(**{"test_identity": "off", rule: weight})  # type: ignore[arg-type]  # parametrised name
        verdict = pacs(rules=rules, **change) if change else judge(envelope, envelope, rules=rules)
        return [conflict.severity for conflict in verdict.conflicts]

    assert severities("hold") == ["hold"]
    assert severities("warn") == ["warn"]
    assert severities("off") == []


def test_the_same_disagreement_with_many_held_reports_is_said_once() -> None:
    many = [replace(held(traits(sex="M"), "ins"), source=f"report {n}") for n in range(50)]
    assert [conflict.right_source for conflict in judge(PATIENT, PATIENT, *many).conflicts] == ["report 0"]


def test_repr_and_summary_mask_the_values() -> None:
    verdict = judge(PATIENT, traits(birth_name="SPECTRE"))
    shown = repr(verdict) + str(verdict) + verdict.summary() + "".join(c.summary() for c in verdict.conflicts)
    assert verdict.summary() == "birth name: HL7 F…(7), CDA S…(7)"
    assert "SPECTRE" not in shown
    assert "FANTÔME" not in shown


def test_a_conflict_keeps_its_values_for_the_sealed_record() -> None:
    conflict = judge(PATIENT, traits(birth_name="SPECTRE")).conflicts[0]
    assert conflict == Conflict(
        code="identity-birth-name",
        field="birth name",
        left_source="HL7",
        left="FANTÔME",
        right_source="CDA",
        right="SPECTRE",
        severity="hold",
    )


def test_a_matricule_of_a_test_authority_never_reaches_a_real_index_unless_the_tenant_says_so() -> None:
    verdict = judge(PATIENT, PATIENT, rules=Rules())
    assert [(conflict.code, conflict.severity) for conflict in verdict.conflicts] == [
        ("identity-test-authority", "hold")
    ]


@pytest.mark.parametrize("name", ["FANTOM^LEA", "TOME^LEA", "DUPONT^LEA", "F^LEA"])
def test_a_pacs_family_name_in_part_holds(name: str) -> None:
    assert pacs(name=name).reason == "identity-name"
