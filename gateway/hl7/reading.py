"""What every message that this gateway reads has in common: its header, its patient, its reasons (drim-m §2).

Invariants:

* every reason against a message is collected before it is refused, so that one NAK names them all;
* repetitions are chosen by their type (CX-5, XPN-7, XAD-7), never by their place;
* no patient value in any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, tzinfo
from typing import TypeVar

from indexer.report import Organization, Professional
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits
from security.parse.hl7 import Message, Problem, Repetition, Segment, parse_ts

T = TypeVar("T")
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


class Reading:
    """One message under reading: what was found wrong, what was read another way.

    ``versions``: values of MSH-12 that are taken.
    """

    def __init__(self, message: Message, timezone: tzinfo, *, versions: frozenset[str]) -> None:
        self.message = message
        self.timezone = timezone
        self.problems: list[Problem] = list(message.problems)
        self.notes: list[Problem] = []
        header = message.header
        if header.text(12) not in versions:
            self.add(header, 12, "unsupported-version", f"Version: expected one of {', '.join(sorted(versions))}")
        if not header.text(10):
            self.add(header, 10, "missing-field", "Message control id: expected a value")
        if message.charset.fell_back:
            text = f"Character set: the bytes are not what MSH-18 says, read as {message.charset.used}"
            self.notes.append(problem_at(header, 18, "charset-fallback", text))

    def add(self, segment: Segment, field: int, code: str, text: str) -> None:
        """One more reason against the message."""
        self.problems.append(problem_at(segment, field, code, text))

    def missing(self, segment: str, what: str) -> None:
        """The reason that a whole segment is not there."""
        text = f"Segment {segment}: expected {what}"
        self.problems.append(Problem(code="missing-segment", segment=segment, sequence=1, text=text))

    def moment(self, segment: Segment, field: int) -> datetime | None:
        """The time stamp of a field, None when it is empty or cannot be read: when something was said is told by
        the moment it was received at too."""
        try:
            return parse_ts(segment.text(field), self.timezone)
        except BadInput:
            return None

    def patient(self) -> PatientIdentity:
        """The patient of PID."""
        pid = self.message.segment("PID")
        if pid is None:
            self.missing("PID", "the patient")
            return PatientIdentity(traits=Traits(birth_name="", first_given_name=""))
        if len(self.message.segments("PID")) > 1:
            self.add(pid, 0, "several-values", "Patient: expected one PID segment")
        identifiers = [cx for cx in pid.field(3) if cx.component(1)]
        local_ids = tuple(
            LocalId(value=cx.component(1), issuer=cx.component(4, 2)) for cx in of_type(identifiers, "PI")
        )
        return PatientIdentity(traits=self._traits(pid), ins=self._ins(pid, identifiers), local_ids=local_ids)

    def _ins(self, pid: Segment, identifiers: list[Repetition]) -> Ins | None:
        """The INS of PID-3 (CX-5 ``INS``) with the status of PID-32; the worst of several statuses counts."""
        found = dict.fromkeys((cx.component(1), cx.component(4, 2)) for cx in of_type(identifiers, "INS"))
        if not found:
            return None
        if len(found) > 1:
            self.add(pid, 3, "several-ins", "Patient identifier list: expected one INS, found different ones")
        statuses = [repetition.component(1) for repetition in pid.field(32)]
        matricule, oid = next(iter(found))
        status = next((status for status in statuses if status != "VALI"), "VALI" if statuses else "")
        return Ins(matricule=matricule, oid=oid, status=status)

    def _traits(self, pid: Segment) -> Traits:
        """Traits of PID: XPN-7 ``L`` is the birth name, ``D`` the used name; XAD-7 ``BDL`` is the birthplace."""
        names = pid.field(5)
        births = of_type(names, "L", at=7)
        if len({tuple(name.component(number) for number in (1, 2, 3)) for name in births}) > 1:
            self.add(
                pid, 5, "several-values", "Patient name: expected one repetition of type L, found different ones"
            )
        legal = next(iter(births), names[0] if len(names) == 1 else None)
        if legal is not None and legal.component(7) not in {"", "L"}:
            legal = None
        used = next(iter(of_type(names, "D", at=7)), None)
        birth_name, first_given = (legal.component(1), legal.component(2)) if legal is not None else ("", "")
        if not birth_name or not first_given:
            self.add(
                pid, 5, "missing-field", "Patient name: expected a repetition of type L with name and given name"
            )
        sex = pid.text(8)
        if sex and sex not in _SEXES:
            self.add(pid, 8, "unknown-value", "Administrative sex: expected M, F or U")
        return Traits(
            birth_name=birth_name,
            first_given_name=first_given,
            given_names=legal.component(3) if legal is not None else "",
            used_name=used.component(1) if used is not None else "",
            used_given_name=used.component(2) if used is not None else "",
            sex=_SEXES.get(sex, ""),
            birth_date=self._birth_date(pid),
            birthplace=next((xad.component(9) for xad in of_type(pid.field(11), "BDL", at=7)), ""),
        )

    def _birth_date(self, pid: Segment) -> date | None:
        text = pid.text(7)
        moment = (
            self.moment(pid, 7) if re.match(r"\d{8}", text) else None
        )  # not a year alone, with or without an offset
        if text and moment is None:
            self.add(pid, 7, "bad-value", "Date of birth: expected a full date, YYYYMMDD")
        return moment.date() if moment is not None else None

    def whole(self, made: T | None) -> T:
        """``made``, when nothing is against the message.

        Raises:
            MessageRefused: with every reason.
        """
        if made is None or self.problems:
            raise MessageRefused(self.problems)
        return made


def professional(xcn: Repetition, *, organization: Organization | None = None) -> Professional:
    """The person of an XCN: 1 identifier, 2 and 3 names, 9.2 the authority's OID."""
    return Professional(
        identifier=xcn.component(1),
        system=xcn.component(9, 2),
        family=xcn.component(2),
        given=xcn.component(3),
        organization=organization,
    )


def of_type(repetitions: Iterable[Repetition], kind: str, *, at: int = 5) -> list[Repetition]:
    """The repetitions whose component ``at`` says ``kind``."""
    return [repetition for repetition in repetitions if repetition.component(at) == kind]


def problem_at(segment: Segment, field: int, code: str, text: str) -> Problem:
    """A reason with the place it stands at."""
    return Problem(code=code, segment=segment.name, sequence=segment.sequence, field=field, text=text)
