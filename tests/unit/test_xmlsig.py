"""XML signatures: what Debian's xmlsec1 says of ours, what we say of its, and every known way to fool a verifier (T21)."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from security.errors import BadInput, Broken
from security.keys.signer import PemSigner, SigningPair
from security.parse.xml import parse_xml
from security.xmlsig.signing import seal, sign_enveloped
from security.xmlsig.verifying import Trust, verify_enveloped
from tests.support.signing import NOW, Hand, pair, xmlsec1

DS = "{http://www.w3.org/2000/09/xmldsig#}"
NS_DS = DS[1:-1]


CARD = '<a:card xmlns:a="urn:a" xmlns:unused="urn:unused" ID="_1"><a:who>DUPONT</a:who><a:may b="1"/></a:card>'


def signed(signer: PemSigner) -> etree._Element:
    """A card inside a letter, signed where it stands."""
    letter = etree.fromstring(f'<l:letter xmlns:l="urn:l"><l:body>{CARD}</l:body></l:letter>')
    card = letter[0][0]
    sign_enveloped(card, element_id="_1", signer=signer, at=0)
    return letter


def read(letter: etree._Element, trust: Trust, at: datetime = NOW) -> etree._Element:
    arrived = parse_xml(etree.tostring(letter), what="letter")
    return verify_enveloped(arrived[0][0], id_name="ID", trust=trust, at=at)


def refusal(letter: etree._Element, trust: Trust, at: datetime = NOW) -> str:
    with pytest.raises(BadInput) as caught:
        read(letter, trust, at)
    assert "DUPONT" not in str(caught.value)
    return caught.value.code


# -- what is signed is what is returned -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ours", "p256", "p384"])
def test_a_genuine_signature_returns_the_element_without_it(signing_keys, kind):
    signer = PemSigner(signing_keys[kind].certificate, signing_keys[kind].key, Hand())
    found = read(signed(signer), Trust(certificates=(signer.certificate,)))
    assert etree.tostring(found, method="c14n", exclusive=True) == (
        b'<a:card xmlns:a="urn:a" ID="_1"><a:who>DUPONT</a:who><a:may b="1"></a:may></a:card>'
    )


def test_text_around_the_signature_is_kept(signer, trust):
    letter = signed(signer)
    assert [child.tag for child in read(letter, trust)] == ["{urn:a}who", "{urn:a}may"]
    letter[0][0][0].tail = "said before"
    assert refusal(letter, trust) == "signature-digest"


# -- the ways to fool a verifier (T21) --------------------------------------------------------------------------


def altered(letter: etree._Element) -> None:
    letter[0][0].find("{urn:a}who").text = "MARTIN"


def attribute_altered(letter: etree._Element) -> None:
    letter[0][0].find("{urn:a}may").set("b", "2")


def digest_altered(letter: etree._Element) -> None:
    next(letter.iter(DS + "DigestValue")).text = base64.b64encode(bytes(32)).decode()


def value_altered(letter: etree._Element) -> None:
    value = next(letter.iter(DS + "SignatureValue"))
    value.text = base64.b64encode(bytes(reversed(base64.b64decode(value.text)))).decode()


def comment_in_text(letter: etree._Element) -> None:
    who = letter[0][0].find("{urn:a}who")
    who.text = "DUP"
    comment = etree.Comment("")
    comment.tail = "ONT"
    who.append(comment)


def instruction(letter: etree._Element) -> None:
    letter[0][0].append(etree.ProcessingInstruction("x", "y"))


def comment_in_signed_info(letter: etree._Element) -> None:
    next(letter.iter(DS + "SignedInfo")).append(etree.Comment("x"))


def second_signature(letter: etree._Element) -> None:
    card = letter[0][0]
    card.append(deepcopy(card.find(DS + "Signature")))


def signature_elsewhere(letter: etree._Element) -> None:
    """XSW: a forged element holds the genuine one, signature and all, deeper inside."""
    genuine = letter[0][0]
    forged = etree.fromstring(CARD.replace("DUPONT", "MARTIN").replace("_1", "_2"))
    letter[0].replace(genuine, forged)
    forged.append(genuine)


def wrapped_with_the_same_id(letter: etree._Element) -> None:
    """XSW: the forged element keeps the id and takes the signature; the genuine one hides in the signature."""
    genuine = letter[0][0]
    forged = etree.fromstring(CARD.replace("DUPONT", "MARTIN"))
    signature = genuine.find(DS + "Signature")
    letter[0].replace(genuine, forged)
    forged.insert(0, signature)
    etree.SubElement(signature, DS + "Object").append(genuine)


def genuine_beside(letter: etree._Element) -> None:
    """XSW: the genuine element stands beside, with its id; the forged one carries its signature."""
    genuine = letter[0][0]
    forged = etree.fromstring(CARD.replace("DUPONT", "MARTIN").replace('"_1"', '"_2"'))
    forged.insert(0, deepcopy(genuine.find(DS + "Signature")))
    genuine.remove(genuine.find(DS + "Signature"))
    letter[0].insert(0, forged)


def id_twice(letter: etree._Element) -> None:
    etree.SubElement(letter, "{urn:l}note", ID="_1")


def id_twice_by_another_name(letter: etree._Element) -> None:
    etree.SubElement(letter, "{urn:l}note", {"AssertionID": "_1"})


def id_twice_in_a_namespace(letter: etree._Element) -> None:
    etree.SubElement(letter, "{urn:l}note", {"{urn:wsu}Id": " _1"})


def empty_reference(letter: etree._Element) -> None:
    next(letter.iter(DS + "Reference")).set("URI", "")


def outside_reference(letter: etree._Element) -> None:
    next(letter.iter(DS + "Reference")).set("URI", "http://127.0.0.1/x.xml")


def xpath_transform(letter: etree._Element) -> None:
    next(letter.iter(DS + "Transform")).set("Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116")


def xslt_transform(letter: etree._Element) -> None:
    [*letter.iter(DS + "Transform")][-1].set("Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")


def unknown_method(letter: etree._Element) -> None:
    next(letter.iter(DS + "SignatureMethod")).set("Algorithm", NS_DS + "hmac-sha1")


def unknown_digest(letter: etree._Element) -> None:
    next(letter.iter(DS + "DigestMethod")).set("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#md5")


def method_with_parameters(letter: etree._Element) -> None:
    etree.SubElement(next(letter.iter(DS + "SignatureMethod")), DS + "HMACOutputLength").text = "1"


def unknown_canonicalisation(letter: etree._Element) -> None:
    next(letter.iter(DS + "CanonicalizationMethod")).set("Algorithm", "urn:own")


def two_references(letter: etree._Element) -> None:
    reference = next(letter.iter(DS + "Reference"))
    reference.addnext(deepcopy(reference))


def no_signature(letter: etree._Element) -> None:
    letter[0][0].remove(letter[0][0].find(DS + "Signature"))


ATTACKS: list[tuple[Callable[[etree._Element], None], str]] = [
    (altered, "signature-digest"),
    (attribute_altered, "signature-digest"),
    (digest_altered, "signature-invalid"),
    (value_altered, "signature-invalid"),
    (comment_in_text, "signature-comment"),
    (instruction, "signature-comment"),
    (comment_in_signed_info, "signature-comment"),
    (second_signature, "signature-missing"),
    (signature_elsewhere, "signature-missing"),
    (wrapped_with_the_same_id, "signature-duplicate-id"),
    (genuine_beside, "signature-reference"),
    (id_twice, "signature-duplicate-id"),
    (id_twice_by_another_name, "signature-duplicate-id"),
    (id_twice_in_a_namespace, "signature-duplicate-id"),
    (empty_reference, "signature-invalid"),
    (outside_reference, "signature-invalid"),
    (xpath_transform, "signature-invalid"),
    (unknown_method, "signature-algorithm"),
    (unknown_digest, "signature-invalid"),
    (method_with_parameters, "signature-shape"),
    (unknown_canonicalisation, "signature-canonicalisation"),
    (two_references, "signature-invalid"),
    (no_signature, "signature-missing"),
]


@pytest.mark.parametrize(("attack", "code"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_t21_each_way_to_fool_a_verifier_is_refused(signer, trust, attack, code):
    letter = signed(signer)
    attack(letter)
    assert refusal(letter, trust) == code


@pytest.mark.parametrize(
    ("oddity", "code"),
    [
        (empty_reference, "signature-reference"),
        (outside_reference, "signature-reference"),
        (two_references, "signature-reference"),
        (xpath_transform, "signature-transform"),
        (xslt_transform, "signature-transform"),
        (unknown_digest, "signature-digest-method"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_t21_what_a_trusted_signer_signs_in_an_odd_way_is_refused_too(signer, trust, oddity, code):
    letter = signed(signer)
    oddity(letter)
    seal(next(letter.iter(DS + "Signature")), signer)
    assert refusal(letter, trust) == code


def test_t21_a_key_that_is_not_pinned_is_refused_although_keyinfo_brings_it(signing_keys, trust):
    stranger = PemSigner(signing_keys["other"].certificate, signing_keys["other"].key, Hand())
    assert refusal(signed(stranger), trust) == "signature-signer"


def test_t21_a_signature_of_another_key_under_our_certificate_is_refused(signing_keys, signer, trust):
    stranger = PemSigner(signing_keys["other"].certificate, signing_keys["other"].key, Hand())
    letter = signed(stranger)
    next(letter.iter(DS + "X509Certificate")).text = base64.b64encode(
        signer.certificate.public_bytes(Encoding.DER)
    ).decode()
    assert refusal(letter, trust) == "signature-invalid"


def test_t21_without_keyinfo_the_only_pinned_certificate_counts(signer, trust, signing_keys):
    letter = signed(signer)
    signature = next(letter.iter(DS + "Signature"))
    signature.remove(signature.find(DS + "KeyInfo"))
    assert read(letter, trust).get("ID") == "_1"
    other = PemSigner(signing_keys["other"].certificate, signing_keys["other"].key, Hand()).certificate
    assert refusal(letter, Trust(certificates=(*trust.certificates, other))) == "signature-signer"


@pytest.mark.parametrize("days", [-31, 3651])
def test_f14_a_certificate_out_of_its_time_is_refused(signer, trust, days):
    assert refusal(signed(signer), trust, NOW + timedelta(days=days)) == "signature-certificate-expired"


def test_t20_a_document_type_never_reaches_the_verifier(signer):
    text = b"<!DOCTYPE x [<!ATTLIST card ID ID #IMPLIED>]>" + etree.tostring(signed(signer))
    with pytest.raises(BadInput) as caught:
        parse_xml(text, what="letter")
    assert caught.value.code == "xml-doctype"


def test_sha1_is_made_and_believed_only_where_it_was_asked_for(signing_keys, trust):
    old = PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, Hand(), digest="sha1")
    letter = signed(old)
    assert next(letter.iter(DS + "SignatureMethod")).get("Algorithm") == NS_DS + "rsa-sha1"
    assert next(letter.iter(DS + "DigestMethod")).get("Algorithm") == NS_DS + "sha1"
    assert refusal(letter, trust) == "signature-algorithm"
    assert read(letter, Trust(certificates=trust.certificates, accepts_sha1=True)).get("ID") == "_1"
    with pytest.raises(Broken, match="RSA keys alone"):
        PemSigner(signing_keys["p256"].certificate, signing_keys["p256"].key, Hand(), digest="sha1")


def test_t21_a_sha1_digest_under_a_modern_signature_is_refused(signing_keys, signer, trust):
    old = PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, Hand(), digest="sha1")
    letter = signed(old)
    next(letter.iter(DS + "SignatureMethod")).set("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256")
    seal(next(letter.iter(DS + "Signature")), signer)
    assert refusal(letter, trust) == "signature-digest-method"


def test_a_renewed_pair_signs_without_a_restart(tmp_path, signing_keys):
    made = pair(tmp_path, "mine")
    files = SigningPair(made.certificate, made.key, Hand())
    first = files.signer()
    assert files.signer() is first
    made.key.write_bytes(signing_keys["other"].key.read_bytes())
    assert files.signer() is first  # half-way: the pair that fits goes on
    made.certificate.write_bytes(signing_keys["other"].certificate.read_bytes())
    assert files.signer().certificate != first.certificate


# -- other people's hands ---------------------------------------------------------------------------------------


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["xmlsec1", *map(str, words)], capture_output=True, text=True, timeout=30, check=False)


@xmlsec1
@pytest.mark.parametrize("kind", ["ours", "p256", "p384"])
def test_xmlsec1_verifies_our_enveloped_signature_and_not_an_altered_one(tmp_path, signing_keys, kind):
    letter = signed(PemSigner(signing_keys[kind].certificate, signing_keys[kind].key, Hand()))
    file = tmp_path / "letter.xml"
    words = ["verify", "--pubkey-cert-pem", signing_keys[kind].certificate, "--enabled-key-data", "key-name",
             "--id-attr:ID", "urn:a:card", file]  # fmt: skip
    file.write_bytes(etree.tostring(letter))
    assert run(*words).returncode == 0, run(*words).stderr
    altered(letter)
    file.write_bytes(etree.tostring(letter))
    assert run(*words).returncode != 0


TEMPLATE = """<l:letter xmlns:l="urn:l" xmlns:q="urn:q"><l:body>
 <a:card xmlns:a="urn:a" ID="_1"><a:who>DUPONT &amp; fils</a:who>
 <ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>
  <ds:CanonicalizationMethod Algorithm="{c14n}"/><ds:SignatureMethod Algorithm="{method}"/>
  <ds:Reference URI="#_1"><ds:Transforms>
   <ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
   <ds:Transform Algorithm="{c14n}">{prefixes}</ds:Transform></ds:Transforms>
   <ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#{digest}"/><ds:DigestValue/></ds:Reference>
 </ds:SignedInfo><ds:SignatureValue/><ds:KeyInfo><ds:X509Data/></ds:KeyInfo></ds:Signature> tail
 </a:card></l:body></l:letter>"""
EXC = "http://www.w3.org/2001/10/xml-exc-c14n#"
INC = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
PREFIXES = f'<i:InclusiveNamespaces xmlns:i="{EXC}" PrefixList="q l"/>'


@xmlsec1
@pytest.mark.parametrize(
    ("kind", "c14n", "method", "digest", "prefixes"),
    [
        ("ours", EXC, "rsa-sha256", "sha256", ""),
        ("ours", EXC + "WithComments", "rsa-sha256", "sha512", ""),
        ("ours", INC, "rsa-sha256", "sha256", ""),
        ("ours", INC + "#WithComments", "rsa-sha256", "sha256", ""),
        ("ours", EXC, "rsa-sha256", "sha256", PREFIXES),
        ("p256", EXC, "ecdsa-sha256", "sha256", ""),
        ("p384", INC, "ecdsa-sha384", "sha256", ""),
    ],
)
def test_we_verify_what_xmlsec1_signs(tmp_path, signing_keys, kind, c14n, method, digest, prefixes):
    template, made = tmp_path / "template.xml", tmp_path / "signed.xml"
    uri = f"http://www.w3.org/2001/04/xmldsig-more#{method}"
    template.write_text(TEMPLATE.format(c14n=c14n, method=uri, digest=digest, prefixes=prefixes))
    done = run("sign", "--privkey-pem", f"{signing_keys[kind].key},{signing_keys[kind].certificate}", "--id-attr:ID", "urn:a:card",
               "--output", made, template)  # fmt: skip
    assert done.returncode == 0, done.stderr
    certificate = PemSigner(signing_keys[kind].certificate, signing_keys[kind].key, Hand()).certificate
    letter = etree.fromstring(made.read_bytes())
    found = read(letter, Trust(certificates=(certificate,)))
    assert found.find("{urn:a}who").text == "DUPONT & fils"
    assert found.find(DS + "Signature") is None
    altered(letter)
    assert refusal(letter, Trust(certificates=(certificate,))) == "signature-digest"
