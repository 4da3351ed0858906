"""An OID and its URI are two names of one thing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.fhir.vocabulary import URL_BY_OID, is_oid, oid_of, url_of


@pytest.mark.parametrize(
    ("oid", "url"),
    [
        ("2.16.840.1.113883.6.1", "http://loinc.org"),
        ("2.16.840.1.113883.6.96", "http://snomed.info/sct"),
        ("1.2.840.10008.2.16.4", "http://dicom.nema.org/resources/ontology/DCM"),
        ("2.16.840.1.113883.6.8", "http://unitsofmeasure.org"),
        ("1.2.250.1.213.1.4.8", "urn:oid:1.2.250.1.213.1.4.8"),
        ("http://mrn.test", "http://mrn.test"),
        ("", ""),
    ],
)
def test_a_system_has_its_url_or_its_urn(oid: str, url: str) -> None:
    assert url_of(oid) == url
    assert oid_of(url) == oid


def test_a_known_system_is_known_under_its_urn_too() -> None:
    assert oid_of("urn:oid:2.16.840.1.113883.6.1") == "2.16.840.1.113883.6.1"


def test_no_url_names_two_systems() -> None:
    assert len(set(URL_BY_OID.values())) == len(URL_BY_OID)


@given(st.from_regex(r"\A[0-2](\.(0|[1-9][0-9]{0,8})){1,8}\Z"))
def test_every_oid_survives(oid: str) -> None:
    assert is_oid(oid)
    assert oid_of(url_of(oid)) == oid


@pytest.mark.parametrize("text", ["", "1", "3.1", "1.02", "1.", "1.2 ", "urn:oid:1.2", "a.b", "1.２"])
def test_other_text_is_no_oid(text: str) -> None:
    assert not is_oid(text)
    assert url_of(text) == text
