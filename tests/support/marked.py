"""Twenty invented persons whose every value is a mark: whoever shows one of them anywhere shows a patient (T34).

``MARKED[n]`` is one exam of one of them, and ``found(text)`` names the marks that stand in a text, whatever it is
escaped or packed as: as they are, in percent, in backslash escapes, in base64 and in hexadecimal.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import date
from urllib.parse import unquote_to_bytes

from gateway.lab.ris import FLAGS, LabExam, LabOrder, LabPatient

LETTERS = "ABCDEFGHIJKLMNOPQRST"
ARCS = "1.2.250.1.213.4.5.9"
_B64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){12,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One person with one exam. ``word``: a mark that is no value of theirs, for whatever else is to be marked."""

    exam: LabExam
    word: str
    marks: tuple[str, ...]

    @property
    def patient(self) -> LabPatient:
        return self.exam.patient

    @property
    def study(self) -> str:
        return self.exam.studies[0]


def _marked(n: int) -> Marked:
    mark = f"ZQ{LETTERS[n] * 2}Q"  # long enough never to stand in sealed bytes by chance
    number = 7100 + n
    patient = LabPatient(
        birth_name=f"{mark}NOM",
        first_given_name=f"{mark}PRENOM",
        given_names=f"{mark}PRENOM {mark}SECOND",
        used_name=f"{mark}USAGE",
        birth_date=date(1911, 3, 1 + n),
        ipp=f"{mark}IPP",
        rank=301 + n,
    )
    order = LabOrder(accession_number=f"{mark}ACC", placer_number=f"{mark}OPN")
    exam = LabExam(
        patient=patient,
        orders=(order,),
        studies=(f"{ARCS}.2.{number}",),
        document_id=f"{ARCS}.1.{number}",
        set_id=f"{ARCS}.3.{number}",
        flags=dict.fromkeys(FLAGS, "N"),
    )
    matricule = patient.matricule or ""
    marks = (mark, matricule[:13], f"{patient.birth_date:%Y%m%d}", f"{patient.birth_date:%Y-%m-%d}")
    return Marked(exam=exam, word=f"{mark}MOT", marks=marks)


MARKED = tuple(_marked(n) for n in range(len(LETTERS)))
_MARKS = [(mark.encode(), mark) for one in MARKED for mark in one.marks]


def found(data: bytes | str) -> set[str]:
    """The marks that stand in ``data``, in any of the forms."""
    raw = data.encode() if isinstance(data, str) else data
    forms = [raw, unquote_to_bytes(raw), raw.decode("utf-8", "replace").encode("ascii", "backslashreplace")]
    forms += [raw.replace(b"\\u005a", b"Z").replace(b"\0", b"")]
    for match in _B64.finditer(raw):
        text = match[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        forms += [base64.b64decode(text[start : start + (len(text) - start) // 4 * 4]) for start in range(4)]
    forms += [bytes.fromhex(match[0].decode()) for match in _HEX.finditer(raw)]
    return {mark for octets, mark in _MARKS for form in forms if octets in form}
