"""What an ORU^R01 or MDM with a report says, and every reason when it cannot be used."""

from __future__ import annotations

import base64
import time
from datetime import date

import pytest

from gateway.hl7.messages import read_message
from gateway.hl7.reading import MessageRefused
from indexer.report import Organization, Visibility
from security.identity import Ins, LocalId, Traits
from security.parse.hl7 import parse_message
from tests.fixtures.reports import (
    PARIS,
    RECEIVED,
    TWO_ORDERS,
    LabExam,
    LabPatient,
    build_cda,
    build_mdm,
    build_oru,
    changed,
    read,
    without,
)


def _reasons(raw: bytes) -> list[tuple[str, str, int, int]]:
    with pytest.raises(MessageRefused) as caught:
        read(raw)
    return [(p.code, p.segment, p.sequence, p.field) for p in caught.value.problems]


def test_a_report_message_is_read_whole() -> None:
    stated = read(build_oru(LabExam(), control_id="MSG-7"))
    assert (stated.control_id, stated.trigger, stated.order_control, stated.result_status) == (
        "MSG-7",
        "R01",
        "NW",
        "F",
    )
    assert (stated.sending_application, stated.sending_facility) == ("RIS-LAB", "SITE-LAB")
    assert stated.visit_number == "V9001"
    assert stated.report.studies == ("1.2.250.1.213.4.5.9.2.9001",)
    assert stated.report.visibility == Visibility(invisible_to_patient=True)
    assert stated.notes == ()


def test_the_envelope_is_read_by_types_not_by_places() -> None:
    envelope = read(build_oru(LabExam())).envelope
    assert envelope.traits == Traits(
        birth_name="FANTÔME",
        first_given_name="ODETTE",
        given_names="ODETTE MARIE",
        used_name="TEST-DUPONT",
        sex="F",
        birth_date=date(1961, 4, 12),
        birthplace="63113",
    )
    assert envelope.ins == Ins(matricule="261046311304287", oid="1.2.250.1.213.1.4.10", status="VALI")
    assert envelope.local_ids == (LocalId(value="IPP9001", issuer="1.2.250.1.213.4.5.9.4"),)


def test_the_used_name_may_come_first() -> None:
    raw = changed(
        build_oru(LabExam()),
        "FANTÔME^ODETTE^ODETTE MARIE^^^^L~TEST-DUPONT^^^^^^D",
        "TEST-DUPONT^^^^^^D~FANTÔME^ODETTE^ODETTE MARIE^^^^L",
    )
    assert read(raw).envelope.traits.birth_name == "FANTÔME"


def test_ff19_two_different_birth_names_are_refused() -> None:
    raw = changed(build_oru(LabExam()), "^^^^L~", "^^^^L~SPECTRE^ODETTE^ODETTE MARIE^^^^L~")
    assert _reasons(raw) == [("several-values", "PID", 1, 5)]


def test_one_birth_name_stated_twice_alike_is_one() -> None:
    raw = changed(build_oru(LabExam()), "^^^^L~", "^^^^L~FANTÔME^ODETTE^ODETTE MARIE^^^^L~")
    assert read(raw).envelope.traits.birth_name == "FANTÔME"


def test_the_sender_is_the_prt_of_type_sb() -> None:
    raw = build_oru(LabExam())
    raw = raw.replace(b"PRT||UC", b"PRT||UC||RCT^^participation|1^A^B\rPRT||UC")
    sender = read(raw).report.sender
    assert sender is not None
    assert (sender.identifier, sender.system, sender.family, sender.given) == (
        "899900000017",
        "1.2.250.1.71.4.2.1",
        "RAYON-TEST",
        "Ondine",
    )
    assert sender.organization == Organization(
        identifier="990000017", system="1.2.250.1.71.4.2.2", name="Imagerie de la Poterne"
    )
    assert read(without(build_oru(LabExam()), "PRT")).report.sender is None


@pytest.mark.parametrize("status", ["VALI", "PROV", "VIDE", ""])
def test_the_ins_status_is_kept_as_stated(status: str) -> None:
    ins = read(build_oru(LabExam(patient=LabPatient(ins_status=status)))).envelope.ins
    assert ins is not None
    assert ins.status == status


