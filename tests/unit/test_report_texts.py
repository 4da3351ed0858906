"""A CDA report and an order, written anew: what stays, what goes, what is mapped, and that nothing known is left."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import date

import pytest
from lxml import etree

from gateway.lab.ris import LabExam, LabPatient, build_cda
from sampler.pseudonym.identifiers import Identifiers
from sampler.pseudonym.keys import CampaignKeys, Pseudonyms, Subject
from sampler.texts import cda, request
from sampler.texts.narrative import Narrative
from sampler.texts.persons import Labels
from security.errors import BadInput, Refused
from security.parse.hl7 import parse_message
from tests.corpus import corpus
from tests.fixtures.pdf import pdf

KEYS = CampaignKeys.derive(bytes(range(32)), "CAMPAIGN-1")
OTHER_KEYS = CampaignKeys.derive(bytes(range(32)), "CAMPAIGN-2")
PATIENT = LabPatient(
    birth_name="LEBREMENT-ŒUVRARD", first_given_name="ZOÉ", given_names="ZOÉ ANNE", used_name="KERVADEC"
)
BODY = """<component><structuredBody><component><section>
<templateId root="1.2.250.1.213.1.1.2.1"/><id root="1.2.3.4" extension="SEC-ZOE-9"/>
<code code="121181" codeSystem="1.2.840.10008.2.16.4" displayName="Catalogue DICOM"/>
<title>Comparaison</title>
<text>Mme <content styleCode="Bold" ID="c1">Zoé Kervadec</content> vue le 06/01/2026 par le Dr Rayon-Test.
<linkHtml href="https://viewer.example/?patient=KERVADEC">images</linkHtml> Appeler le 01 44 53 45 51.
<renderMultiMedia referencedObject="MM1"/></text>
<author><assignedAuthor><id extension="899900000017"/><assignedPerson><name>Ondine RAYON-TEST</name></assignedPerson>
</assignedAuthor></author>
<entry><observation classCode="OBS" moodCode="EVN"><!-- Zoé Kervadec -->
<code code="113813" codeSystem="1.2.840.10008.2.16.4" displayName="CT Dose Length Product Total"/>
<effectiveTime value="20260108103000+0100"/>
<value xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="PQ" value="845.3" unit="mGy.cm"/>
<participant typeCode="SBJ"><participantRole><playingEntity><name>KERVADEC</name></playingEntity></participantRole>
</participant>
</observation></entry>
<entry><observationMedia classCode="OBS" moodCode="EVN" ID="MM1"><value mediaType="image/png" representation="B64">QUJD</value>
</observationMedia></entry>
</section></component></structuredBody></component>"""


def exam(**changes: object) -> LabExam:
    return replace(LabExam(patient=PATIENT, doctor=("RAYON-TEST", "Ondine")), **changes)


def with_body(body: str) -> bytes:
    document = build_cda(exam()).decode()
    start, end = document.index("<component>"), document.rindex("</component>") + len("</component>")
    return (document[:start] + body + document[end:]).encode()


def rewrite(document: bytes, keys: CampaignKeys = KEYS) -> tuple[etree._Element, cda.Rewritten, cda.Header]:
    root = cda.parse(document)
    header = cda.header(root)
    pseudonyms = Pseudonyms(keys, Subject(authority=PATIENT.ipp_issuer, id=PATIENT.ipp))
    labels = Labels(header.persons)
    narrative = Narrative(
        header.identifiers,
        moved=lambda day: day + pseudonyms.shift,
        births=header.births,
        roles=labels.by_name(),
    )
    written = cda.rewritten(root, pseudonyms, narrative, labels)
    cda.without_residue(written.document, header.identifiers, labels)
    return etree.fromstring(written.document), written, header


def find(root: etree._Element, path: str) -> etree._Element:
    found = root.find(path, {"": cda.NS})
    assert found is not None, path
    return found


def test_the_header_keeps_what_the_report_is_about_and_nobody() -> None:
    root, written, header = rewrite(build_cda(exam()))
    pseudonyms = Pseudonyms(KEYS, Subject(authority=PATIENT.ipp_issuer, id=PATIENT.ipp))
    assert find(root, "recordTarget/patientRole/id").get("extension") == pseudonyms.patient_id
    assert find(root, "recordTarget/patientRole/patient/administrativeGenderCode").get("code") == "F"
    event = find(root, "documentationOf/serviceEvent")
    assert find(event, "id").get("root") == pseudonyms.uid(exam().studies[0])
    assert find(event, "effectiveTime/low").get("value") == pseudonyms.shifted_date_time(exam().start)
    assert find(event, "code/translation").get("code") == "ACQH004"
    assert find(root, "title").text == "CR d’imagerie médicale"
    assert header.age == "064Y"
    for word in (
        b"KERVADEC",
        b"RAYON",
        b"Ondine",
        b"899900000017",
        PATIENT.ipp.encode(),
        b"19610412",
        b"IPP",
        b"63113",
    ):
        assert word not in written.document


def test_a_person_is_the_same_label_wherever_they_stand() -> None:
    root, _written, _header = rewrite(build_cda(exam()))
    names = {name.text for name in root.iterfind(".//assignedPerson/name", {"": cda.NS})}
    assert names == {"médecin réalisateur 1"}


def test_a_structured_body_keeps_findings_codes_and_measures() -> None:
    root, _written, _header = rewrite(with_body(BODY))
    section = find(root, "component/structuredBody/component/section")
    text = " ".join("".join(find(section, "text").itertext()).split())
    pseudonyms = Pseudonyms(KEYS, Subject(authority=PATIENT.ipp_issuer, id=PATIENT.ipp))
    moved = date(2026, 1, 6) + pseudonyms.shift
    assert text == f"Mme [nom] vue le {moved:%d/%m/%Y} par le Dr médecin réalisateur 1. Appeler le [téléphone]."
    assert find(section, "text/content").attrib == {"styleCode": "Bold", "ID": "c1"}
    dose = find(section, "entry/observation/value")
    assert (dose.get("value"), dose.get("unit"), dose.get(cda.XSI_TYPE)) == ("845.3", "mGy.cm", "PQ")
    assert find(section, "entry/observation/effectiveTime").get("value") == pseudonyms.shifted_date_time(
        "20260108103000+0100"
    )
    left = {etree.QName(element).localname for element in section.iter()}
    assert not left & {"author", "participant", "observationMedia", "linkHtml", "renderMultiMedia"}
    assert find(section, "id").get("root") == pseudonyms.uid("1.2.3.4^SEC-ZOE-9")


def test_a_pdf_body_is_taken_out_for_a_person() -> None:
    content = pdf([(60, 700, "Mme KERVADEC")])
    body = (
        '<component><nonXMLBody><text mediaType="application/pdf" representation="B64">'
        + base64.b64encode(content).decode()
        + "</text></nonXMLBody></component>"
    )
    root, written, _header = rewrite(with_body(body))
    assert written.body == cda.Body(media_type="application/pdf", content=content)
    assert find(root, "component/nonXMLBody/text").get("nullFlavor") == "MSK"


def test_t51_two_campaigns_share_no_value() -> None:
    one, *_ = rewrite(with_body(BODY))
    other, *_ = rewrite(with_body(BODY), OTHER_KEYS)

    def made(root: etree._Element) -> set[str]:
        found = {element.get("root", "") for element in root.iter(f"{{{cda.NS}}}id")}
        found |= {element.get("value", "") for element in root.iter(f"{{{cda.NS}}}effectiveTime", f"{{{cda.NS}}}low")}
        return {value for value in found if value} | {find(root, "recordTarget/patientRole/id").get("extension", "")}

    assert len(made(one)) > 5
    assert not made(one) & made(other)


def test_ff50_a_value_that_no_rule_removed_stops_the_case_without_being_told() -> None:
    _root, written, _header = rewrite(with_body(BODY))
    planted = written.document.replace(b"mGy.cm", b"KERVADEC")
    with pytest.raises(Refused, match=r"a value of the original at /\*/") as refused:
        cda.without_residue(planted, Identifiers.stated(names=["KERVADEC"]), Labels())
    assert "KERVADEC" not in str(refused.value)
    split = written.document.replace(b"Comparaison", b"KERVA</title><title>DEC")
    with pytest.raises(Refused, match="over several elements"):
        cda.without_residue(split, Identifiers.stated(names=["KERVADEC"]), Labels())


@pytest.mark.parametrize(
    ("document", "code"),
    [(b"<other/>", "cda-wrong-root"), (b"<ClinicalDocument", "xml-malformed")],
)
def test_what_is_no_report_is_refused(document: bytes, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        cda.parse(document)
    assert refused.value.code == code


def test_a_body_that_is_not_the_base64_it_says_is_refused() -> None:
    body = '<component><nonXMLBody><text representation="B64">*</text></nonXMLBody></component>'
    with pytest.raises(BadInput) as refused:
        rewrite(with_body(body))
    assert refused.value.code == "cda-body-encoding"


# -- the request ----------------------------------------------------------------------------------------------------

OBR = (
    "OBR|1|OPN-1||24727-0^Scanner cérébral^LN|||||||||Mme LEBREMENT chute le 06/01/2026|||"
    "899900000025^QUILLEVERE^Maxence|||||||||||1^^^^^S||||^Céphalées depuis 3 jours, vue par le Dr Sallandre"
)
SEGMENTS = [
    "MSH|^~\\&|RIS|SITE|POTERNE|SITE|20260108091000+0100||OMI^O23^OMI_O23|C1|P|2.5.1|||||FRA|UNICODE UTF-8",
    "PID|||IPP-77120^^^SITE^PI||LEBREMENT^ZOÉ^^^^^L||19610412|F|||4 rue des Lilas^^CLERMONT^^63000||0144534551",
    "ORC|NW|OPN-1|||||||20260107110000+0100|||899900000025^QUILLEVERE^Maxence",
    OBR,
    "NTE|1||Grossesse exclue. Tél 01 44 53 45 51",
    "OBX|1|ST|CREAT^Créatinine||78 µmol/L",
    "OBX|2|DT|DDR^Dernières règles||20260101",
    "OBX|3|ED|DOC^Ordonnance||^application^pdf^Base64^QUJD",
    "ORC|CA|OPN-2|||||||20260107110000+0100|||899900000033^AUTRE^Luce",
    "OBR|2|OPN-2||36643-5^Radio thorax^LN",
]
ORDER = "\r".join(SEGMENTS)


def asked(order: str = ORDER) -> tuple[tuple[request.Request, ...], Pseudonyms]:
    message = parse_message(order.encode())
    pseudonyms = Pseudonyms(KEYS, Subject(authority="SITE", id="IPP-77120"))
    narrative = Narrative(request.identifiers(message), moved=lambda day: day + pseudonyms.shift)
    return request.requests(message, pseudonyms, narrative, Labels()), pseudonyms


def test_an_order_keeps_what_was_asked_why_and_when() -> None:
    (first, second), pseudonyms = asked()
    moved = date(2026, 1, 6) + pseudonyms.shift
    assert first == request.Request(
        control="NW",
        procedure=request.Coded(code="24727-0", meaning="Scanner cérébral", system="LN"),
        reasons=("Céphalées depuis 3 jours, vue par le Dr [nom]",),
        clinical=(f"Mme [nom] chute le {moved:%d/%m/%Y}", "Grossesse exclue. Tél [téléphone]"),
        urgency="S",
        requested_on=pseudonyms.shifted_date_time("20260107110000+0100") or "never",
        requester="médecin demandeur 1",
        answers=(
            ("Créatinine", "78 µmol/L"),
            ("Dernières règles", pseudonyms.shifted_date("20260101") or "never"),
        ),
    )
    assert (second.control, second.requester) == ("CA", "médecin demandeur 2")


def test_nothing_known_of_the_order_is_in_what_leaves() -> None:
    found, _pseudonyms = asked()
    known = request.identifiers(parse_message(ORDER.encode()))
    assert known.found_in("QUILLEVERE")
    assert known.found_in("4 Rue des Lilas")
    assert not known.found_in(repr(found))


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["CR_E", "CR_F", "CR_J", "CR_K", "CR_Q", "CR_U", "CR_W", "IMG_CR_IMG_2024.01_N1"])
def test_national_reports_are_written_anew_without_residue(name: str) -> None:
    root, written, header = rewrite(corpus(f"drim-m/cda/{name}.xml").read_bytes())
    assert len(header.persons) >= 4
    assert written.body is not None
    assert written.body.content.startswith(b"%PDF")
    assert find(root, "documentationOf/serviceEvent/id").get("root", "").startswith("2.25.")


def test_a_person_called_like_one_of_our_own_words_blocks_nothing() -> None:
    document = build_cda(exam(doctor=("REALISA", "Médecin")))
    root, _written, _header = rewrite(document)
    assert find(root, "legalAuthenticator/assignedEntity/assignedPerson/name").text == "médecin réalisateur 1"


@pytest.mark.corpus
def test_ff50_every_national_message_keeps_nothing_of_the_person_it_speaks_of() -> None:
    looked_at = 0
    for path in sorted(corpus("drim-m/hl7").iterdir()):
        message = parse_message(path.read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r"))
        known = request.identifiers(message)
        pseudonyms, labels = Pseudonyms(KEYS, Subject(authority="SITE", id="X")), Labels()
        narrative = Narrative(known, moved=lambda day, shift=pseudonyms.shift: day + shift)
        kept = repr(request.requests(message, pseudonyms, narrative, labels))
        assert not known.found_in(labels.left_out_of(kept)), path.name
        looked_at += bool(known.names)
    assert looked_at > 15
