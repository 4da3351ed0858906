"""What an ORU^R01 that carries a CDA report says: the envelope's identity and flags, and the report (drim-m §2).

Invariants:

* every reason against a message is collected before it is refused, so that one NAK names them all;
* no visibility flag is lost: a known flag that cannot be read refuses the message, because silence would publish
  what somebody masked; so does a code of their system that we do not know, for it may be one misspelt;
* repetitions are chosen by their type (CX-5, XPN-7, XAD-7), never by their place;
* no patient value in any text.

Whether envelope and report agree with each other and with what is held is the gate's (``indexer``); DESTDMP=N and
an unqualified INS are data, not errors.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, tzinfo

from gateway.hl7.cda import CdaRefused, read_cda
from indexer.report import Organization, Professional, Report, Visibility
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits
from security.parse.hl7 import Charset, Message, Problem, Repetition, Segment, parse_ts

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
_SEXES = {"M": "M", "F": "F", "U": "U", "A": "U", "O": "U", "N": "U", "I": "U"}  # table 0001; I in France


class MessageRefused(BadInput):
    """A message that cannot be used. ``problems``: every reason, each becomes an ERR segment."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        codes = ", ".join(dict.fromkeys(problem.code for problem in self.problems))
        super().__init__(
            f"HL7 message refused for {len(self.problems)} reasons: {codes}",
            code="message-refused",
            hint="correct the message at its sender and send it again",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMessage:
    """One ORU^R01, read.

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


def read_oru(message: Message, *, timezone: tzinfo) -> ReportMessage:
    """The report message ``message`` holds; ``timezone`` is that of times without an offset.

    Raises:
        MessageRefused: with every reason. For another type or event than ORU^R01, that reason alone: what else
            such a message should hold is not ours to say.
    """
    header = message.header
    kind, trigger = header.text(9), header.text(9, 2)
    if kind != "ORU":
        raise MessageRefused([_at(header, 9, "unsupported-type", "Message type: expected ORU^R01")])
    if trigger != "R01":
        raise MessageRefused([_at(header, 9, "unsupported-event", "Trigger event: expected R01")])
    if header.text(11) not in {"P", ""}:
        raise MessageRefused([_at(header, 11, "unsupported-processing", "Processing id: expected P, production")])
    reader = _Reader(message, timezone)
    envelope = reader.envelope()
    order_control = reader.order_control()
    reader.validated()
    visibility = reader.visibility()
    carrier = reader.carrier()
    report = reader.report(carrier) if carrier is not None else None
    reader.correction(order_control, report)
    if report is None or carrier is None or reader.problems:
        raise MessageRefused(reader.problems)
    visit = message.segment("PV1")
    return ReportMessage(
        control_id=header.text(10),
        sending_application=header.text(3),
        sending_facility=header.text(4),
        trigger=trigger,
        order_control=order_control,
        result_status=carrier.text(11),
        envelope=envelope,
        report=replace(report, visibility=visibility, sender=_sender(message)),
        visit_number=visit.text(19) if visit is not None else "",
        charset=message.charset,
        notes=tuple(reader.notes),
    )


class _Reader:
    """One message under reading: what it found wrong, what it read another way."""

    def __init__(self, message: Message, timezone: tzinfo) -> None:
        self._message = message
        self._timezone = timezone
        self.problems: list[Problem] = list(message.problems)
        self.notes: list[Problem] = []
        header = message.header
        if header.text(12) not in VERSIONS:
            self._add(header, 12, "unsupported-version", f"Version: expected one of {', '.join(sorted(VERSIONS))}")
        if not header.text(10):
            self._add(header, 10, "missing-field", "Message control id: expected a value")
        if message.charset.fell_back:
            text = f"Character set: the bytes are not what MSH-18 says, read as {message.charset.used}"
            self.notes.append(_at(header, 18, "charset-fallback", text))

    def envelope(self) -> PatientIdentity:
        """The patient of PID."""
        pid = self._message.segment("PID")
        if pid is None:
            self._missing("PID", "the patient")
            return PatientIdentity(traits=Traits(birth_name="", first_given_name=""))
        if len(self._message.segments("PID")) > 1:
            self._add(pid, 0, "several-values", "Patient: expected one PID segment")
        identifiers = [cx for cx in pid.field(3) if cx.component(1)]
        local_ids = tuple(
            LocalId(value=cx.component(1), issuer=cx.component(4, 2)) for cx in _of_type(identifiers, "PI")
        )
        return PatientIdentity(traits=self._traits(pid), ins=self._ins(pid, identifiers), local_ids=local_ids)

    def _ins(self, pid: Segment, identifiers: list[Repetition]) -> Ins | None:
        """The INS of PID-3 (CX-5 ``INS``) with the status of PID-32; the worst of several statuses counts."""
        found = dict.fromkeys((cx.component(1), cx.component(4, 2)) for cx in _of_type(identifiers, "INS"))
        if not found:
            return None
        if len(found) > 1:
            self._add(pid, 3, "several-ins", "Patient identifier list: expected one INS, found different ones")
        statuses = [repetition.component(1) for repetition in pid.field(32)]
        matricule, oid = next(iter(found))
        status = next((status for status in statuses if status != "VALI"), "VALI" if statuses else "")
        return Ins(matricule=matricule, oid=oid, status=status)

    def _traits(self, pid: Segment) -> Traits:
        """Traits of PID: XPN-7 ``L`` is the birth name, ``D`` the used name; XAD-7 ``BDL`` is the birthplace."""
        names = pid.field(5)
        births = _of_type(names, "L", at=7)
        if len({tuple(name.component(number) for number in (1, 2, 3)) for name in births}) > 1:
            self._add(
                pid, 5, "several-values", "Patient name: expected one repetition of type L, found different ones"
            )
        legal = next(iter(births), names[0] if len(names) == 1 else None)
        if legal is not None and legal.component(7) not in {"", "L"}:
            legal = None
        used = next(iter(_of_type(names, "D", at=7)), None)
        birth_name, first_given = (legal.component(1), legal.component(2)) if legal is not None else ("", "")
        if not birth_name or not first_given:
            self._add(
                pid, 5, "missing-field", "Patient name: expected a repetition of type L with name and given name"
            )
        sex = pid.text(8)
        if sex and sex not in _SEXES:
            self._add(pid, 8, "unknown-value", "Administrative sex: expected M, F or U")
        return Traits(
            birth_name=birth_name,
            first_given_name=first_given,
            given_names=legal.component(3) if legal is not None else "",
            used_name=used.component(1) if used is not None else "",
            used_given_name=used.component(2) if used is not None else "",
            sex=_SEXES.get(sex, ""),
            birth_date=self._birth_date(pid),
            birthplace=next((xad.component(9) for xad in _of_type(pid.field(11), "BDL", at=7)), ""),
        )

    def _birth_date(self, pid: Segment) -> date | None:
        text = pid.text(7)
        try:
            if re.match(r"\d{8}", text):  # not a year alone, with or without an offset
                return parse_ts(text, self._timezone).date()
        except BadInput:
            pass  # said below
        if text:
            self._add(pid, 7, "bad-value", "Date of birth: expected a full date, YYYYMMDD")
        return None

    def order_control(self) -> str:
        """ORC-1: NW, RO or CA."""
        found = self._message.segments("ORC")
        if not found:
            self._missing("ORC", "the order control: NW, RO or CA")
            return ""
        control = found[0].text(1)
        for orc in found:
            stated = orc.text(1)
            if stated not in ORDER_CONTROLS:
                code = "unknown-value" if stated else "missing-field"
                self._add(orc, 1, code, "Order control: expected NW, RO or CA")
            elif stated != control:
                self._add(orc, 1, "several-values", "Order control: expected the same in every ORC of one report")
        return control

    def validated(self) -> None:
        """OBR-25 of every order: a preliminary result is no report to publish."""
        for obr in self._message.segments("OBR"):
            if obr.text(25) not in FINAL_STATUSES:
                self._add(obr, 25, "unknown-value", "Result status: expected a validated report, F or C")

    def correction(self, order_control: str, report: Report | None) -> None:
        """A correction (ORC-1 = RO) says what it replaces, or the old report would stay valid beside it."""
        orc = self._message.segment("ORC")
        if orc is not None and order_control == "RO" and report is not None and report.replaces is None:
            text = "Replacement: expected relatedDocument RPLC with the id of the replaced report in the CDA"
            self._add(orc, 1, "wrong-version", text)

    def visibility(self) -> Visibility:
        """The flags of the OBX whose OBX-3.3 is MetaDMPMSS, each at most once or twice alike."""
        stated: dict[str, bool] = {}
        for obx in self._message.segments("OBX"):
            code, is_flag = obx.text(3).strip().upper(), _is_flag(obx)
            if code not in _FLAGS:
                if is_flag and code not in _FLAGS_OF_OTHERS:
                    text = f"Flag in OBX-3.1: expected a code of {_FLAG_SYSTEM}, e.g. {', '.join(_FLAGS)}"
                    self._add(obx, 3, "unknown-value", text)
                continue
            value = {"Y": True, "N": False}.get(obx.text(5))
            if not is_flag:
                self._add(
                    obx, 3, "unknown-value", f"Flag {code}: expected the coding system {_FLAG_SYSTEM} in OBX-3.3"
                )
            if obx.text(2) not in {"CE", "CWE"}:
                self._add(obx, 2, "bad-value", f"Flag {code}: expected the value type CE or CWE")
            if value is None:
                self._add(obx, 5, "unknown-value", f"Flag {code}: expected Y or N")
            elif stated.setdefault(_FLAGS[code], value) != value:
                self._add(obx, 5, "several-values", f"Flag {code}: stated twice, differently")
        return Visibility(**stated)

    def carrier(self) -> Segment | None:
        """The OBX that carries the CDA: type ED, not one of the flags (which may be mail texts)."""
        found = [o for o in self._message.segments("OBX") if o.text(2) == "ED" and not _is_flag(o)]
        if len(found) > 1:  # pictures and PDF beside the report
            found = [obx for obx in found if obx.text(5, 3).upper() == "XML"] or found
        if not found:
            self._missing("OBX", "one of type ED with the CDA report in OBX-5")
            return None
        if len(found) > 1:
            self._add(found[1], 5, "several-values", "Report: expected one OBX of type ED with a CDA")
            return None
        if found[0].text(11) not in FINAL_STATUSES:
            self._add(found[0], 11, "unknown-value", "Result status: expected a validated report, F, C or D")
        return found[0]

    def report(self, carrier: Segment) -> Report | None:
        """The CDA in ``^TEXT^XML^Base64^…``, whatever the case of its components."""
        values, line_break = carrier.field(5), f"{carrier.delimiters.escape}.br{carrier.delimiters.escape}"
        text = values[0].as_sent(5).replace(line_break, "") if values else ""  # some senders fold it
        if not text:
            self._add(carrier, 5, "empty-report", "Report: expected the CDA in OBX-5.5, found nothing")
            return None
        if carrier.text(5, 4).upper() != "BASE64":
            self._add(carrier, 5, "bad-base64", "Report: expected the encoding Base64 in OBX-5.4")
            return None
        try:
            data = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):  # ValueError: characters outside ASCII
            self._add(carrier, 5, "bad-base64", "Report: OBX-5.5 is not Base64")
            return None
        try:
            return read_cda(data, timezone=self._timezone)
        except CdaRefused as fault:
            self.problems += [
                replace(p, segment=carrier.name, sequence=carrier.sequence, field=5) for p in fault.problems
            ]
            return None

    def _add(self, segment: Segment, field: int, code: str, text: str) -> None:
        self.problems.append(_at(segment, field, code, text))

    def _missing(self, segment: str, what: str) -> None:
        text = f"Segment {segment}: expected {what}"
        self.problems.append(Problem(code="missing-segment", segment=segment, sequence=1, text=text))


def _sender(message: Message) -> Professional | None:
    """The PRT of type SB: person and structure on whose behalf the report is published."""
    prt = next((prt for prt in message.segments("PRT") if prt.text(4) == "SB"), None)
    if prt is None:
        return None
    structure = None
    if prt.text(8, 10):
        structure = Organization(identifier=prt.text(8, 10), system=prt.text(8, 6, 2), name=prt.text(8))
    return Professional(
        identifier=prt.text(5),
        system=prt.text(5, 9, 2),
        family=prt.text(5, 2),
        given=prt.text(5, 3),
        organization=structure,
    )


def _is_flag(obx: Segment) -> bool:
    return obx.text(3, 3).strip() == _FLAG_SYSTEM


def _of_type(repetitions: Iterable[Repetition], kind: str, *, at: int = 5) -> list[Repetition]:
    """The repetitions whose component ``at`` says ``kind``."""
    return [repetition for repetition in repetitions if repetition.component(at) == kind]


def _at(segment: Segment, field: int, code: str, text: str) -> Problem:
    return Problem(code=code, segment=segment.name, sequence=segment.sequence, field=field, text=text)
