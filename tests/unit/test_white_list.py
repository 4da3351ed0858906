"""The signed white list: what is read, and every way of getting a false one believed that is refused (T21, drim-m §10)."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from gateway.whitelist.document import difference, white_list
from gateway.whitelist.verification import VerifiedList, verified
from security.clock import SystemClock
from security.errors import BadInput
from security.keys.revocation import Trust, certificates_in, lists_in
from tests.corpus import corpus
from tests.support.pki import Pki
from tests.support.white_list import DS, NS, SIGNER, ListSigner, boxes, c14n, signed, unsigned

_DS = f"{{{DS}}}"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def signer(pki: Pki) -> ListSigner:
    return ListSigner(pki)


@pytest.fixture(scope="module")
def genuine(signer: ListSigner) -> bytes:
    return signed(unsigned(), signer)


def judged(document: bytes, pki: Pki, *, unknown: str = "deny", at: datetime | None = None) -> VerifiedList:
    trust = Trust(certificates_in(pki.ca.read_bytes()), clock=SystemClock(), unknown=unknown)  # type: ignore[arg-type]
    trust.take_lists(lists_in(pki.crl.read_bytes(), trust.authorities))
    return verified(document, signer=SIGNER, trust=trust, now=at or datetime.now(UTC))


def refused(document: bytes, pki: Pki, **how: object) -> str:
    with pytest.raises(BadInput) as caught:
        judged(document, pki, **how)  # type: ignore[arg-type]
    return caught.value.code


def altered(document: bytes, change: Callable[[etree._Element], None]) -> bytes:
    root = etree.fromstring(document)
    change(root)
    return etree.tostring(root)


def test_a_list_signed_by_its_signer_is_read(pki: Pki, genuine: bytes) -> None:
    found = judged(genuine, pki)
    assert list(found.content.boxes) == ["1", "2", "3"]
    box = found.content.boxes["2"]
    assert (box.api_host, box.viewer_host, box.name) == (
        "db2.reseau.example",
        "vi2.reseau.example",
        "Centre FANTÔME 2",
    )
    assert box.certificate_dn == "CN=db2.reseau.example,OU=999999999999999,O=ESSAI,C=FR"
    assert "Liste Blanche ESSAI" in found.signer


def test_an_unsigned_list_is_refused(pki: Pki) -> None:
    assert refused(unsigned(), pki) == "signature-missing"


@pytest.mark.corpus
def test_the_national_unsigned_list_is_refused_and_its_content_readable(pki: Pki) -> None:
    document = corpus("drim-m", "whitelist", "whitelist_unsigned_excerpt.xml").read_bytes()
    assert refused(document, pki) == "signature-missing"
    assert len(white_list(etree.fromstring(document)).boxes) >= 5


@pytest.mark.parametrize(
    "expression",
    [
        "/descendant::ds:Signature",
        "//ds:Signature",
        "here()/ancestor::ds:Signature[1]",
        " /descendant::ds:Signature\n",
    ],
)
def test_the_filters_that_subtract_the_signature_are_accepted(pki: Pki, signer: ListSigner, expression: str) -> None:
    assert judged(signed(unsigned(), signer, xpath=expression), pki)


@pytest.mark.parametrize(
    "how",
    [
        {"xpath": "/descendant::*"},
        {"xpath": "/descendant::ds:Signature | //*[local-name()='Domaine']"},
        {"xpath": "//other:Signature"},
        {"xpath": "/descendant::ds:Signature[1]"},
        {"operation": "intersect"},
        {"operation": "union"},
    ],
)
def test_t21_any_other_filter_is_refused(pki: Pki, signer: ListSigner, how: dict[str, str]) -> None:
    assert refused(signed(unsigned(), signer, **how), pki) == "signature-transform"  # type: ignore[arg-type]


# ── altered, moved, wrapped ──────────────────────────────────────────────────────────────────────────────────


def _domain(root: etree._Element, number: int = 0) -> etree._Element:
    return root.findall(f".//{{{NS}}}Domaine")[number]


def _rename(root: etree._Element) -> None:
    _domain(root)[1].text = "db666.reseau.example"


def _append(root: etree._Element) -> None:
    _domain(root).getparent().append(copy.deepcopy(_domain(root)))  # type: ignore[union-attr]


def _drop(root: etree._Element) -> None:
    _domain(root).getparent().remove(_domain(root))  # type: ignore[union-attr]


def _blank(root: etree._Element) -> None:
    root.text = (root.text or "") + " "


def _attribute(root: etree._Element) -> None:
    root.set("more", "1")


def _time(root: etree._Element) -> None:
    root.find(".//{*}SigningTime").text = "2030-01-01T00:00:00Z"  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [_rename, _append, _drop, _blank, _attribute, _time])
def test_an_altered_list_is_refused(pki: Pki, genuine: bytes, change: Callable[[etree._Element], None]) -> None:
    assert refused(altered(genuine, change), pki) == "signature-digest"


def test_t21_a_comment_or_instruction_is_refused_wherever_it_stands(pki: Pki, genuine: bytes) -> None:
    assert refused(genuine.replace(b"<db>db1", b"<db><!-- x -->db1"), pki) == "signature-comment"
    assert refused(genuine.replace(b"<db>db1", b"<db><?x y?>db1"), pki) == "signature-comment"
    assert refused(genuine.replace(b"<ds:SignedInfo>", b"<ds:SignedInfo><!---->"), pki) == "signature-comment"
    assert refused(genuine + b"<!-- behind -->", pki) == "signature-comment"
    assert refused(genuine.replace(b"?>", b"?><?before me?>", 1), pki) == "signature-comment"


def _moved(root: etree._Element) -> None:
    _domain(root).append(root.find(_DS + "Signature"))


def _wrapped(root: etree._Element) -> None:
    """XSW: the genuine list hidden in an Object, a false one around it."""
    inner = copy.deepcopy(root)
    _rename(root)
    signature = root.find(_DS + "Signature")
    etree.SubElement(signature, _DS + "Object").append(inner)


def _second_signature(root: etree._Element) -> None:
    root.append(copy.deepcopy(root.find(_DS + "Signature")))


def _inside_list(root: etree._Element) -> None:
    inner = copy.deepcopy(root)
    root.remove(root.find(_DS + "Signature"))
    _rename(root)
    root.append(inner)


def _second_object(root: etree._Element) -> None:
    etree.SubElement(root.find(_DS + "Signature"), _DS + "Object").text = "more"


def _second_properties(root: etree._Element) -> None:
    held = root.find(".//{*}QualifyingProperties")
    held.append(copy.deepcopy(held[0]))  # type: ignore[union-attr]


def _other_target(root: etree._Element) -> None:
    root.find(".//{*}QualifyingProperties").set("Target", "#elsewhere")  # type: ignore[union-attr]


def _duplicate_id(root: etree._Element) -> None:
    _domain(root).set("id", "xades-list-props")


def _no_uri(root: etree._Element) -> None:
    del root.find(f".//{_DS}Reference").attrib["URI"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (_moved, {"signature-missing"}),
        (_wrapped, {"signature-missing"}),
        (_second_signature, {"signature-missing"}),
        (_inside_list, {"signature-missing"}),
        (_second_object, {"signature-shape"}),
        (_second_properties, {"signature-shape"}),
        (_other_target, {"signature-shape"}),
        (_duplicate_id, {"signature-duplicate-id", "signature-digest"}),
        (_no_uri, {"signature-invalid"}),
    ],
)
def test_t21_wrapped_moved_and_doubled_signatures_are_refused(
    pki: Pki, genuine: bytes, change: Callable[[etree._Element], None], codes: set[str]
) -> None:
    assert refused(altered(genuine, change), pki) in codes


def test_t21_the_genuine_signature_around_another_root_is_refused(pki: Pki, genuine: bytes) -> None:
    root = etree.fromstring(genuine)
    false = etree.fromstring(unsigned(boxes(9)))
    false.append(root.find(_DS + "Signature"))
    assert refused(etree.tostring(false), pki) == "signature-digest"


def test_a_signature_without_its_properties_among_what_it_signs_is_refused(pki: Pki, signer: ListSigner) -> None:
    assert refused(signed(unsigned(), signer, with_properties=False), pki) == "signature-reference"


# ── who signs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_key_is_refused_even_under_the_signers_certificate(pki: Pki, signer: ListSigner) -> None:
    other = ListSigner(pki)
    document = signed(unsigned(), other, shown=signer.certificate, digest_of=signer.certificate)
    assert refused(document, pki) == "signature-invalid"
    assert refused(signed(unsigned(), signer, shown=other.certificate), pki) == "signature-signer"


@pytest.mark.parametrize("how", [{"name": "Liste Noire"}, {"unit": "1"}])
def test_another_name_of_the_same_authority_is_refused(pki: Pki, how: dict[str, str]) -> None:
    assert refused(signed(unsigned(), ListSigner(pki, **how)), pki) == "signature-signer"  # type: ignore[arg-type]


def test_the_same_name_of_another_authority_is_refused(pki: Pki, tmp_path: Path) -> None:
    assert refused(signed(unsigned(), ListSigner(Pki(tmp_path / "other"))), pki) == "signature-signer"


def test_an_expired_signer_is_refused_and_so_is_todays_later(pki: Pki, genuine: bytes) -> None:
    now = datetime.now(UTC)
    old = ListSigner(pki, not_before=now - timedelta(days=9), not_after=now - timedelta(days=2))
    assert refused(signed(unsigned(), old), pki) == "signature-signer"
    assert refused(genuine, pki, at=now + timedelta(days=30)) == "signature-certificate-expired"


def test_a_revoked_signer_is_refused(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    signer = ListSigner(pki)
    document = signed(unsigned(), signer)
    assert judged(document, pki)
    pki.authority.revoke([signer.certificate], now=datetime.now(UTC))
    assert refused(document, pki) == "signature-signer"
    assert refused(document, pki, unknown="allow") == "signature-signer"


def test_a_list_of_tomorrow_is_refused(pki: Pki, signer: ListSigner) -> None:
    ahead = datetime.now(UTC) + timedelta(days=3)
    assert refused(signed(unsigned(generated=ahead), signer), pki) == "white-list-future"
    assert refused(signed(unsigned(), signer, signing_time=ahead), pki) == "white-list-future"


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'versionFormat="1.0.0"', b'versionFormat="2.0.0"', "white-list-version"),
        (NS.encode(), b"https://elsewhere.example", "white-list-version"),
        (b"<db>db1.reseau.example</db>", b"", "white-list-shape"),
        (b"db1.reseau.example</db>", b"db1.reseau.example/path</db>", "white-list-shape"),
        (b"db1.reseau.example</db>", b"10.0.0.1@x</db>", "white-list-shape"),
        (b"CN=db1", b"nothing", "white-list-shape"),
        (b"<Identifiant>1<", b"<Identifiant>2<", "white-list-duplicate"),
        (b"<db>db1.", b"<db>db2.", "white-list-duplicate"),
        (b"2026-01-02T03:04:05Z", b"soon", "white-list-shape"),
        (b"<ListeDomaines>", b"<More/><ListeDomaines>", "white-list-shape"),
    ],
)
def test_a_signed_list_of_another_form_is_refused(
    pki: Pki, signer: ListSigner, old: bytes, new: bytes, code: str
) -> None:
    document = unsigned()
    assert old in document
    assert refused(signed(document.replace(old, new, 1), signer), pki) == code


def test_a_huge_list_is_refused_before_it_is_read(pki: Pki, genuine: bytes) -> None:
    assert refused(genuine + b" " * (9 * 1024 * 1024), pki) == "xml-too-large"
    assert refused(genuine.replace(b"?>", b"?><!DOCTYPE x [<!ENTITY a 'b'>]>", 1), pki) == "xml-doctype"


def test_what_changed_is_told() -> None:
    before, after = (
        white_list(etree.fromstring(unsigned(named))) for named in (boxes(3), boxes(4, **{"2": "Autre"}))
    )
    without = white_list(etree.fromstring(unsigned({"1": "Centre FANTÔME 1"})))
    changes = difference(before, after)
    assert [box.identifier for box in changes.added] == ["4"]
    assert [(old.name, new.name) for old, new in changes.changed] == [("Centre FANTÔME 2", "Autre")]
    assert [box.identifier for box in difference(after, without).removed] == ["2", "3", "4"]
    assert len(difference(None, before).added) == 3


# ── the foreign side ─────────────────────────────────────────────────────────────────────────────────────────


def _xmlsec(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["/usr/bin/xmlsec1", *map(str, arguments)], capture_output=True, check=False, timeout=30)


@pytest.fixture
def xmlsec() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    import os

    if not Path("/usr/bin/xmlsec1").exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no xmlsec1 on this machine")
    return _xmlsec


def test_xmlsec1_verifies_the_lists_of_the_tests_and_refuses_an_altered_one(
    pki: Pki, genuine: bytes, xmlsec: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_bytes(genuine)
    bad.write_bytes(altered(genuine, _rename))
    how = ("--verify", "--trusted-pem", pki.ca, "--id-attr:Id", "SignedProperties")
    assert xmlsec(*how, good).returncode == 0
    assert xmlsec(*how, bad).returncode != 0


def test_a_list_that_xmlsec1_signed_is_verified(
    pki: Pki, signer: ListSigner, xmlsec: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    key, certificate = signer.write(tmp_path)
    template, made = tmp_path / "template.xml", tmp_path / "made.xml"
    emptied = re.sub(rb"(<ds:(?:DigestValue|SignatureValue)>)[^<]*", rb"\1", signed(unsigned(), signer))
    stated = signed(unsigned(), signer)
    # the digest of the certificate is content, not a value that xmlsec1 computes
    kept = re.search(rb"<xades:CertDigest>.*?</xades:CertDigest>", stated, re.DOTALL)
    assert kept
    template.write_bytes(re.sub(rb"<xades:CertDigest>.*?</xades:CertDigest>", kept[0], emptied, flags=re.DOTALL))
    done = xmlsec(
        "--sign",
        "--privkey-pem",
        f"{key},{certificate}",
        "--id-attr:Id",
        "SignedProperties",
        "--output",
        made,
        template,
    )
    assert done.returncode == 0, done.stderr
    assert len(judged(made.read_bytes(), pki).content.boxes) == 3


def test_the_digest_is_of_the_document_without_its_signature(genuine: bytes, signer: ListSigner) -> None:
    root = etree.fromstring(genuine)
    root.remove(root.find(_DS + "Signature"))
    assert c14n(root) == c14n(etree.fromstring(unsigned(generated=_generated(genuine))))
    assert signer.certificate.public_bytes(Encoding.DER)


def _generated(document: bytes) -> datetime:
    text = etree.fromstring(document).findtext(f"{{{NS}}}DateDeGeneration")
    return datetime.fromisoformat(str(text))
