"""A radiology information system of the lab: invented patients and exams, as CDA R2 reports in ORU^R01 or MDM^T02
messages, as orders (OMI^O23, ORM^O01) and as consents (ADT of PAM-FR).

Used by the demo, the acceptance tests and the fixtures; it builds what a correct sender builds, and every field a
test wants wrong is a parameter. Matricules are derived from the traits, with a right key, in the test range
1.2.250.1.213.1.4.10, so they agree with sex, birth date and birthplace unless told otherwise.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from xml.sax.saxutils import escape as xml_text
from xml.sax.saxutils import quoteattr

from security.parse.hl7 import escape

TINY_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n%%EOF\n"
)
INS_TEST_OID = "1.2.250.1.213.1.4.10"
FLAGS = ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "CONNEXION_SECRETE", "MODIF_CONF_CODE", "DESTDMP")
_ARCS = "1.2.250.1.213.4.5.9"  # arcs of this invented site
_DCM, _LOINC, _SNOMED = "1.2.840.10008.2.16.4", "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96"


def matricule(*, sex: str, birth_date: date, birthplace: str, rank: int) -> str:
    """A 15-character INS matricule: 13 from the traits and ``rank`` (1–999), then the key (97 − n mod 97)."""
    stem = f"{1 if sex == 'M' else 2}{birth_date:%y%m}{birthplace}{rank:03d}"
    number = int(stem.replace("2A", "19").replace("2B", "18"))  # Corsica, by the rule of the key
    return f"{stem}{97 - number % 97:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPatient:
    """An invented person. ``ins``: "" derives the matricule, None leaves the INS out. ``ipp``: local identifier."""

    birth_name: str = "FANTÔME"
    first_given_name: str = "ODETTE"
    given_names: str = "ODETTE MARIE"
    used_name: str = "TEST-DUPONT"
    sex: str = "F"
    birth_date: date = date(1961, 4, 12)
    birthplace: str = "63113"
    ins: str | None = ""
    ins_oid: str = INS_TEST_OID
    ins_status: str = "VALI"
    ipp: str = "IPP9001"
    ipp_issuer: str = f"{_ARCS}.4"
    rank: int = 42

    @property
    def matricule(self) -> str | None:
        """The INS to send."""
        if self.ins == "":
            return matricule(sex=self.sex, birth_date=self.birth_date, birthplace=self.birthplace, rank=self.rank)
        return self.ins


@dataclass(frozen=True, slots=True, kw_only=True)
class LabOrder:
    """One imaging order."""

    accession_number: str = "ACN9001"
    accession_issuer: str = f"{_ARCS}.5"
    placer_number: str = "OPN9001"
    placer_issuer: str = f"{_ARCS}.6"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabExam:
    """One reported exam: what its CDA and its envelope state.

    ``modality``: as sent (``RM`` for a sender of that habit). ``region``: SNOMED CT code and display. ``flags``:
    OBX-3.1 → OBX-5; those left out are not sent. ``envelope_patient``: for messages whose PID and CDA differ.
    ``level``: 1 (a PDF inside) or 3 (structured body).
    """

    patient: LabPatient = field(default_factory=LabPatient)
    envelope_patient: LabPatient | None = None
    studies: tuple[str, ...] = (f"{_ARCS}.2.9001",)
    orders: tuple[LabOrder, ...] = (LabOrder(),)
    document_id: str = f"{_ARCS}.1.9001"
    document_extension: str = ""
    set_id: str = f"{_ARCS}.3.9001"
    version_number: int = 1
    replaces: str = ""
    modality: str = "CT"
    region: tuple[str, str] = ("774007", "tête et cou")
    procedure: tuple[str, str] = ("24727-0", "CT Head W contrast IV")
    procedure_local: tuple[str, str] = ("ACQH004", "Scanographie du crâne avec injection")
    start: str = "20260108102500+0100"
    stop: str = "20260108111700+0100"
    level: int = 1
    flags: Mapping[str, str] = field(
        default_factory=lambda: {flag: "Y" if flag in {"INVISIBLE_PATIENT", "DESTDMP"} else "N" for flag in FLAGS}
    )
    structure_id: str = "990000017"
    structure_name: str = "Imagerie de la Poterne"
    doctor_id: str = "899900000017"
    doctor: tuple[str, str] = ("RAYON-TEST", "Ondine")


def build_cda(exam: LabExam) -> bytes:
    """The CDA R2 report of ``exam``, UTF-8."""
    p = exam.patient
    version = f"<setId{_id(exam.set_id)}/><versionNumber value={quoteattr(str(exam.version_number))}/>"
    parent = f"<parentDocument><id{_id(exam.replaces)}/></parentDocument>"
    related = f'<relatedDocument typeCode="RPLC">{parent}</relatedDocument>' if exam.replaces else ""
    ins = f"<id{_id(p.ins_oid, p.matricule)}/>" if p.matricule else ""
    doctor = _doctor(exam)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:ps3-20="urn:dicom-org:ps3-20">
<realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/>
<templateId root={quoteattr("1.3.6.1.4.1.19376.1.2.20" if exam.level == 1 else "1.2.250.1.213.1.1.1.45")}/>
<id{_id(exam.document_id, exam.document_extension)}/>
<code code="18748-4" displayName="CR d'imagerie médicale" codeSystem="{_LOINC}"/>
<title>CR d’imagerie médicale</title><effectiveTime value={quoteattr(exam.stop)}/>
<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="fr-FR"/>
{version}
<recordTarget><patientRole>{ins}<id{_id(p.ipp_issuer, p.ipp)}/>
<patient><name><family qualifier="BR">{xml_text(p.birth_name)}</family>
<given qualifier="BR">{xml_text(p.first_given_name)}</given><given>{xml_text(p.given_names)}</given>
<family qualifier="CL">{xml_text(p.used_name)}</family></name>
<administrativeGenderCode code={quoteattr(p.sex)} codeSystem="2.16.840.1.113883.5.1"/>
<birthTime value="{p.birth_date:%Y%m%d}"/>
<birthplace><place><addr><county>{xml_text(p.birthplace)}</county></addr></place></birthplace>
</patient></patientRole></recordTarget>
<author><time value={quoteattr(exam.stop)}/><assignedAuthor>{doctor}</assignedAuthor></author>
<legalAuthenticator><time value={quoteattr(exam.stop)}/><signatureCode code="S"/>
<assignedEntity>{doctor}</assignedEntity></legalAuthenticator>
{"".join(_order(order) for order in exam.orders)}
{_service_event(exam, doctor)}
{related}
<componentOf><encompassingEncounter><effectiveTime><low value={quoteattr(exam.start)}/></effectiveTime>
<location><healthCareFacility><code code="SA08" displayName="Cabinet de groupe" codeSystem="1.2.250.1.71.4.2.4"/>
</healthCareFacility></location></encompassingEncounter></componentOf>
{_body(exam.level)}
</ClinicalDocument>
""".encode()


