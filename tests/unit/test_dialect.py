"""What each network reads in the metadata: the rows of XDS-I.b and MADO (ihe §3.5) as literals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lxml import etree

from indexer.report import Coded, Order
from indexer.xds.dialect import DIALECTS, MADO, XDS_I
from indexer.xds.metadata import submission
from security.errors import BadInput
from security.identity import Ins, LocalId
from tests.unit.test_metadata import (
    CONTEXT,
    EDITION,
    KOS,
    MANIFEST,
    PUBLISHER,
    RIM,
    codes,
    identifiers,
    series,
    slots,
)

CLASS, TYPE = "41a5887f-8865-4c09-adf7-e362475b143a", "f0306f51-975f-434e-a61c-c59651d33983"
FORMAT, EVENTS = "a09d5840-386c-46f2-b5ad-9c3699a4309d", "2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
SETTING = "cccf5598-8b07-4b77-a05e-ae952c785ead"
LOINC = "2.16.840.1.113883.6.1"
HEAD_CT = Coded(code="24727-0", system=LOINC)
KNEE = Coded(code="X-OWN", system="2.25.99", display="Genou, protocole maison")
ABROAD = replace(MANIFEST, procedures=(HEAD_CT, KNEE), patient=replace(MANIFEST.patient, ins=None))


def entry(manifest=ABROAD, dialect=MADO, form="kos") -> etree._Element:
    sent = submission(manifest, CONTEXT, EDITION, KOS, PUBLISHER, dialect=dialect, form=form)
    return etree.fromstring(sent.metadata).find(f".//{RIM}ExtrinsicObject")


@pytest.mark.parametrize("dialect", [XDS_I, MADO])
def test_the_leading_procedure_is_the_type_with_our_display_where_the_report_has_none(dialect):
    assert codes(entry(dialect=dialect), TYPE) == [("24727-0", [LOINC], "CT Head W contrast IV")]
    assert codes(entry(dialect=dialect), CLASS) == [("18748-4", [LOINC], "Diagnostic imaging study")]
    assert codes(entry(dialect=dialect), SETTING) == [("394914008", ["2.16.840.1.113883.6.96"], "Radiology")]


def test_without_a_procedure_the_type_is_that_of_any_imaging_study():
    assert codes(entry(replace(ABROAD, procedures=())), TYPE) == [("18748-4", [LOINC], "Diagnostic imaging study")]


def test_mado_lists_procedures_among_the_events_and_xds_i_does_not():
    shared = [
        ("774007", ["2.16.840.1.113883.6.96"], "structure de la tête et/ou du cou"),
        ("MR", ["1.2.840.10008.2.16.4"], "Magnetic Resonance"),
        ("PT", ["1.2.840.10008.2.16.4"], "Positron emission tomography"),
    ]
    assert codes(entry(dialect=XDS_I), EVENTS) == shared
    assert codes(entry(dialect=MADO), EVENTS) == [
        *shared,
        ("24727-0", [LOINC], "CT Head W contrast IV"),
        ("X-OWN", ["2.25.99"], "Genou, protocole maison"),
    ]


def test_a_code_without_any_display_shows_itself():
    unknown = Coded(code="ZZZZ001", system="1.2.250.1.213.2.5")
    assert codes(entry(replace(ABROAD, procedures=(unknown,))), TYPE) == [
        ("ZZZZ001", ["1.2.250.1.213.2.5"], "ZZZZ001")
    ]
    ccam = Coded(code="QEQK001", system="1.2.250.1.213.2.5")
    assert codes(entry(replace(ABROAD, procedures=(ccam,))), TYPE)[0][2] == "Mammographie bilatérale"


def test_the_patient_is_the_first_local_identifier_of_a_known_issuer():
    assert identifiers(entry())[0][1] == "IPP-77^^^&2.25.7001&ISO"
    assert slots(entry())["sourcePatientId"] == ["IPP-77^^^&2.25.7001&ISO"]
    assert "PID-11|^^^^^^BDL^^75998" not in slots(entry())["sourcePatientInfo"]


def test_a_qualified_ins_names_the_patient_everywhere_and_another_nowhere():
    assert identifiers(entry(replace(ABROAD, patient=MANIFEST.patient)))[0][1] == (
        "285067599804896^^^&1.2.250.1.213.1.4.10&ISO"
    )
    doubtful = replace(
        MANIFEST.patient, ins=Ins(matricule="285067599804896", oid="1.2.250.1.213.1.4.10", status="PROV")
    )
    sent = submission(replace(ABROAD, patient=doubtful), CONTEXT, EDITION, KOS, PUBLISHER, dialect=MADO)
    assert b"285067599804896" not in sent.metadata


def test_a_patient_nobody_can_name_is_refused():
    nameless = replace(ABROAD.patient, local_ids=(LocalId(value="SANS-EMETTEUR", issuer=""),))
    with pytest.raises(BadInput) as caught:
        entry(replace(ABROAD, patient=nameless))
    assert caught.value.code == "metadata-no-patient-id"
    assert "SANS-EMETTEUR" not in str(caught.value)


def test_a_manifest_in_fhir_form_says_so():
    found = entry(form="fhir")
    assert found.get("mimeType") == "application/fhir+json"
    assert codes(found, FORMAT) == [
        ("urn:ihe:rad:MADO:fhir-manifest:2026", ["1.3.6.1.4.1.19376.1.2.7.1"], "MADO FHIR manifest")
    ]
    assert codes(entry(form="kos"), FORMAT)[0][0] == "1.2.840.10008.5.1.4.1.1.88.59"


def test_references_name_accession_study_and_order_and_no_empty_number():
    orders = (Order(accession_number="", accession_issuer="", placer_number="P9", placer_issuer="2.25.1"),)
    assert slots(entry(replace(ABROAD, orders=orders)))["urn:ihe:iti:xds:2013:referenceIdList"] == [
        "2.25.42^^^&2.25.9001&ISO^urn:ihe:iti:xds:2016:studyInstanceUID",
        "P9^^^&2.25.1&ISO^urn:ihe:iti:xds:2013:order",
    ]


def test_each_profile_has_its_dialect():
    assert sorted(DIALECTS) == ["drim-m", "mado", "xds-i"]
    assert codes(entry(replace(ABROAD, series=(series(1, "BI"),), regions=()), XDS_I), EVENTS) == [
        ("BI", ["1.2.840.10008.2.16.4"], "BI")
    ]
