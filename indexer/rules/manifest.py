"""The rules that stand before a form's own: what is a manifest document at all, and of which profile."""

from __future__ import annotations

from indexer.rules import Rule

FORM = Rule(
    id="manifest-form",
    severity="error",
    clause="PS3.10 7.1; FHIR R4 2.6",
    says="a manifest is a DICOM file (Key Object Selection) or a FHIR Bundle in JSON",
    remedy="name the document itself, neither compressed nor wrapped",
)
PROFILE = Rule(
    id="manifest-profile",
    severity="error",
    clause="--profile",
    says="the document is of the profile it is expected to be of",
    remedy="make it again in the profile that is asked for, or convert it",
)

RULES = (FORM, PROFILE)
"""All of them; ids are unique."""