def test_of_several_ins_statuses_the_worst_counts() -> None:
    ins = read(changed(build_oru(LabExam()), "|N|VALI\r", "|N|VALI~DOUB\r")).envelope.ins
    assert ins is not None
    assert ins.status == "DOUB"


def test_a_patient_without_ins_is_data_not_an_error() -> None:
    assert read(build_oru(LabExam(patient=LabPatient(ins=None)))).envelope.ins is None


def test_envelope_and_document_keep_their_own_patient() -> None:
    stated = read(build_oru(LabExam(envelope_patient=LabPatient(birth_name="SPECTRE"))))
    assert (stated.envelope.traits.birth_name, stated.report.patient.traits.birth_name) == ("SPECTRE", "FANTÔME")


@pytest.mark.parametrize("kind", ["CE", "CWE"])
def test_every_visibility_flag_is_read(kind: str) -> None:
    flags = dict.fromkeys(
        ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "CONNEXION_SECRETE", "MODIF_CONF_CODE"), "Y"
    )
    raw = build_oru(LabExam(flags=flags | {"DESTDMP": "N"})).replace(b"|CE|", f"|{kind}|".encode())
    assert read(raw).report.visibility == Visibility(
        masked_to_professionals=True,
        invisible_to_patient=True,
        invisible_to_guardians=True,
        secret_connection=True,
        changes_confidentiality=True,
        for_index=False,
    )


def test_silence_about_flags_is_the_default() -> None:
    assert read(build_oru(LabExam(flags={}))).report.visibility == Visibility()


@pytest.mark.parametrize("code", ["MASQUE-PS", "MASQUE_P", "NOUVEAU", ""])
def test_an_unknown_flag_is_refused_for_it_may_be_a_misspelt_mask(code: str) -> None:
    flags = {"MASQUE_PS": "N", code: "Y"}
    assert _reasons(build_oru(LabExam(flags=flags))) == [("unknown-value", "OBX", 3, 3)]


def test_the_flags_of_others_are_left_to_them() -> None:
    stated = read(build_oru(LabExam(flags={"DESTMSSANTEPS": "Y", "ACK_RECEPTION": "N"})))
    assert (stated.notes, stated.report.visibility) == ((), Visibility())


@pytest.mark.parametrize("sent", ["masque_ps^^MetaDMPMSS", " Masque_PS ^^MetaDMPMSS", "MASQUE_PS^^ MetaDMPMSS "])
def test_a_flag_is_known_whatever_its_case_and_the_blanks_around_it(sent: str) -> None:
    raw = changed(build_oru(LabExam(flags={"MASQUE_PS": "Y"})), "MASQUE_PS^^MetaDMPMSS", sent)
    assert read(raw).report.visibility == Visibility(masked_to_professionals=True)


def test_a_mail_text_whose_system_has_blanks_is_not_taken_for_the_report() -> None:
    mail = b"OBX|12|ED|CORPSMAIL_PS^Corps^MetaDMPMSS ||^text^XML^Base64^Qm9uam91cg==||||||F\rPRT||"
    assert read(build_oru(LabExam()).replace(b"PRT||", mail)).report.studies == ("1.2.250.1.213.4.5.9.2.9001",)


def test_a_mail_text_is_not_taken_for_the_report() -> None:
    mail = b"OBX|12|ED|CORPSMAIL_PS^Corps^MetaDMPMSS||^text^^Base64^Qm9uam91cg==||||||F\rPRT||"
    assert read(build_oru(LabExam()).replace(b"PRT||", mail)).report.studies == ("1.2.250.1.213.4.5.9.2.9001",)


def test_a_mail_text_alone_is_no_report() -> None:
    exam = LabExam(flags={})
    raw = without(build_oru(exam), "OBX") + b"OBX|1|ED|CORPSMAIL_PS^Corps^MetaDMPMSS||^text^XML^Base64^Qm9uam91cg==\r"
    assert _reasons(raw) == [("missing-segment", "OBX", 1, 0)]


def test_the_report_is_found_beside_a_pdf() -> None:
    pdf = b"OBX|9|ED|PDF^Fac-simile^L||^application^pdf^Base64^JVBERg==||||||F\rPRT||"
    assert read(build_oru(LabExam()).replace(b"PRT||", pdf)).report.title == "CR d’imagerie médicale"


