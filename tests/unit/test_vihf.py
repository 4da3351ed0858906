"""The assertion beside a request to the national index (drim-m §6): what it says, and whom a reader believes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
from lxml import etree

from indexer.report import Coded, Organization, Professional
from indexer.xds.vihf import Claims, Errand, read_security_header, security_header
from security.errors import BadInput, Broken
from security.keys.signer import PemSigner
from security.parse.xml import parse_xml
from security.xmlsig.verifying import Trust
from tests.support.signing import NOW, Hand, xmlsec1

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
XSPA = "urn:oasis:names:tc:xspa:1.0:subject:"
XACML = "urn:oasis:names:tc:xacml:2.0:"
PATIENT = "285067599804896^^^&1.2.250.1.213.1.4.10&ISO^NH"
CLAIMS = Claims(
    version="4.0",
    sector="SA01",
    structure_id="1750000001",
    lps_id="0123456789",
    software="Poterne",
    model="P1",
    software_version="0.1.0",
)
SENDER = Professional(
    identifier="899700000001",
    system="1.2.250.1.71.4.2.1",
    family="TEST-DUPONT",
    given="Anne",
    profession=Coded(code="10", system="1.2.250.1.71.1.2.7", display="Médecin"),
    organization=Organization(identifier="1750000009", system="1.2.250.1.71.4.2.2"),
)
ABOUT = Errand(patient_id=PATIENT)


def header(signer: PemSigner, errand: Errand = ABOUT, claims: Claims = CLAIMS, at=NOW) -> bytes:
    return security_header(claims, errand, assertion_id="_a1", now=at, signer=signer)


def read(data: bytes, trust: Trust, at=NOW):
    """As it arrives: inside an envelope."""
    envelope = parse_xml(b'<e xmlns="urn:e"><h>' + data + b"</h></e>", what="envelope")
    return read_security_header(envelope[0][0], trust=trust, now=at)


def refusal(data: bytes, trust: Trust, at=NOW) -> str:
    with pytest.raises(BadInput) as caught:
        read(data, trust, at)
    assert "285067599804896" not in str(caught.value)
    return caught.value.code


def test_an_automatic_feed_speaks_for_the_software_and_its_structure(signer, trust):
    found = read(header(signer), trust)
    assert found.assertion_id == "_a1"
    assert found.attributes == {
        "VIHF_Version": ("4.0",),
        "Authentification_Mode": ("INDIRECTE",),
        "Secteur_Activite": ("SA01^1.2.250.1.71.4.2.4",),
        "Ressource_URN": ("urn:dmp",),
        XSPA + "subject-id": ("Poterne P1",),
        "Identifiant_Structure": ("1750000001",),
        "LPS_ID": ("0123456789",),
        "LPS_Nom": ("Poterne",),
        "LPS_Version": ("0.1.0",),
        XACML + "resource:resource-id": (PATIENT,),
        XSPA + "purposeofuse": ("normal",),
        XACML + "subject:role": ("AUTOMATE",),
    }


def test_the_sender_of_the_report_brings_structure_and_role(signer, trust):
    errand = Errand(patient_id=PATIENT, sender=SENDER)
    attributes = read(header(signer, errand), trust).attributes
    assert attributes["Identifiant_Structure"] == ("1750000009",)
    assert attributes[XACML + "subject:role"] == ("10",)
    assert attributes[XSPA + "subject-id"] == ("Poterne P1",)
    assert b"<saml:NameID>899700000001</saml:NameID>" in header(signer, errand)


def test_a_secret_connection_is_said_here_alone(signer, trust):
    name = XACML + "resource:confidentiality-code"
    assert name not in read(header(signer), trust).attributes
    secret = read(header(signer, Errand(patient_id=PATIENT, is_secret=True)), trust)
    assert secret.attributes[name] == ("CONNEXION_SECRETE",)


def test_homologation_and_version_are_those_of_the_tenant(signer, trust):
    claims = replace(CLAIMS, version="3.0", homologation="HOM-1")
    attributes = read(header(signer, claims=claims), trust).attributes
    assert (attributes["VIHF_Version"], attributes["LPS_ID_HOMOLOGATION_DMP"]) == (("3.0",), ("HOM-1",))


def test_the_issuer_is_the_subject_of_the_certificate_and_comes_before_the_signature(signer):
    assertion = etree.fromstring(header(signer))[0]
    assert [etree.QName(child).localname for child in assertion] == [
        "Issuer", "Signature", "Subject", "Conditions", "AuthnStatement", "AttributeStatement",
    ]  # fmt: skip
    assert assertion[0].text == "CN=Poterne lab ours"
    assert assertion[0].get("Format") == "urn:oasis:names:tc:SAML:1.1:nameid-format:X509SubjectName"
    assert assertion.findtext(f".//{SAML}AuthnContextClassRef") == "urn:oasis:names:tc:SAML:2.0:ac:classes:TLSClient"


def test_it_lives_for_minutes(signer, trust):
    data = header(signer)
    assert b'NotBefore="2026-06-01T11:59:00Z" NotOnOrAfter="2026-06-01T12:05:00Z"' in data
    assert read(data, trust, NOW + timedelta(minutes=5, seconds=59)).assertion_id == "_a1"
    assert refusal(data, trust, NOW + timedelta(minutes=6)) == "vihf-not-valid-now"
    assert refusal(data, trust, NOW - timedelta(minutes=3)) == "vihf-not-valid-now"


def test_t21_one_that_lives_for_a_day_is_refused(signer, trust, monkeypatch):
    monkeypatch.setattr("indexer.xds.vihf.VALIDITY", timedelta(days=1))
    data = header(signer)
    monkeypatch.undo()
    assert refusal(data, trust) == "vihf-not-valid-now"


def test_t21_what_was_altered_moved_or_added_is_refused(signer, trust):
    data = header(signer)
    assert refusal(data.replace(b"INDIRECTE", b"DIRECTE"), trust) == "signature-digest"
    assert refusal(data.replace(b"Poterne P1", b"Poterne<!-- --> P1"), trust) == "signature-comment"
    assert refusal(data.replace(b"<saml:Assertion ", b'<saml:Assertion xml:id="_a1" ', 1), trust) == (
        "signature-duplicate-id"
    )
    inside = etree.fromstring(data)
    assertion = inside[0]
    inside.remove(assertion)
    etree.SubElement(inside, "{urn:e}wrap").append(assertion)
    assert refusal(etree.tostring(inside), trust) == "vihf-missing"
    twice = etree.fromstring(data)
    twice.append(etree.fromstring(data)[0])
    assert refusal(etree.tostring(twice), trust) == "vihf-missing"


def test_a_request_without_assertion_is_refused(trust):
    with pytest.raises(BadInput) as caught:
        read_security_header(None, trust=trust, now=NOW)
    assert caught.value.code == "vihf-missing"


def test_t21_another_signer_is_refused(signing_keys, trust):
    stranger = PemSigner(signing_keys["other"].certificate, signing_keys["other"].key, Hand())
    assert refusal(header(stranger), trust) == "signature-signer"


def test_one_that_lacks_what_the_profile_needs_is_refused(signer, trust):
    assert refusal(header(signer, claims=replace(CLAIMS, version="2.0")), trust) == "vihf-attributes"


def test_f14_nothing_is_asserted_with_a_certificate_out_of_its_time(signing_keys):
    late = PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, clock := Hand())
    clock.moment = NOW + timedelta(days=4000)
    with pytest.raises(Broken):
        header(late)


def test_a_control_character_is_named_and_not_shown(signer):
    with pytest.raises(BadInput) as caught:
        header(signer, claims=replace(CLAIMS, lps_id="1\x002"))
    assert caught.value.code == "vihf-character"


def test_what_it_is_about_is_not_shown_in_a_trace():
    assert PATIENT not in repr(Errand(patient_id=PATIENT, sender=SENDER))


@xmlsec1
@pytest.mark.parametrize("kind", ["ours", "p256"])
def test_xmlsec1_verifies_our_assertion(tmp_path, signing_keys, kind):
    pair = signing_keys[kind]
    data = header(PemSigner(pair.certificate, pair.key, Hand()))
    file = tmp_path / "vihf.xml"
    words = ["xmlsec1", "verify", "--pubkey-cert-pem", pair.certificate, "--enabled-key-data", "key-name",
             "--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:assertion:Assertion", file]  # fmt: skip
    for content, is_genuine in ((data, True), (data.replace(b"INDIRECTE", b"DIRECTE"), False)):
        file.write_bytes(content)
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode == 0) is is_genuine, done.stderr
