"""Arithmetic of the INS matricule: its shape, its key, what its digits say about a person.

A matricule is a NIR or a NIA: 13 characters and a key of two digits. The 13 characters are sex (1), year (2),
month (2), place (5, of which the first two may be 2A or 2B) and order (3) of birth.

Invariants:

* pure arithmetic: nothing here knows whether a matricule was ever given to anybody;
* no value of a matricule leaves in an error: functions answer, they do not raise.

Decisions where the sources are silent:

* sex digit: 1 and 2 are those of a NIR; 3, 4, 7 and 8 are those of provisional numbers (a NIA, or a person
  being registered). All six are accepted under either authority, and odd says M, even says F;
* months 20–42 and 50–99 are the register's own for a birth month it does not know: they say nothing about the
  month of birth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class InsAuthority:
    """An assigning authority of matricules. ``label``: IssuerOfPatientID and CX-4.1; ``production``: real people."""

    oid: str
    label: str
    meaning: str
    production: bool


INS_AUTHORITIES: Mapping[str, InsAuthority] = MappingProxyType(
    {
        authority.oid: authority
        for authority in (
            InsAuthority(oid="1.2.250.1.213.1.4.8", label="ASIP-SANTE-INS-NIR", meaning="NIR", production=True),
            InsAuthority(oid="1.2.250.1.213.1.4.9", label="ASIP-SANTE-INS-NIA", meaning="NIA", production=True),
            InsAuthority(
                oid="1.2.250.1.213.1.4.10", label="ASIP-SANTE-INS-NIR", meaning="NIR, tests", production=False
            ),
            InsAuthority(
                oid="1.2.250.1.213.1.4.11",
                label="ASIP-SANTE-INS-NIR",
                meaning="NIR, demonstrations",
                production=False,
            ),
        )
    }
)
"""By OID (drim-m §11; .9 and .11 are inferred there)."""

_MATRICULE = re.compile(
    r"(?P<sex>[123478])"
    r"(?P<year>[0-9]{2})"
    r"(?P<month>0[1-9]|1[0-2]|[2-3][0-9]|4[0-2]|[5-9][0-9])"
    r"(?P<department>[0-9]{2}|2[AB])"
    r"(?P<rest>[0-9]{6})"
    r"(?P<key>[0-9]{2})",
    re.ASCII,
)
_CORSICA = {"2A": "19", "2B": "18"}  # how the key reads the two departments


def check_key(matricule: str) -> bool:
    """Whether the text has the shape of a matricule (15 characters) and its key is 97 − (number mod 97).

    A single wrong digit never passes. What passes although it is wrong: 19 written for 2A, 18 for 2B (both give
    the same number), and texts that differ by a multiple of 97.
    """
    read = _MATRICULE.fullmatch(matricule)
    if read is None:
        return False
    department = _CORSICA.get(read["department"], read["department"])
    number = int(read["sex"] + read["year"] + read["month"] + department + read["rest"])
    return int(read["key"]) == 97 - number % 97


def digits_disagree(matricule: str, sex: str, birth_date: date | None) -> tuple[str, ...]:
    """Which of ``sex``, ``year``, ``month`` the matricule's digits contradict, in that order.

    ``sex``: M or F, anything else says nothing; a birth date of None says nothing. The century is not in a
    matricule. A text without the shape of a matricule contradicts nothing: that is ``check_key``'s business.
    """
    read = _MATRICULE.fullmatch(matricule)
    if read is None:
        return ()
    wrong = []
    if sex in {"M", "F"} and sex != ("M" if int(read["sex"]) % 2 else "F"):
        wrong.append("sex")
    if birth_date is not None:
        if int(read["year"]) != birth_date.year % 100:
            wrong.append("year")
        if int(read["month"]) <= 12 and int(read["month"]) != birth_date.month:
            wrong.append("month")
    return tuple(wrong)