@pytest.mark.parametrize("form", ["^text^xml^base64^", "^TEXT^xml^BASE64^", "RIS^text^XML^Base64^"])
def test_the_case_of_the_ed_components_does_not_matter(form: str) -> None:
    assert read(changed(build_oru(LabExam()), "^TEXT^XML^Base64^", form)).control_id == "POTERNE-LAB-1"


def test_base64_folded_with_escaped_line_breaks_is_read() -> None:
    raw = changed(build_oru(LabExam()), "PD94bWwg", "PD94\\.br\\bWwg")
    assert read(raw).control_id == "POTERNE-LAB-1"


@pytest.mark.parametrize("inside", ["\\X50\\", "\\E\\", "\\", "&"])
def test_base64_takes_no_other_escape_than_line_breaks(inside: str) -> None:
    raw = changed(build_oru(LabExam()), "^Base64^PD94", f"^Base64^PD94{inside}")
    assert _reasons(raw) == [("bad-base64", "OBX", 1, 5)]


def test_a_large_report_folded_at_every_76_characters_is_unfolded_fast() -> None:
    folded = b"\\.br\\".join([b"IC" * 38] * 100_000)  # 8 MB
    message = parse_message(build_oru(LabExam(), cda=b"").replace(b"^Base64^", b"^Base64^" + folded))
    started = time.process_time()
    with pytest.raises(MessageRefused) as caught:
        read_message(message, timezone=PARIS, received_at=RECEIVED)
    assert time.process_time() - started < 1
    assert [p.code for p in caught.value.problems] == ["xml-malformed"]


def test_two_orders_and_two_studies_arrive() -> None:
    report = read(build_oru(TWO_ORDERS)).report
    assert (len(report.orders), len(report.studies), report.modalities[0].code) == (2, 2, "MR")


def test_ff10_a_wrong_character_set_is_read_and_noted() -> None:
    stated = read(build_oru(LabExam(), charset="UNICODE UTF-8", codec="cp1252"))
    assert stated.envelope.traits.birth_name == "FANTÔME"
    assert [n.code for n in stated.notes] == ["charset-fallback"]
    assert (stated.charset.used, stated.charset.fell_back) == ("cp1252", True)


@pytest.mark.parametrize("version", ["2.5", "2.5.1", "2.6", "2.5^FRA^2.11"])
def test_versions_of_the_national_volets_are_accepted(version: str) -> None:
    assert read(build_oru(LabExam(), version=version)).control_id == "POTERNE-LAB-1"


@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.7", ""])
def test_other_versions_are_refused(version: str) -> None:
    assert _reasons(build_oru(LabExam(), version=version)) == [("unsupported-version", "MSH", 1, 12)]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("SIU^S12", "unsupported-type"), ("ADT^A60", "unsupported-event"), ("ORU^R30", "unsupported-event")],
)
def test_another_message_is_refused_for_that_reason_alone(kind: str, code: str) -> None:
    raw = without(changed(build_oru(LabExam()), "ORU^R01^ORU_R01", kind), "PID")
    assert _reasons(raw) == [(code, "MSH", 1, 9)]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("|POTERNE-LAB-1|", "||", ("missing-field", "MSH", 1, 10)),
        ("FANTÔME^ODETTE^", "^^", ("missing-field", "PID", 1, 5)),
        ("^^^^L~", "^^^^D~", ("missing-field", "PID", 1, 5)),
        ("|19610412|", "|1961|", ("bad-value", "PID", 1, 7)),
        ("|19610412|", "|1961+0100|", ("bad-value", "PID", 1, 7)),
        ("|19610412|", "|19611341|", ("bad-value", "PID", 1, 7)),
        ("|19610412|F|", "|19610412|X|", ("unknown-value", "PID", 1, 8)),
        ("^INS|", "^INS~261046311304288^^^X&1.2&ISO^INS|", ("several-ins", "PID", 1, 3)),
        ("ORC|NW\r", "ORC|XO\r", ("unknown-value", "ORC", 1, 1)),
        ("ORC|NW\r", "ORC|\r", ("missing-field", "ORC", 1, 1)),
        ("||||||F\rPRT", "||||||P\rPRT", ("unknown-value", "OBX", 1, 11)),
        ("^Base64^PD94", "^Hex^PD94", ("bad-base64", "OBX", 1, 5)),
        ("^Base64^PD94", "^Base64^P!94", ("bad-base64", "OBX", 1, 5)),
        ("^Base64^PD94", "^Base64^é94A", ("bad-base64", "OBX", 1, 5)),
        ("MASQUE_PS^^MetaDMPMSS", "MASQUE_PS", ("unknown-value", "OBX", 2, 3)),
        ("OBX|2|CE|MASQUE_PS", "OBX|2|ST|MASQUE_PS", ("bad-value", "OBX", 2, 2)),
        ("MASQUE_PS^^MetaDMPMSS||N^", "MASQUE_PS^^MetaDMPMSS||O^", ("unknown-value", "OBX", 2, 5)),
        ("|INVISIBLE_PATIENT^", "|MASQUE_PS^", ("several-values", "OBX", 3, 5)),
        ("\rORC|", "\rne répond pas\rORC|", ("broken-line", "PV1", 1, 0)),
        ("\rORC|", "\rPID|2\rORC|", ("several-values", "PID", 1, 0)),
    ],
)
def test_each_fault_of_the_envelope_is_named_with_its_place(
    old: str, new: str, reason: tuple[str, str, int, int]
) -> None:
    assert _reasons(changed(build_oru(LabExam()), old, new)) == [reason]


