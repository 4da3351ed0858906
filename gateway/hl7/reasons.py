"""Why a message was not taken, in words for the operator: one sentence per code, with what to do."""

from __future__ import annotations

from gateway.i18n import N_

TEXTS: dict[str, str] = {
    "broken-line": N_("a line of the message is no segment: line breaks inside a field must be escaped"),
    "second-header": N_("two messages came in one frame: the sender must frame each of them"),
    "unsupported-type": N_("the gateway does not read this type of message: the sender need not send it here"),
    "unsupported-event": N_("the gateway does not read this event: the sender need not send it here"),
    "unsupported-processing": N_("the message is a test (MSH-11 is not P): send it to a test platform"),
    "unsupported-version": N_("the gateway does not read this version of HL7 (MSH-12)"),
    "missing-segment": N_("a segment is missing: the answer names it"),
    "missing-field": N_("a field is missing: the answer names it"),
    "bad-value": N_("a value has not the form it must have: the answer names its place"),
    "unknown-value": N_("a code is none of those expected: the answer names its place"),
    "several-values": N_("a value stands several times, differently, where one is expected"),
    "several-ins": N_("the message states several INS for one patient"),
    "too-many": N_("the message holds more than the gateway takes at once"),
    "bad-base64": N_("the report inside the message is not Base64"),
    "empty-report": N_("the message carries no report"),
    **dict.fromkeys(
        ("xml-malformed", "xml-doctype", "xml-limit", "xml-empty", "xml-too-large", "xml-xinclude"),
        N_("the report inside the message is no XML that can be read safely"),
    ),
    "not-a-cda": N_("the document inside the message is no CDA report"),
    "no-study-uid": N_("the report does not name its study (serviceEvent/id)"),
    "bad-study-uid": N_("the study is not named by a DICOM UID"),
    "no-order": N_("the report does not name the order it fulfils"),
    "no-accession": N_("the report does not state the accession number of its order"),
    "no-placer-order": N_("the report does not state the placer number of its order"),
    "no-order-number": N_("the order has neither a number nor a study: nobody could find it again"),
    "document-id-differs": N_("TXA-12 does not name the report inside the message"),
    "wrong-version": N_("the message replaces a report without saying which, or under an identifier already used"),
    "control-id-reused": N_("another message was taken under this control identifier (MSH-10)"),
    "unknown-report": N_("the message withdraws a report that was never taken: look for it under another identifier"),
    "ins-missing": N_("the patient has no INS: the exam is held, complete the identity and send the report again"),
    "ins-conflict": N_("two sources disagree about the patient: the exam is held, compare the identities"),
    "unknown-patient": N_("the message states no identifier by which the patient could be found"),
    "no-room": N_("the disk is full: nothing was kept, the sender must send again"),
    "hl7-no-msh": N_("what came is no HL7 message"),
    "hl7-bad-delimiters": N_("what came is no HL7 message"),
    **dict.fromkeys(
        (
            "hl7-too-large",
            "hl7-too-many-lines",
            "hl7-too-many-fields",
            "hl7-too-many-repetitions",
            "hl7-too-many-escapes",
        ),
        N_("the message is larger than any report: look at its sender"),
    ),
    "hl7-undecodable": N_("the character set of the message (MSH-18) is not that of its bytes"),
}
"""By code of ``Problem``."""
