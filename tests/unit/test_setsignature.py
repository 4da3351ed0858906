"""The signature document of a submission set (drim-m §5): its form, whom it convinces, and its place in the metadata."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lxml import etree

from indexer.xds.metadata import submission
from indexer.xds.setsignature import read_signature, signature_document
from security.errors import BadInput, Broken
from security.keys.signer import PemSigner
from security.xmlsig.verifying import Trust
from tests.support.signing import NOW, Hand, xmlsec1
from tests.unit.test_metadata import (
    CONTEXT,
    EDITION,
    KOS,
    MANIFEST,
    PUBLISHER,
    RIM,
    author,
    codes,
    identifiers,
    slots,
    xdsb_schema,
)

DS = "{http://www.w3.org/2000/09/xmldsig#}"
XADES = "{http://uri.etsi.org/01903/v1.1.1#}"
SIGNATURE_UID = "2.25.5005"


def made(signer: PemSigner) -> bytes:
    return signature_document(
        SIGNATURE_UID, set_unique_id="2.25.1003", signed={"2.25.1001": KOS}, signing_time=NOW, sign=signer
    )


def refusal(document: bytes, trust: Trust, at: datetime = NOW) -> str:
    with pytest.raises(BadInput) as caught:
        read_signature(document, trust=trust, at=at)
    return caught.value.code


def test_the_document_has_the_form_of_the_profile(signer):
    root = etree.fromstring(made(signer))
    assert (root.tag, root.get("Id")) == (DS + "Signature", SIGNATURE_UID)
    info = root[0]
    assert info[0].get("Algorithm") == "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments"
    assert info[1].get("Algorithm") == "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
    assert [(r.get("URI"), r.get("Type"), r.find(DS + "Transforms")) for r in info.findall(DS + "Reference")] == [
        ("#IHEManifest", "http://www.w3.org/2000/09/xmldsig#Manifest", None),
        ("#S0-SignedProperties", "http://uri.etsi.org/01903/v1.1.1#SignedProperties", None),
    ]
    (purpose,) = root.iter(DS + "SignatureProperty")
    assert (purpose.text, purpose.get("Target")) == ("1.2.840.10065.1.12.1.14", f"#{SIGNATURE_UID}")
    (manifest,) = root.iter(DS + "Manifest")
    assert [(r.get("URI"), r.findtext(DS + "DigestValue")) for r in manifest] == [
        ("urn:oid:2.25.1003", "AA=="),
        ("urn:oid:2.25.1001", base64.b64encode(hashlib.sha256(KOS).digest()).decode()),
    ]
    assert root.findtext(f".//{XADES}SigningTime") == "2026-06-01T12:00:00Z"
    assert root.find(f".//{XADES}SignaturePolicyImplied") is not None
    assert root.findtext(f".//{DS}X509SerialNumber") == "7"


def test_a_reader_learns_which_bytes_were_signed(signer, trust):
    found = read_signature(made(signer), trust=trust, at=NOW)
    assert found.covers("2.25.1001", KOS)
    assert not found.covers("2.25.1001", KOS + b"x")
    assert not found.covers("2.25.1002", KOS)


def test_an_old_index_gets_sha1_throughout(signing_keys, trust):
    old = PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, Hand(), digest="sha1")
    document = made(old)
    assert {m.get("Algorithm") for m in etree.fromstring(document).iter("{*}DigestMethod")} == {
        "http://www.w3.org/2000/09/xmldsig#sha1"
    }
    assert refusal(document, trust) == "signature-algorithm"
    accepting = Trust(certificates=trust.certificates, accepts_sha1=True)
    assert read_signature(document, trust=accepting, at=NOW).covers("2.25.1001", KOS)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"urn:oid:2.25.1001", b"urn:oid:2.25.6666", "signature-digest"),
        (b"2026-06-01T12:00:00Z", b"2025-06-01T12:00:00Z", "signature-digest"),
        (b'"#IHEManifest"', b'"#purposeOfSignature"', "signature-invalid"),
        (b'Id="purposeOfSignature"', b'Id="IHEManifest"', "signature-reference"),
        (b'Id="purposeOfSignature"', b'Id="p" ID="IHEManifest"', "signature-duplicate-id"),
        (b"</ds:Manifest>", b"<!-- -->\n</ds:Manifest>", "signature-comment"),
        (b"<ds:Object>", b'<ds:Object xml:lang="fr">', "signature-canonicalisation"),
        (b"?>", b"?><!DOCTYPE x>", "xml-doctype"),
    ],
)
def test_t21_an_altered_document_vouches_for_nothing(signer, trust, old, new, code):
    document = made(signer)
    assert old in document
    assert refusal(document.replace(old, new, 1 if code != "signature-canonicalisation" else -1), trust) == code


def test_t21_a_manifest_moved_out_of_its_object_is_refused(signer, trust):
    root = etree.fromstring(made(signer))
    (manifest,) = root.iter(DS + "Manifest")
    root.find(DS + "KeyInfo").append(manifest)
    assert refusal(etree.tostring(root), trust) == "signature-reference"


def test_t21_a_signature_inside_another_document_is_refused(signer, trust):
    assert refusal(b"<x>" + made(signer).partition(b"?>")[2] + b"</x>", trust) == "signature-missing"


def test_t21_another_signer_is_refused(signing_keys, trust):
    stranger = PemSigner(signing_keys["other"].certificate, signing_keys["other"].key, Hand())
    assert refusal(made(stranger), trust) == "signature-signer"


def test_f14_a_signer_out_of_its_time_signs_nothing(signing_keys):
    late = PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, clock := Hand())
    clock.moment = NOW + timedelta(days=4000)
    with pytest.raises(Broken, match="expired"):
        submission(MANIFEST, CONTEXT, EDITION, KOS, PUBLISHER, sign=late)


@xmlsec1
@pytest.mark.parametrize("digest", ["sha256", "sha1"])
def test_xmlsec1_verifies_our_signature_document_and_not_an_altered_one(tmp_path, signing_keys, digest):
    document = made(PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, Hand(), digest=digest))
    file = tmp_path / "signature.xml"
    words = ["xmlsec1", "verify", "--ignore-manifests", "--pubkey-cert-pem", signing_keys["ours"].certificate,
             "--enabled-key-data", "key-name", "--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:Manifest",
             "--id-attr:Id", "http://uri.etsi.org/01903/v1.1.1#:SignedProperties", file]  # fmt: skip
    file.write_bytes(document)
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "References (ok/all): 2/2" in done.stderr
    file.write_bytes(document.replace(b"urn:oid:2.25.1001", b"urn:oid:2.25.6666"))
    assert subprocess.run(words, capture_output=True, timeout=30, check=False).returncode != 0


# -- in the submission -------------------------------------------------------------------------------------------


@pytest.fixture
def sent(signer):
    return submission(MANIFEST, CONTEXT, EDITION, KOS, PUBLISHER, sign=signer)


def test_the_signature_is_a_second_document_that_covers_the_first(sent, trust):
    kos, signature = sent.documents.values()
    assert kos == KOS
    assert read_signature(signature, trust=trust, at=NOW).covers("2.25.1001", KOS)
    assert etree.fromstring(signature).get("Id") == identifiers(entries(sent)[1])[1][1]


def entries(sent) -> list[etree._Element]:
    return list(etree.fromstring(sent.metadata).iter(f"{RIM}ExtrinsicObject"))


def test_its_entry_is_that_of_the_profile(sent):
    entry = entries(sent)[1]
    assert (entry.get("mimeType"), slots(entry)["languageCode"]) == ("text/xml", ["art"])
    assert codes(entry, "41a5887f-8865-4c09-adf7-e362475b143a") == [
        ("urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1", ["URN"], "Digital Signature")
    ]
    assert codes(entry, "f0306f51-975f-434e-a61c-c59651d33983") == [("E1762", ["ASTM"], "Full Document")]
    assert codes(entry, "a09d5840-386c-46f2-b5ad-9c3699a4309d") == [
        ("http://www.w3.org/2000/09/xmldsig#", ["URN"], "Default Signature Style")
    ]
    assert codes(entry, "2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4") == [
        ("1.2.840.10065.1.12.1.14", ["1.2.840.10065.1.12"], "Source")
    ]
    assert [code for code, _, _ in codes(entry, "f4f85eac-e6cb-4883-b524-f2705394840f")] == [
        "N", "MASQUE_PS", "INVISIBLE_PATIENT",
    ]  # fmt: skip
    assert author(entry, "93606bcf-9494-43ec-9b4e-a7748d1a838d")["authorPerson"] == [
        "899700000001^TEST-DUPONT^Anne^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
    ]
    assert identifiers(entry)[1][1].startswith("2.25.")


def test_its_associations_join_it_to_the_set(sent):
    root = etree.fromstring(sent.metadata)
    package = root.find(f".//{RIM}RegistryPackage").get("id")
    manifest, signature = sent.documents
    assert [
        (a.get("associationType").rpartition(":")[2], a.get("sourceObject"), a.get("targetObject"), slots(a))
        for a in root.iter(f"{RIM}Association")
    ] == [
        ("HasMember", package, manifest, {"SubmissionSetStatus": ["Original"]}),
        ("HasMember", package, signature, {"SubmissionSetStatus": ["Original"]}),
        ("signs", signature, package, {"SubmissionSetStatus": ["Original"]}),
    ]


def test_without_a_signer_there_is_one_document_and_the_same_metadata_as_ever():
    plain = submission(MANIFEST, CONTEXT, EDITION, KOS, PUBLISHER)
    assert len(plain.documents) == 1
    assert b"signs" not in plain.metadata


def test_every_id_of_a_signed_submission_is_its_own(sent):
    ids = [e.get("id") for e in etree.fromstring(sent.metadata).iter() if e.get("id")]
    assert len(ids) == len(set(ids))


def test_without_a_doctor_the_box_signs(signer):
    sent = submission(MANIFEST, replace(CONTEXT, legal_authenticator=None), EDITION, KOS, PUBLISHER, sign=signer)
    person = author(entries(sent)[1], "93606bcf-9494-43ec-9b4e-a7748d1a838d")["authorPerson"]
    assert person[0].startswith("899711200001^Poterne^")


@pytest.mark.corpus
def test_a_signed_submission_is_valid_by_the_schema(sent):
    xdsb_schema().assertValid(etree.fromstring(sent.metadata))


def test_the_time_of_signing_is_that_of_the_edition(sent):
    (_, signature) = sent.documents.values()
    assert EDITION.created_at == datetime(2026, 3, 2, 23, 59, 58, tzinfo=UTC)
    assert etree.fromstring(signature).findtext(f".//{XADES}SigningTime") == "2026-03-02T23:59:58Z"
