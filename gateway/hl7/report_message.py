"""What a message that carries a CDA report says: its patient, its flags, and the report (drim-m §2).

Two envelopes carry the same report: ORU^R01 (ORC-1 says what to do with it) and MDM^T02, T10 and T04 (the event
says it, ORC-1 repeats it, TXA names the document). What comes out is the same.

Invariants:

* no visibility flag is lost: a known flag that cannot be read refuses the message, because silence would publish
  what somebody masked; so does a code of their system that we do not know, for it may be one misspelt;
* an envelope that names another document, or asks for something else, than the report inside is refused.

Whether envelope and report agree about the patient, with each other and with what is held, is the gate's
(``indexer``); DESTDMP=N and an unqualified INS are data, not errors.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from gateway.hl7.cda import CdaRefused, read_cda
from gateway.hl7.reading import Reading, professional
from indexer.report import DocumentId, Organization, Professional, Report, Visibility
from security.identity import PatientIdentity
from security.parse.hl7 import Charset, Message, Problem, Segment

VERSIONS = frozenset({"2.5", "2.5.1", "2.6"})  # the versions of the national volets (drim-m §2)
ORDER_CONTROLS = frozenset({"NW", "RO", "CA"})
FINAL_STATUSES = frozenset({"", "F", "C", "D"})  # OBX-11, table 0085: final, corrected, deleted; silence is final
_FLAG_SYSTEM = "MetaDMPMSS"
_FLAGS = {  # OBX-3.1 → field of Visibility
    "MASQUE_PS": "masked_to_professionals",
    "INVISIBLE_PATIENT": "invisible_to_patient",
    "INVISIBLE_REP_LEGAUX": "invisible_to_guardians",
    "CONNEXION_SECRETE": "secret_connection",
    "MODIF_CONF_CODE": "changes_confidentiality",
    "DESTDMP": "for_index",
}
_FLAGS_OF_OTHERS = frozenset(  # for mail and receipts: the business of the platform that carries the report
    {"DESTMSSANTEPS", "DESTMSSANTEPAT", "ACK_RECEPTION", "ACK_LECTURE_MSS", "CORPSMAIL_PS", "CORPSMAIL_PATIENT"}
)
DOCUMENT_EVENTS = {"T02": "NW", "T10": "RO", "T04": "CA"}
"""What each event of MDM asks for, as the order control that asks for it in ORU."""
_AUTHENTICATED = frozenset({"", "AU", "LA"})  # TXA-17, table 0271: (legally) authenticated; silence is


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMessage:
    """One report message, read.

    ``envelope``: the patient as PID states them, INS with its PID-32 status. ``report``: the CDA with the
    envelope's flags and sender; its own ``patient`` is the CDA's. ``result_status``: OBX-11 of the CDA.
    ``notes``: what was read another way, for the exam's timeline.
    """

    control_id: str
    sending_application: str
    sending_facility: str
    trigger: str
    order_control: str
    result_status: str
    envelope: PatientIdentity
    report: Report
    visit_number: str
    charset: Charset
    notes: tuple[Problem, ...] = ()


def read_report_message(message: Message, *, timezone: tzinfo, received_at: datetime) -> ReportMessage:  # noqa: ARG001 - every reader is called alike
    """The report that an ORU^R01 or MDM^T02, T10 or T04 holds; ``timezone`` is that of times without an offset.

    Raises:
        MessageRefused: with every reason.
    """
    header = message.header
    reading = _ReportReading(message, timezone, versions=VERSIONS)
    envelope = reading.patient()
    order_control = reading.order_control()
    reading.validated()
    visibility = reading.visibility()
    carrier = reading.carrier()
    report = reading.report(carrier) if carrier is not None else None
    if report is not None:
        reading.document(report)
        reading.correction(order_control, report)
    visit = message.segment("PV1")
    report = reading.whole(report)
    return ReportMessage(
        control_id=header.text(10),
        sending_application=header.text(3),
        sending_facility=header.text(4),
        trigger=header.text(9, 2),
        order_control=order_control,
        result_status=carrier.text(11) if carrier is not None else "",
        envelope=envelope,
        report=replace(report, visibility=visibility, sender=_sender(message)),
        visit_number=visit.text(19) if visit is not None else "",
        charset=message.charset,
        notes=tuple(reading.notes),
    )


class _ReportReading(Reading):
    """A report message under reading."""

    def order_control(self) -> str:
        """What the message asks for: NW, RO or CA, by ORC-1 of an ORU, by the event of an MDM, which may lack ORC."""
        asked = DOCUMENT_EVENTS.get(self.message.header.text(9, 2), "")
        found = self.message.segments("ORC")
        if not found and not asked:
            self.missing("ORC", "the order control: NW, RO or CA")
        control = asked or (found[0].text(1) if found else "")
        for orc in found:
            stated = orc.text(1)
            if asked and not stated:
                continue
            if stated not in ORDER_CONTROLS:
                code = "unknown-value" if stated else "missing-field"
                self.add(orc, 1, code, "Order control: expected NW, RO or CA")
            elif asked and stated != asked:
                self.add(orc, 1, "wrong-version", f"Order control: expected {asked}, which is what the event says")
            elif stated != control:
                self.add(orc, 1, "several-values", "Order control: expected the same in every ORC of one report")
        return control

    def document(self, report: Report) -> None:
        """TXA of an MDM: the document it names is the report inside, and somebody answers for it."""
        if self.message.header.text(9) != "MDM":
            return
        txa = self.message.segment("TXA")
        if txa is None:
            self.missing("TXA", "the document, with the id of the CDA in TXA-12")
            return
        if not _names(txa, 12, report.document_id):
            text = "Unique document number: expected the id of the CDA, its root or root.extension"
            self.add(txa, 12, "document-id-differs", text)
        if txa.text(17) not in _AUTHENTICATED:
            self.add(txa, 17, "unknown-value", "Completion status: expected a validated report, AU or LA")

    def validated(self) -> None:
        """OBR-25 of every order: a preliminary result is no report to publish."""
        for obr in self.message.segments("OBR"):
            if obr.text(25) not in FINAL_STATUSES:
                self.add(obr, 25, "unknown-value", "Result status: expected a validated report, F or C")

    def correction(self, order_control: str, report: Report) -> None:
        """A correction (ORC-1 = RO, MDM^T10) says what it replaces, or the old report would stay valid beside it; no
        report replaces itself, or none would be left.

        TXA-13 names the same document where it is filled; a withdrawal may fill it too.
        """
        place = self.message.segment("ORC") or self.message.header
        number = 1 if place.name == "ORC" else 9
        if report.replaces == report.document_id:
            self.add(place, number, "wrong-version", "Replacement: expected another report than the CDA itself")
            return
        if order_control != "RO":
            return
        if report.replaces is None:
            text = "Replacement: expected relatedDocument RPLC with the id of the replaced report in the CDA"
            self.add(place, number, "wrong-version", text)
            return
        txa = self.message.segment("TXA")
        if txa is not None and txa.field(13) and not _names(txa, 13, report.replaces):
            text = "Parent document number: expected the id that the CDA says it replaces, its root or root.extension"
            self.add(txa, 13, "wrong-version", text)

    def visibility(self) -> Visibility:
        """The flags of the OBX whose OBX-3.3 is MetaDMPMSS, each at most once or twice alike."""
        stated: dict[str, bool] = {}
        for obx in self.message.segments("OBX"):
            code, is_flag = obx.text(3).strip().upper(), _is_flag(obx)
            if code not in _FLAGS:
                if is_flag and code not in _FLAGS_OF_OTHERS:
                    text = f"Flag in OBX-3.1: expected a code of {_FLAG_SYSTEM}, e.g. {', '.join(_FLAGS)}"
                    self.add(obx, 3, "unknown-value", text)
                continue
            value = {"Y": True, "N": False}.get(obx.text(5))
            if not is_flag:
                self.add(
                    obx, 3, "unknown-value", f"Flag {code}: expected the coding system {_FLAG_SYSTEM} in OBX-3.3"
                )
            if obx.text(2) not in {"CE", "CWE"}:
                self.add(obx, 2, "bad-value", f"Flag {code}: expected the value type CE or CWE")
            if value is None:
                self.add(obx, 5, "unknown-value", f"Flag {code}: expected Y or N")
            elif stated.setdefault(_FLAGS[code], value) != value:
                self.add(obx, 5, "several-values", f"Flag {code}: stated twice, differently")
        return Visibility(**stated)

    def carrier(self) -> Segment | None:
        """The OBX that carries the CDA: type ED, not one of the flags (which may be mail texts)."""
        found = [o for o in self.message.segments("OBX") if o.text(2) == "ED" and not _is_flag(o)]
        if len(found) > 1:  # pictures and PDF beside the report
            found = [obx for obx in found if obx.text(5, 3).upper() == "XML"] or found
        if not found:
            self.missing("OBX", "one of type ED with the CDA report in OBX-5")
            return None
        if len(found) > 1:
            self.add(found[1], 5, "several-values", "Report: expected one OBX of type ED with a CDA")
            return None
        if found[0].text(11) not in FINAL_STATUSES:
            self.add(found[0], 11, "unknown-value", "Result status: expected a validated report, F, C or D")
        return found[0]

    def report(self, carrier: Segment) -> Report | None:
        """The CDA in ``^TEXT^XML^Base64^…``, whatever the case of its components."""
        values, line_break = carrier.field(5), f"{carrier.delimiters.escape}.br{carrier.delimiters.escape}"
        text = values[0].as_sent(5).replace(line_break, "") if values else ""  # some senders fold it
        if not text:
            self.add(carrier, 5, "empty-report", "Report: expected the CDA in OBX-5.5, found nothing")
            return None
        if carrier.text(5, 4).upper() != "BASE64":
            self.add(carrier, 5, "bad-base64", "Report: expected the encoding Base64 in OBX-5.4")
            return None
        try:
            joined = "".join(text.split())
            data = base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)  # some senders leave it out
        except (binascii.Error, ValueError):  # ValueError: characters outside ASCII
            self.add(carrier, 5, "bad-base64", "Report: OBX-5.5 is not Base64")
            return None
        try:
            return read_cda(data, timezone=self.timezone)
        except CdaRefused as fault:
            self.problems += [
                replace(p, segment=carrier.name, sequence=carrier.sequence, field=5) for p in fault.problems
            ]
            return None


def _sender(message: Message) -> Professional | None:
    """The PRT of type SB: person and structure on whose behalf the report is published."""
    prt = next((prt for prt in message.segments("PRT") if prt.text(4) == "SB"), None)
    if prt is None:
        return None
    structure = None
    if prt.text(8, 10):
        structure = Organization(identifier=prt.text(8, 10), system=prt.text(8, 6, 2), name=prt.text(8))
    persons = prt.field(5)
    return professional(persons[0], organization=structure) if persons else _nobody(structure)


def _nobody(structure: Organization | None) -> Professional:
    return Professional(identifier="", system="", organization=structure)


def _names(txa: Segment, number: int, document: DocumentId) -> bool:
    """Whether an EI of TXA names the document: in one component (drim-m §2), or its extension beside its root."""
    value, universal = txa.text(number).strip().upper(), txa.text(number, 3).strip().upper()
    root, extension = document.root.upper(), document.extension.upper()
    if not extension:
        return value == root
    return value in {f"{root}.{extension}", f"{root}^{extension}"} or (value, universal) == (extension, root)


def _is_flag(obx: Segment) -> bool:
    return obx.text(3, 3).strip() == _FLAG_SYSTEM
