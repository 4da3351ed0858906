"""Who read what of the index: the record that stands before the first byte of an answer leaves (security §4).

Invariants:

* one record for each patient that the answer shows or the question names, by blind index; what was asked is kept as
  a keyed digest alone, because a query names patients;
* who asks is what the connection and a verified assertion show, never what a header says;
* a read that cannot be recorded is not answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from security.audit import AuditRecord
from security.gatekeeper import fingerprint_of

SUCCESS, REFUSED = 0, 4
_NAMES = {"commonName": "CN", "organizationalUnitName": "OU", "organizationName": "O", "countryName": "C"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """``name``: the certificate or this machine; ``peer``: distinguished name; ``address``: its network address;
    ``purpose``: purpose of use that an assertion states."""

    name: str
    peer: str = ""
    address: str = ""
    purpose: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One thing of one patient that was read, or asked for. ``patient``: blind index, "" when none is known."""

    object_type: str
    object_id: str
    patient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One read. ``event``: of ``security.audit.vocabulary``; ``words``: codes and counts."""

    event: str
    asker: Asker
    looks: tuple[Look, ...]
    outcome: int = SUCCESS
    words: str = ""

    def records(self, tenant: str, now: datetime) -> list[AuditRecord]:
        """Its records."""
        return [
            AuditRecord(
                tenant=tenant, zone="index", at=now, event=self.event, actor=self.asker.name, outcome=self.outcome,
                object_type=look.object_type, object_id=look.object_id, detail=self.words,
                address=self.asker.address, peer=self.asker.peer, purpose=self.asker.purpose, patient=look.patient,
            )
            for look in self.looks
        ]  # fmt: skip


def looks(object_type: str, object_id: str, patients: Iterable[str]) -> tuple[Look, ...]:
    """One look for each patient, one without when there is none."""
    known = sorted({one for one in patients if one}) or [""]
    return tuple(Look(object_type=object_type, object_id=object_id, patient=one) for one in known)


def asker_of(request: web.Request, *, purpose: str = "") -> Asker:
    """Who asks, by its connection."""
    shown = fingerprint_of(request)
    secured = request.transport.get_extra_info("ssl_object") if request.transport else None
    subject = (secured.getpeercert() or {}).get("subject", ()) if secured is not None else ()
    name = f"gateway-peer certificate {shown[:16]}" if shown else "gateway-peer"
    return Asker(name=name, peer=_name(subject), address=_address(request), purpose=purpose)


def _name(subject: Iterable[Iterable[tuple[str, Any]]]) -> str:
    parts = [f"{_NAMES.get(key, key)}={value}" for rdn in subject for key, value in rdn]
    return ",".join(reversed(parts))[:256]


def _address(request: web.Request) -> str:
    peername: Any = request.transport.get_extra_info("peername") if request.transport else None
    try:
        return str(ipaddress.ip_address(str(peername[0]).partition("%")[0]))
    except (ValueError, TypeError, IndexError):
        return ""
