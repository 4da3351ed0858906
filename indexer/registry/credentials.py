"""Who speaks: the assertion (VIHF) that a node may demand beside every request.

Invariants:

* a genuine assertion of a pinned signer, valid now, and used once: its id is remembered for as long as it is valid;
* an assertion that names a patient is for a request about that patient: one made for another is refused, and what is
  submitted, updated or searched for without naming the patient in the assertion is refused too.

An AudienceRestriction is not judged: the profile states none. What was seen is forgotten at a restart.
"""

from __future__ import annotations

from datetime import datetime

from lxml import etree

from indexer.registry.validate import patient_of
from indexer.xds import soap
from indexer.xds import vocabulary as v
from indexer.xds.vihf import PURPOSE_OF_USE, RESOURCE_ID, SKEW, read_security_header
from security.clock import Clock
from security.errors import BadInput, Unavailable
from security.xmlsig.verifying import Trust

REMEMBERED_MAX = 100_000  # assertions; those of the last minutes are kept, whatever comes
_PATIENT_SCHEMES = frozenset({v.SET_PATIENT_ID, v.ENTRY_PATIENT_ID})
_PATIENT_PARAMETERS = frozenset({"$XDSDocumentEntryPatientId", "$XDSSubmissionSetPatientId"})


class Credentials:
    """Demands an assertion. One per node: it remembers those it has seen."""

    def __init__(self, trust: Trust, clock: Clock, *, remembered_max: int = REMEMBERED_MAX) -> None:
        self._trust = trust
        self._clock = clock
        self._remembered_max = remembered_max
        self._seen: dict[str, datetime] = {}

    def check(self, envelope: soap.Envelope) -> str:
        """The purpose of use of the assertion, when the request may be served.

        Raises:
            BadInput: ``vihf-…``, ``signature-…``.
            Unavailable: ``vihf-crowded`` too many assertions at once to remember them all.
        """
        now = self._clock.now()
        found = read_security_header(envelope.security, trust=self._trust, now=now)
        _check_patient(envelope.body, found.attributes.get(RESOURCE_ID, ()))
        if found.assertion_id in self._seen:
            raise _bad("replayed", "the assertion was used before")
        if len(self._seen) >= self._remembered_max:
            self._seen = {one: until for one, until in self._seen.items() if until + SKEW > now}
        if len(self._seen) >= self._remembered_max:
            raise Unavailable("too many assertions at once", code="vihf-crowded", hint="ask again in some minutes")
        self._seen[found.assertion_id] = found.expires_at
        return " ".join(found.attributes.get(PURPOSE_OF_USE, ()))[:64]


def _check_patient(body: etree._Element, stated: tuple[str, ...]) -> None:
    named = {
        patient_of(one.get("value", ""))
        for one in body.iter(f"{{{v.NS_RIM}}}ExternalIdentifier")
        if one.get("identificationScheme", "").lower() in _PATIENT_SCHEMES
    } | {
        patient_of(soap.text(value).strip("'"))
        for slot in body.iter(f"{{{v.NS_RIM}}}Slot")
        if slot.get("name", "") in _PATIENT_PARAMETERS
        for value in slot.iter(f"{{{v.NS_RIM}}}Value")
    }
    if named and named != {patient_of(one) for one in stated}:
        raise _bad("other-patient", "the assertion is not about the patient of the request")


def _bad(code: str, message: str) -> BadInput:
    return BadInput(f"VIHF: {message}", code=f"vihf-{code}", hint="make an assertion for each request")