@pytest.mark.parametrize(("segment", "number"), [("PID", 1), ("ORC", 1), ("OBX", 1)])
def test_a_missing_segment_is_named(segment: str, number: int) -> None:
    assert _reasons(without(build_oru(LabExam()), segment)) == [("missing-segment", segment, number, 0)]


def test_an_empty_report_is_named() -> None:
    assert _reasons(build_oru(LabExam(), cda=b"")) == [("empty-report", "OBX", 1, 5)]
    assert _reasons(build_oru(LabExam(), cda=b" \n")) == [("xml-empty", "OBX", 1, 5)]


def test_two_reports_in_one_message_are_refused() -> None:
    line = next(line for line in build_oru(LabExam()).split(b"\r") if line.startswith(b"OBX|1|ED"))
    raw = build_oru(LabExam()).replace(b"PRT||", line + b"\rPRT||")
    assert _reasons(raw) == [("several-values", "OBX", 2, 5)]


def test_reasons_of_envelope_and_document_are_named_together() -> None:
    raw = build_oru(LabExam(studies=("1.02",), orders=()), version="2.3.1", order_control="")
    assert _reasons(without(raw, "PID")) == [
        ("unsupported-version", "MSH", 1, 12),
        ("missing-segment", "PID", 1, 0),
        ("missing-field", "ORC", 1, 1),
        ("bad-study-uid", "OBX", 1, 5),
        ("no-order", "OBX", 1, 5),
    ]


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ({"sex": "M", "birth_date": date(1985, 12, 3), "birthplace": "75056", "rank": 7}, "185127505600725"),
        ({"sex": "F", "birth_date": date(1979, 3, 28), "birthplace": "2A004", "rank": 12}, "279032A00401288"),
    ],
)
def test_the_labs_matricules_have_a_right_key(traits: dict[str, object], expected: str) -> None:
    """Keys worked by hand: 97 minus the 13 digits modulo 97, 2A counted as 19."""
    assert LabPatient(**traits).matricule == expected  # type: ignore[arg-type]  # a table of keyword arguments


def test_base64_without_its_padding_is_read_and_a_cut_one_is_no_report() -> None:
    for size in range(3):
        cda = build_cda(LabExam()) + b" " * size
        padding = b"=" * (-len(cda) % 3)
        raw = build_oru(LabExam(), cda=cda).replace(padding + b"||||||F", b"||||||F", 1)
        assert read(raw).report.studies == LabExam().studies
    cut = build_oru(LabExam()).replace(base64.b64encode(build_cda(LabExam()))[-7:], b"")
    assert [reason[0] for reason in _reasons(cut)] in (["xml-malformed"], ["bad-base64"])


# -- the other envelope -------------------------------------------------------------------------------------------


def test_an_mdm_says_what_the_oru_of_the_same_report_says() -> None:
    oru, mdm = read(build_oru(LabExam(), control_id="M")), read(build_mdm(LabExam(), control_id="M"))
    assert (mdm.trigger, mdm.order_control, mdm.result_status) == ("T02", "NW", "")
    assert (mdm.report, mdm.envelope, mdm.visit_number) == (oru.report, oru.envelope, oru.visit_number)


