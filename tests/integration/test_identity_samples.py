"""docs/identity.md names the official samples whose matricule contradicts the traits beside it: still these, no others."""

from __future__ import annotations

import re
from datetime import date

import pytest

from security.ins import check_key, digits_disagree
from tests.corpus import corpus

PATTERNS = {  # folder → where matricule, sex and birth date stand
    "hl7": (
        r"PID\|[^\r\n]*?(\w{15})\^\^\^ASIP",
        r"PID(?:\|[^|\r\n]*){7}\|([MFU])",
        r"PID(?:\|[^|\r\n]*){6}\|(\d{8})",
    ),
    "cda": (
        r'extension="(\w{15})" root="1\.2\.250\.1\.213\.1\.4\.10"',
        r'administrativeGenderCode code="(\w)',
        r'birthTime value="(\d{8})',
    ),
    "xds": (r"(\w{15})\^\^\^&amp;1\.2\.250\.1\.213\.1\.4\.10&amp;ISO\^NH", r"PID-8\|(\w)", r"PID-7\|(\d{8})"),
}


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


@pytest.mark.corpus
def test_the_samples_that_contradict_themselves_are_those_of_the_documentation() -> None:
    contradictions: dict[str, tuple[str, ...]] = {}
    read = 0
    for folder, patterns in PATTERNS.items():
        for path in sorted(corpus("drim-m", folder).iterdir()):
            matricule, sex, born = (found(p, path.read_text(encoding="utf-8", errors="replace")) for p in patterns)
            if not matricule:
                continue  # an acknowledgement, or the demonstrator's malformed message
            read += 1
            assert check_key(matricule), path.name
            if wrong := digits_disagree(matricule, sex, date.fromisoformat(born) if born else None):
                contradictions[path.name] = wrong
    assert read == 36
    assert contradictions == {
        "OMI_O23-ImagingOrder.hl7": ("sex",),
        "demonstrator_DOC00002.xml": ("year",),
        "publication_masked_invisible.xml": ("year",),
        "publication_visible.xml": ("year",),
    }