def build_oru(
    exam: LabExam,
    *,
    control_id: str = "POTERNE-LAB-1",
    order_control: str = "NW",
    result_status: str = "F",
    version: str = "2.5",
    charset: str = "UNICODE UTF-8",
    codec: str = "utf-8",
    cda: bytes | None = None,
    sent_at: str = "20260108112000+0100",
) -> bytes:
    """The ORU^R01 that carries the report of ``exam``, segments ended by CR, without MLLP framing.

    ``charset``: MSH-18 as declared; ``codec``: what the bytes really are. ``cda``: bytes to carry instead of the
    report of ``exam``.
    """
    return _message(
        _msh("ORU^R01^ORU_R01", control_id, sent_at, version, charset),
        _pid(exam.envelope_patient or exam.patient),
        _PV1,
        f"ORC|{order_control}",
        f"OBR|1|||{_TITLE}{'|' * 21}F",
        *_report(exam, cda, result_status),
        codec=codec,
    )


def build_mdm(
    exam: LabExam,
    *,
    control_id: str = "POTERNE-LAB-1",
    event: str = "T02",
    order_control: str | None = "NW",
    document: str = "",
    parent: str = "",
    completion: str = "AU",
    result_status: str = "",
    version: str = "2.6",
    charset: str = "UNICODE UTF-8",
    cda: bytes | None = None,
    sent_at: str = "20260108112000+0100",
) -> bytes:
    """The MDM that carries the report of ``exam`` as ``build_oru`` would.

    ``event``: T02 new, T10 replacement, T04 withdrawal. ``order_control``: None leaves ORC out. ``document``: TXA-12,
    "" for the id of the CDA; ``parent``: TXA-13; ``completion``: TXA-17.
    """
    named = document or ".".join(part for part in (exam.document_id, exam.document_extension) if part)
    return _message(
        _msh(f"MDM^{event}^MDM_T02", control_id, sent_at, version, charset),
        f"EVN||{sent_at}",
        _pid(exam.envelope_patient or exam.patient),
        _PV1,
        *([] if order_control is None else [f"ORC|{order_control}"]),
        f"OBR|1|||{_TITLE}",
        f"TXA|1|18748-4|TEXT|{sent_at}||||||||{escape(named)}|{escape(parent)}||||{completion}|||||{exam.doctor_id}",
        *_report(exam, cda, result_status),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabRequest:
    """What one order message says of one order.

    ``control``: ORC-1; ``state``: ORC-5; ``parent``: ORC-8; ``decision``: ORC-16; ``exam_change``: the OBX that tells
    of an exam modified in the RIS. "" leaves a field empty.
    """

    control: str = "NW"
    state: str = ""
    placer: str = "OPN9001"
    filler: str = ""
    accession: str = "ACN9001"
    study: str = f"{_ARCS}.2.9001"
    parent: str = ""
    modality: str = "CT"
    procedure: tuple[str, str] = ("24727-0", "CT Head W contrast IV")
    priority: str = "R"
    reason: str = "Céphalées inhabituelles"
    requester_id: str = "899900000025"
    requester: tuple[str, str] = ("DEMANDE-TEST", "Ondin")
    decider_id: str = ""
    decider: tuple[str, str] = ("RAYON-TEST", "Ondine")
    decision: str = ""
    exam_change: bool = False


def build_omi(
    *requests: LabRequest,
    patient: LabPatient | None = None,
    control_id: str = "POTERNE-LAB-O1",
    sent_at: str = "20260108091000+0100",
    version: str = "2.5.1",
) -> bytes:
    """The OMI^O23 that states ``requests``."""
    groups = (
        [
            _orc(one),
            f"TQ1|1||||||{sent_at}||{one.priority}",
            _obr(one, accession=""),
            *(["OBX|1|ST|Modification Examen Imagerie||||||||||||||"] if one.exam_change else []),
            f"IPC|{_ei(one.accession, f'{_ARCS}.5')}|RP-{one.accession}|{one.study}|SPS-1|{one.modality}",
        ]
        for one in requests
    )
    return _message(
        _msh("OMI^O23^OMI_O23", control_id, sent_at, version, "UNICODE UTF-8"),
        _pid(patient or LabPatient()),
        _PV1,
        *(segment for group in groups for segment in group),
    )


def build_orm(
    *requests: LabRequest,
    patient: LabPatient | None = None,
    control_id: str = "POTERNE-LAB-O1",
    sent_at: str = "20260108091000+0100",
    version: str = "2.3.1",
) -> bytes:
    """The ORM^O01 that states ``requests``, study in ZDS, accession number in OBR-18 (IHE RAD-4)."""
    groups = (
        [
            _orc(one, timing=f"1^^^{sent_at}^^{one.priority}"),
            _obr(one, accession=one.accession),
            f"ZDS|{one.study}^RIS-LAB^Application^DICOM",
        ]
        for one in requests
    )
    return _message(
        _msh("ORM^O01", control_id, sent_at, version, "UNICODE UTF-8"),
        _pid(patient or LabPatient()),
        _PV1,
        *(segment for group in groups for segment in group),
    )


def build_adt_consent(
    patient: LabPatient | None = None,
    *,
    opposition: str = "INO",
    reading: str = "IC",
    record_status: str = "ACTIF",
    event: str = "A31",
    at: str = "20260108080000+0100",
    control_id: str = "POTERNE-LAB-A1",
    sent_at: str = "20260108080000+0100",
    processing: str = "P",
    with_zfa: bool = True,
) -> bytes:
    """The ADT of PAM-FR that states what ``patient`` decided about the index, every answer given at ``at``."""
    zfa = f"ZFA|{record_status}|{at}|||||||{opposition}|{at}|{reading}|{at}"
    return _message(
        _msh(f"ADT^{event}", control_id, sent_at, "2.5^FRA^2.11", "UNICODE UTF-8", processing=processing),
        f"EVN||{sent_at}",
        _pid(patient or LabPatient()),
        "PV1|1|N",
        *([zfa] if with_zfa else []),
    )


_TITLE = "18748-4^CR d'imagerie médicale^LN"
_PV1 = f"PV1|1|O|RADIO{'|' * 16}V9001^^^LAB&{_ARCS}.7&ISO^VN"
_RPPS, _FINESS = "ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^RPPS", "ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^FINEG"


def _message(*segments: str, codec: str = "utf-8") -> bytes:
    return "".join(segment + "\r" for segment in segments).encode(codec)


def _msh(kind: str, control_id: str, sent_at: str, version: str, charset: str, *, processing: str = "P") -> str:
    locale = f"{version}|||||FRA|{charset}|||2.1^CISIS_CDA_HL7_V2"
    return f"MSH|^~\\&|RIS-LAB|SITE-LAB|POTERNE|POTERNE|{sent_at}||{kind}|{escape(control_id)}|{processing}|{locale}"


def _report(exam: LabExam, cda: bytes | None, result_status: str) -> list[str]:
    """What carries the report and its flags, alike in every envelope."""
    report = base64.b64encode(build_cda(exam) if cda is None else cda).decode()
    person = f"{exam.doctor_id}^{escape(exam.doctor[0])}^{escape(exam.doctor[1])}"
    structure = f"{escape(exam.structure_name)}^^^^^{_FINESS}^^^{exam.structure_id}"
    return [
        f"OBX|1|ED|{_TITLE}||^TEXT^XML^Base64^{report}||||||{result_status}",
        f"PRT||UC||SB^^participation|{person}^^^^^^{_RPPS}|||{structure}",
        *(
            f"OBX|{number}|CE|{flag}^^MetaDMPMSS||{value}^^expandedYes-NoIndicator||||||F"
            for number, (flag, value) in enumerate(exam.flags.items(), start=2)
        ),
    ]


def _orc(one: LabRequest, *, timing: str = "") -> str:
    decider = _xcn(one.decider_id, one.decider) if one.decider_id else ""
    return (
        f"ORC|{one.control}|{_ei(one.placer, f'{_ARCS}.6')}|{_ei(one.filler, f'{_ARCS}.8')}||{one.state}||{timing}|"
        f"{_ei(one.parent, f'{_ARCS}.6')}|||{decider}|{_xcn(one.requester_id, one.requester)}||||"
        f"{f'^{escape(one.decision)}' if one.decision else ''}"
    )


def _obr(one: LabRequest, *, accession: str) -> str:
    code, display = one.procedure
    return (
        f"OBR|1|{_ei(one.placer, f'{_ARCS}.6')}|{_ei(one.filler, f'{_ARCS}.8')}|{code}^{escape(display)}^LN"
        f"{'|' * 9}{escape(one.reason)}|||{_xcn(one.requester_id, one.requester)}||{accession}"
        f"{'|' * 6}{one.modality}"
    )


def _xcn(identifier: str, name: tuple[str, str]) -> str:
    return f"{identifier}^{escape(name[0])}^{escape(name[1])}^^^^^^{_RPPS}"


def _ei(value: str, issuer: str) -> str:
    return f"{escape(value)}^LAB^{issuer}^ISO" if value else ""


def _pid(p: LabPatient) -> str:
    """PID, local identifier first: receivers choose by CX-5."""
    identifiers = f"{escape(p.ipp)}^^^LAB&{p.ipp_issuer}&ISO^PI"
    if p.matricule:
        identifiers += f"~{escape(p.matricule)}^^^ASIP-SANTE-INS-NIR&{p.ins_oid}&ISO^INS"
    names = "^".join(escape(name) for name in (p.birth_name, p.first_given_name, p.given_names)) + "^^^^L"
    if p.used_name:
        names += f"~{escape(p.used_name)}^^^^^^D"
    address = f"1 RUE DE LA POTERNE^^PARIS^^75001^FRA^H~^^^^^^BDL^^{escape(p.birthplace)}"
    return (
        f"PID|1||{identifiers}||{names}||{p.birth_date:%Y%m%d}|{escape(p.sex)}|||{address}"
        f"{'|' * 20}N|{escape(p.ins_status)}"
    )


def _id(root: str, extension: str | None = None) -> str:
    """Attributes of an II."""
    return f" root={quoteattr(root)}" + (f" extension={quoteattr(extension)}" if extension else "")


def _doctor(exam: LabExam) -> str:
    """Content of an assignedAuthor or assignedEntity."""
    family, given = exam.doctor
    return (
        f"<id{_id('1.2.250.1.71.4.2.1', exam.doctor_id)}/>"
        '<code code="G15_10/SM44" displayName="Médecin - Radio-diagnostic (SM)" codeSystem="1.2.250.1.213.1.1.4.5"/>'
        f"<assignedPerson><name><given>{xml_text(given)}</given><family>{xml_text(family)}</family></name></assignedPerson>"
        f"<representedOrganization><id{_id('1.2.250.1.71.4.2.2', exam.structure_id)}/>"
        f"<name>{xml_text(exam.structure_name)}</name>"
        '<standardIndustryClassCode code="AMBULATOIRE" displayName="Ambulatoire" codeSystem="1.2.250.1.213.1.1.4.9"/>'
        "</representedOrganization>"
    )


def _order(order: LabOrder) -> str:
    return (
        f"<inFulfillmentOf><order><id{_id(order.placer_issuer, order.placer_number)}/>"
        f"<ps3-20:accessionNumber{_id(order.accession_issuer, order.accession_number)}/></order></inFulfillmentOf>\n"
    )


def _service_event(exam: LabExam, doctor: str) -> str:
    """documentationOf: every study in one serviceEvent, with procedure, modality and region."""
    modality = _qualifier("121139", _DCM)
    region = _qualifier("39111-0", _LOINC)
    return f"""<documentationOf><serviceEvent classCode="ACT">
{"".join(f"<id{_id(study)}/>" for study in exam.studies)}
<code{_code(*exam.procedure, _LOINC)}><translation{_code(*exam.procedure_local, "1.2.250.1.213.2.5")}/>
<translation{_code(exam.modality, "", _DCM)}>{modality}</translation>
<translation{_code(*exam.region, _SNOMED)}>{region}</translation>
</code>
<effectiveTime><low value={quoteattr(exam.start)}/><high value={quoteattr(exam.stop)}/></effectiveTime>
<performer typeCode="PRF"><assignedEntity>{doctor}</assignedEntity></performer>
</serviceEvent></documentationOf>"""


def _qualifier(code: str, system: str) -> str:
    """What tells a translation's part in the procedure."""
    return f'<qualifier><name code="{code}" codeSystem="{system}"/></qualifier>'


def _code(code: str, display: str, system: str) -> str:
    """Attributes of a CD."""
    return f' code={quoteattr(code)} displayName={quoteattr(display)} codeSystem="{system}"'


def _body(level: int) -> str:
    if level == 1:
        pdf = base64.b64encode(TINY_PDF).decode()
        body = f'<nonXMLBody><text mediaType="application/pdf" representation="B64">{pdf}</text></nonXMLBody>'
    else:
        body = (
            "<structuredBody><component><section>"
            f'<code code="18782-3" displayName="Résultats" codeSystem="{_LOINC}"/><title>Résultats</title>'
            "<text>Examen inventé, sans particularité.</text></section></component></structuredBody>"
        )
    return f"<component>{body}</component>"


def build_adt_identity(
    patient: LabPatient,
    *,
    event: str,
    prior: LabPatient | None = None,
    control_id: str = "POTERNE-LAB-I1",
    sent_at: str = "20260108080000+0100",
) -> bytes:
    """What the identity register says: A08 or A31 corrects ``patient``; A40 merges ``prior`` into them (MRG); A37
    takes the two apart (two PID)."""
    other = []
    if prior is not None:
        stated = f"{escape(prior.ipp)}^^^LAB&{prior.ipp_issuer}&ISO^PI"
        other = [f"MRG|{stated}"] if event == "A40" else [f"PID|2||{stated}"]
    return _message(
        _msh(f"ADT^{event}", control_id, sent_at, "2.5^FRA^2.11", "UNICODE UTF-8"),
        f"EVN||{sent_at}",
        _pid(patient),
        *other,
        "PV1|1|N",
    )