@pytest.mark.parametrize(("event", "control"), [("T02", "NW"), ("T10", "RO"), ("T04", "CA")])
def test_the_event_of_an_mdm_says_what_is_asked_and_orc_may_be_absent(event: str, control: str) -> None:
    exam = LabExam(replaces="1.2.250.1.999.1.402", version_number=2)
    for stated in (None, control, ""):
        assert read(build_mdm(exam, event=event, order_control=stated)).order_control == control


@pytest.mark.parametrize(("event", "control"), [("T02", "RO"), ("T02", "CA"), ("T10", "NW"), ("T04", "NW")])
def test_an_mdm_whose_event_and_order_control_ask_for_different_things_is_refused(event: str, control: str) -> None:
    exam = LabExam(replaces="1.2.250.1.999.1.402")
    assert _reasons(build_mdm(exam, event=event, order_control=control)) == [("wrong-version", "ORC", 1, 1)]


@pytest.mark.parametrize(
    ("extension", "named"),
    [
        ("", "1.2.3.4"),
        ("77", "1.2.3.4.77"),
        ("77", "1.2.3.4^77"),
    ],
)
def test_txa_12_names_the_report_by_root_or_root_and_extension(extension: str, named: str) -> None:
    exam = LabExam(document_id="1.2.3.4", document_extension=extension)
    assert read(build_mdm(exam, document=named)).report.document_id.extension == extension


def test_txa_12_may_name_the_report_as_an_entity_identifier() -> None:
    raw = build_mdm(LabExam(document_id="1.2.3.4", document_extension="77"), document="77")
    assert read(changed(raw, "|77|", "|77^Organisation-Y^1.2.3.4^ISO|")).report.document_id.root == "1.2.3.4"


def test_a_name_beside_txa_12_does_not_matter() -> None:
    raw = build_mdm(LabExam(document_id="1.2.3.4"), document="1.2.3.4")
    assert read(changed(raw, "|1.2.3.4|", "|1.2.3.4^Organisation-Y|")).report.document_id.root == "1.2.3.4"


@pytest.mark.parametrize(
    ("extension", "named"),
    [("", "1.2.3.5"), ("", "1.2.3.4.77"), ("77", "1.2.3.4"), ("77", "1.2.3.4.78"), ("77", "77")],
)
def test_an_mdm_that_names_another_document_than_it_carries_is_refused(extension: str, named: str) -> None:
    exam = LabExam(document_id="1.2.3.4", document_extension=extension)
    assert _reasons(build_mdm(exam, document=named)) == [("document-id-differs", "TXA", 1, 12)]


def test_an_mdm_without_txa_is_refused() -> None:
    assert _reasons(without(build_mdm(LabExam()), "TXA")) == [("missing-segment", "TXA", 1, 0)]


@pytest.mark.parametrize("completion", ["DI", "DO", "IP", "IN", "PA"])
def test_an_mdm_whose_document_nobody_authenticated_is_refused(completion: str) -> None:
    assert _reasons(build_mdm(LabExam(), completion=completion)) == [("unknown-value", "TXA", 1, 17)]


def test_a_replacement_by_mdm_says_in_the_report_what_it_replaces() -> None:
    assert _reasons(build_mdm(LabExam(), event="T10", order_control="RO")) == [("wrong-version", "ORC", 1, 1)]
    assert _reasons(build_mdm(LabExam(), event="T10", order_control=None)) == [("wrong-version", "MSH", 1, 9)]


def test_txa_13_agrees_with_what_the_report_replaces_where_it_is_filled() -> None:
    exam = LabExam(replaces="1.2.250.1.999.1.402")
    for parent in ("", "1.2.250.1.999.1.402"):
        assert (
            str(read(build_mdm(exam, event="T10", order_control="RO", parent=parent)).report.replaces)
            == exam.replaces
        )
    other = build_mdm(exam, event="T10", order_control="RO", parent="1.2.250.1.999.1.403")
    assert _reasons(other) == [("wrong-version", "TXA", 1, 13)]


def test_txa_13_of_a_new_report_or_a_withdrawal_alone_replaces_nothing() -> None:
    for event, control in (("T02", "NW"), ("T04", "CA")):
        stated = read(build_mdm(LabExam(), event=event, order_control=control, parent="1.2.250.1.999.1.402"))
        assert stated.report.replaces is None
