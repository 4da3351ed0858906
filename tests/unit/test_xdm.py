"""XDM archives: names and CR.TXT, METADATA.XML as other boxes write it, what one set says against itself."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from lxml import etree

from indexer.report import DocumentId
from indexer.xdm import layout, metadata, reading
from indexer.xdm.layout import Link
from indexer.xdm.metadata import Stamp
from indexer.xds import vocabulary as xds
from security.errors import BadInput
from tests.corpus import corpus
from tests.unit.test_metadata import xdsb_schema

FOLDER = "KA202401/IHE_XDM/SS000001"
SENT = f"""<lcm:SubmitObjectsRequest xmlns:lcm="{xds.NS_LCM}" xmlns:rim="{xds.NS_RIM}"><rim:RegistryObjectList>
<rim:RegistryPackage id="set"><rim:Slot name="submissionTime"><rim:ValueList><rim:Value>20240116151112</rim:Value>
</rim:ValueList></rim:Slot><rim:Description><rim:LocalizedString value="Version 3"/></rim:Description>
<rim:Classification id="c1" classifiedObject="set" classificationNode="{xds.SET_NODE}"/>
<rim:ExternalIdentifier id="e1" registryObject="set" identificationScheme="{xds.SET_PATIENT_ID}" value="1^^^&amp;1.2&amp;ISO"/>
</rim:RegistryPackage>
<rim:ExtrinsicObject id="kos" mimeType="application/dicom" objectType="{xds.STABLE_DOCUMENT}">
<rim:Slot name="languageCode"><rim:ValueList><rim:Value>fr-FR</rim:Value></rim:ValueList></rim:Slot>
<rim:Name><rim:LocalizedString value="KOS"/></rim:Name>
<rim:ExternalIdentifier id="e2" registryObject="kos" identificationScheme="{xds.ENTRY_UNIQUE_ID}" value="1.2.3.4"/>
</rim:ExtrinsicObject></rim:RegistryObjectList></lcm:SubmitObjectsRequest>""".encode()


# -- layout ------------------------------------------------------------------------------------------------------


def test_names_are_those_of_the_national_layout() -> None:
    assert layout.month(datetime(2024, 1, 16, tzinfo=UTC)) == "KA202401"
    assert layout.set_name(1) == "SS000001"
    assert (layout.manifest_name(1), layout.signature_name(1)) == ("KOS_1_1.DCM", "SIGN_1.XML")


def test_a_report_is_tied_to_its_exam_by_one_line() -> None:
    link = Link(
        report=DocumentId(root="1.2.250.1", extension="CR7"),
        matricule="2610463113042",
        ins_oid="1.2.250.1.213.1.4.10",
        local_id="IPP1",
        local_issuer="1.2.3",
    )
    line = b"1.2.250.1;CR7;2610463113042;1.2.250.1.213.1.4.10;IPP1;1.2.3"
    assert layout.told([link]) == line
    assert layout.links(line + b"\r\n") == (link,)
    assert layout.links(b"\xef\xbb\xbf" + line) == (link,)


def test_two_reports_are_two_lines_and_the_first_stays_clean_for_who_splits_at_semicolons() -> None:
    first, second = Link(report=DocumentId(root="1.2"), local_issuer="1.9"), Link(report=DocumentId(root="1.3"))
    data = layout.told([first, second])
    assert data.split(b";")[:6] == [b"1.2", b"", b"", b"", b"", b"1.9"]
    assert layout.links(data) == (first, second)


@pytest.mark.parametrize("line", [b"a b;c", b";x", b"1.2;x;y;z;a;b;c", b"1.2;\x01", b"1.2;a\n1.2;a;9", b"x" * 70_000])
def test_a_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(BadInput, match="xdm-links"):
        layout.links(line)


def test_a_value_that_holds_what_separates_values_is_not_written() -> None:
    with pytest.raises(BadInput, match="xdm-links"):
        layout.told([Link(report=DocumentId(root="1.2", extension="a;b"))])


def test_sets_are_found_in_any_case_and_under_any_folder() -> None:
    names = ["x/ka202401/ihe_xdm/ss000001/metadata.xml", "x/ka202401/ihe_xdm/ss000001/kos_1_1.dcm", "METADATA.XML"]
    assert layout.sets_of(names) == {
        "x/ka202401/ihe_xdm/ss000001": {"metadata.xml": names[0], "kos_1_1.dcm": names[1]}
    }


@pytest.mark.parametrize("uri", ["KOS_1_1.DCM", "SS000001/KOS_1_1.DCM", "ss000001\\kos_1_1.dcm", "./KOS_1_1.DCM"])
def test_a_uri_names_a_file_of_its_own_set(uri: str) -> None:
    assert layout.file_of(uri, FOLDER) == "kos_1_1.dcm"


@pytest.mark.parametrize(
    "uri", ["../SS000002/KOS_2_1.DCM", "SS000002/KOS_1_1.DCM", "/etc/passwd", "file:///etc/passwd", "", "..", "a/b/c"]
)
def test_t07_a_uri_that_leads_out_of_its_set_is_refused(uri: str) -> None:
    with pytest.raises(BadInput, match="xdm-uri"):
        layout.file_of(uri, FOLDER)


# -- METADATA.XML ------------------------------------------------------------------------------------------------


def test_what_is_added_is_taken_away_again_to_the_byte() -> None:
    stamp = Stamp(
        uri="SS000001/KOS_1_1.DCM",
        entry_uuid="urn:uuid:3d188b5d-0446-468b-a750-09246812625d",
        status=xds.STATUS_APPROVED,
        content_hash="ab" * 32,
    )
    made = metadata.stamped(SENT, {"kos": stamp})
    entry = metadata.read(made)[0].entries[0]
    assert entry.value("URI") == "SS000001/KOS_1_1.DCM"
    assert entry.identifier("1.2.3") == "3d188b5d-0446-468b-a750-09246812625d"
    assert entry.status == xds.STATUS_APPROVED
    children = [
        etree.QName(child).localname for child in etree.fromstring(made).iter() if child.getparent() is not None
    ]
    assert children[children.index("ExtrinsicObject") + 1] == "Slot"
    assert metadata.bare(made) == metadata.bare(SENT)
    assert metadata.stamped(made, {"kos": stamp}) == made


@pytest.mark.parametrize(
    "variant",
    [
        SENT,
        b"<?xml version='1.0'?>" + SENT,
        b"<s:Envelope xmlns:s='urn:x'><s:Body>" + SENT + b"</s:Body></s:Envelope>",
        SENT.replace(f' xmlns:lcm="{xds.NS_LCM}" xmlns:rim="{xds.NS_RIM}"'.encode(), b"").replace(b"rim:", b""),
        SENT.replace(b"lcm:", b"").replace(b"rim:", b"").replace(b"xmlns:", b"x"),
    ],
    ids=["as sent", "declaration", "envelope", "prefix never declared", "no namespace"],
)
def test_metadata_of_every_make_say_the_same(variant: bytes) -> None:
    read, alone = metadata.read(variant)
    assert read == metadata.read(SENT)[0]
    assert etree.fromstring(alone).tag == f"{{{xds.NS_LCM}}}SubmitObjectsRequest"


@pytest.mark.parametrize(
    "data", [b"<a/>", SENT.replace(b"lcm:", b"").join([b"<a>", b"</a>"]) * 2, b"<!DOCTYPE a><a/>"]
)
def test_metadata_that_hold_not_one_request_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        metadata.read(data)


# -- a set -------------------------------------------------------------------------------------------------------


@pytest.mark.corpus
def test_the_national_sample_of_a_set_is_read_and_its_patients_differ() -> None:
    """Metadata of a published exam, its KOS that of another one (the sample's own is not to be had): with hash, size,
    identifier and study made to fit, the set is read, and who the patient is stays said twice."""
    kos = corpus("drim-m", "kos", "KIN_Manifest_rebuilt.dcm").read_bytes()
    files = {"metadata.xml": "METADATA.XML", "kos_1_1.dcm": "KOS_1_1.DCM"}
    sample = corpus("drim-m", "xds", "publication_visible.xml").read_bytes()
    stamps = {"DocumentKOS": Stamp(uri="SS000001/KOS_1_1.DCM")}

    def versions(told: bytes) -> tuple[reading.Version, ...]:
        return reading.versions(FOLDER, files, {"METADATA.XML": told, "KOS_1_1.DCM": kos}.__getitem__)

    told = metadata.stamped(sample, stamps)
    with pytest.raises(BadInput, match="xdm-hash"):
        versions(told)
    digest = hashlib.sha1(kos, usedforsecurity=False).hexdigest().encode()
    told = told.replace(b"58408c116b51497c0f2084c90da3c85c7098455a", digest)
    told = told.replace(b"<Value>8450</Value>", b"<Value>%d</Value>" % len(kos))
    with pytest.raises(BadInput, match="xdm-unique-id"):
        versions(told)
    made = reading.kos.read(kos)
    told = told.replace(b"1.3.2.751468943.3.1234.56838.231114144457.1.1.1", made.imprint.unique_id.encode())
    with pytest.raises(BadInput, match="xdm-study"):
        versions(told)
    study = b"1.3.6.1.4.1.5962.99.1.3711725607.829148806.1687338938407.3.116"
    (found,) = versions(told.replace(study, made.manifest.study.encode()))
    assert found.notes == ("no-report-named", "no-signature", "no-entry-uuid")
    assert found.patients.stated.ins is not None
    assert found.patients.stated.traits.birth_name == "PAT-SIX"
    assert found.context.facility_type is not None
    assert found.context.facility_type.code == "SA01"
    assert not found.context.visibility.masked_to_professionals


@pytest.mark.corpus
def test_a_masked_national_sample_keeps_its_masks() -> None:
    sample = corpus("drim-m", "xds", "publication_masked_invisible.xml").read_bytes()
    entry = metadata.read(sample)[0].entries[0]
    hidden = reading._context(entry).visibility
    assert (hidden.masked_to_professionals, hidden.invisible_to_patient) == (True, True)


@pytest.mark.corpus
def test_what_we_write_keeps_to_the_schema() -> None:
    schema = xdsb_schema()
    stamp = Stamp(
        uri="SS000001/KOS_1_1.DCM", entry_uuid="urn:uuid:1", status=xds.STATUS_DELETED, content_hash="00" * 32
    )
    request = etree.fromstring(metadata.stamped(SENT, {"kos": stamp}))
    wrapped = etree.Element(f"{{{xds.NS_XDSB}}}ProvideAndRegisterDocumentSetRequest")
    wrapped.append(request)
    schema.assertValid(wrapped)
