"""The keys of one campaign, and the pseudonyms made with them (FF-51, T51, T53).

Invariants:

* every pseudonym is keyed: who has not the key can neither make it nor try guesses against it;
* the same value gives the same pseudonym within a campaign, in every object, report and process; another campaign
  shares no value with it;
* all dates of a patient move back by the same whole number of weeks: weekdays and intervals stay, times stay;
* nothing here turns a pseudonym back: once the campaign's keys are destroyed nobody can.

Leaves to others: where the site's master key is kept and who may read it; the site's link table; the units and
practitioners of a frame (``sampler.frame``, with ``campaign``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Self
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from security.errors import BadInput, Broken

KEY_BYTES = 32
WEEKS_MAX = 52
AGE_TOP = 90  # from here on a year of age singles people out (45 CFR 164.514(b)(2)(i)(C))

_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")  # with dots in ACR-NEMA, PS3.5 6.2 note
_DATE_TIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?((?:\d{2}){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?)")
_AGE = re.compile(r"(\d{3})([DWMY])")
_MONTH, _DAY = "01", "01"


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignKeys:
    """The four keys of one campaign, 32 bytes each; their values never appear in ``repr``."""

    uid: bytes = field(repr=False)
    pid: bytes = field(repr=False)
    date: bytes = field(repr=False)
    campaign: bytes = field(repr=False)

    @classmethod
    def derive(cls, master: bytes, campaign_id: str) -> Self:
        """HKDF-SHA256 of the site's master key with info = campaign id ‖ purpose (RFC 5869).

        No purpose ends another one, so two campaigns never meet in the same info.

        Raises:
            Broken: ``campaign-key-short``, the master key has fewer than 32 bytes.
            BadInput: ``campaign-id-empty``.
        """
        if len(master) < KEY_BYTES:
            raise Broken(
                f"the site's master key has {len(master)} bytes, at least {KEY_BYTES} are needed",
                code="campaign-key-short",
                hint="draw a new key at random; pseudonyms made with this one could be guessed",
            )
        if not campaign_id:
            raise BadInput(
                "a campaign without identifier", code="campaign-id-empty", hint="give the campaign its identifier"
            )
        return cls(
            **{purpose: _hkdf(master, campaign_id + purpose) for purpose in ("uid", "pid", "date", "campaign")}
        )


def _hkdf(master: bytes, info: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info.encode()).derive(master)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The patient of a case as the site knows them.

    ``authority`` assigned ``id``; ``other_ids``: identifiers under which the same patient stands in older objects.
    """

    authority: str
    id: str = field(repr=False)
    other_ids: frozenset[str] = field(default=frozenset(), repr=False)


class Pseudonyms:
    """What stands in the place of a patient's values within one campaign."""

    def __init__(self, keys: CampaignKeys, subject: Subject) -> None:
        who = f"{subject.authority}\0{subject.id}".encode()
        self._uid_key = keys.uid
        self._uids: dict[str, str] = {}
        self.subject = subject
        self.patient_id = "A-" + base64.b32encode(_hmac(keys.pid, who)).decode("ascii")[:12]
        self.patient_name = f"AUDIT^{self.patient_id}"
        weeks = 1 + int.from_bytes(_hmac(keys.date, who)[:8], "big") % WEEKS_MAX
        self.shift = timedelta(days=-7 * weeks)

    def uid(self, original: str) -> str:
        """``2.25.`` and the integer of a UUIDv8 (RFC 9562 5.8) of the keyed digest (PS3.5 B.2)."""
        known = self._uids.get(original)
        if known is None:
            known = self._uids[original] = f"2.25.{_uuid8(_hmac(self._uid_key, original.encode())[:16]).int}"
        return known

    def shifted_date(self, value: str) -> str | None:
        """A DA value moved (PS3.5 6.2), in today's form; None when it is no date."""
        match = _DATE.fullmatch(value.strip(" \0"))
        moved = self._moved(*match.groups()) if match else None
        return None if moved is None else moved.strftime("%Y%m%d").zfill(8)

    def shifted_date_time(self, value: str) -> str | None:
        """A DT value moved; time, offset and precision stay (PS3.5 6.2). None when it is none.

        Of a year or a month alone the first day is moved.
        """
        match = _DATE_TIME.fullmatch(value.strip(" \0"))
        if match is None:
            return None
        year, month, day, rest = match.groups()
        moved = self._moved(year, month or _MONTH, day or _DAY)
        if moved is None:
            return None
        kept = 4 + 2 * (month is not None) + 2 * (day is not None)
        return moved.strftime("%Y%m%d").zfill(8)[:kept] + rest

    def _moved(self, year: str, month: str, day: str) -> date | None:
        try:
            return date(int(year), int(month), int(day)) + self.shift
        except (ValueError, OverflowError):
            return None


def age_kept(value: str) -> str | None:
    """An AS value as it may be told (PS3.5 6.2): 90 years and more are ``090Y``. None when it is no age."""
    match = _AGE.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    number, unit = int(match[1]), match[2]
    years = number / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[unit]
    return f"{AGE_TOP:03}Y" if years >= AGE_TOP else match[0]


def age_at(birth: str, day: str) -> str | None:
    """The age on a day, both DA, by the rule of ``age_kept``; None when either is no date or the order is wrong."""
    born, then = _day(birth), _day(day)
    if born is None or then is None or then < born:
        return None
    years = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    if years >= 2:
        return f"{min(years, AGE_TOP):03}Y"
    months = (then.year - born.year) * 12 + then.month - born.month - (then.day < born.day)
    return f"{months:03}M" if months >= 3 else f"{(then - born).days:03}D"


def _day(value: str) -> date | None:
    match = _DATE.fullmatch(value.strip(" \0"))
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def _uuid8(data: bytes) -> UUID:
    value = int.from_bytes(data, "big")
    value = value & ~(0xF << 76) | (0x8 << 76)  # version, RFC 9562 4.2
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant, RFC 9562 4.1
    return UUID(int=value)
