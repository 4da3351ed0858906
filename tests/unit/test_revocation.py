"""Whom a link believes: chain, dates, lists and answers (security §2, RFC 5280, RFC 6960)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from security.clock import Clock
from security.errors import BadInput
from security.keys.lab_pki import CLIENT_AUTH, SERVER_AUTH, LabAuthority
from security.keys.revocation import Trust, certificates_in, lists_in, ocsp_answer, ocsp_question
from tests.support.pki import Pki, Responder, certificate, delegate, der

NONCE = b"n" * 32


class Hands(Clock):
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


def trust(
    pki: Pki, *, unknown: str = "deny", grace: timedelta = timedelta(), lists: bool = True
) -> tuple[Trust, Hands]:
    clock = Hands(datetime.now(UTC))
    made = Trust(certificates_in(pki.ca.read_bytes()), clock=clock, unknown=unknown, grace=grace)  # type: ignore[arg-type]
    if lists:
        made.take_lists(lists_in(pki.crl.read_bytes(), made.authorities))
    return made, clock


def test_a_certificate_of_the_authority_with_a_fresh_list_is_believed(pki: Pki) -> None:
    believed, _ = trust(pki)
    assert believed.refuses(der(pki.pair("a"))) == ""


def test_t06_a_certificate_of_another_authority_is_not(pki: Pki, tmp_path: Path) -> None:
    believed, _ = trust(pki)
    other = Pki(tmp_path / "other")  # the same name, another key
    assert believed.refuses(der(other.pair("a"))) == "untrusted"
    assert believed.refuses(certificates_in(other.ca.read_bytes())[0].public_bytes(Encoding.DER)) == "untrusted"
    assert believed.refuses(b"") == "untrusted"
    assert believed.refuses(b"no certificate") == "untrusted"


def test_a_purpose_must_be_stated_where_it_is_demanded(pki: Pki) -> None:
    bundle = certificates_in(pki.ca.read_bytes())
    demanding = Trust(bundle, clock=Hands(datetime.now(UTC)), unknown="allow", purpose=CLIENT_AUTH)
    assert demanding.refuses(der(pki.pair("both"))) == ""
    assert demanding.refuses(der(pki.pair("silent", purposes=()))) == "purpose"
    assert demanding.refuses(der(pki.pair("server", purposes=(SERVER_AUTH,)))) == "purpose"


def test_a_leaf_in_the_bundle_certifies_nobody(pki: Pki) -> None:
    leaf = pki.pair("leaf")
    key = ec.generate_private_key(ec.SECP256R1())
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(certificate(leaf).subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(pki.now - timedelta(hours=1))
        .not_valid_after(pki.now + timedelta(hours=1))
        .sign(load_pem_private_key(leaf.key.read_bytes(), None), SHA256())  # type: ignore[arg-type]
    )
    bundle = certificates_in(pki.ca.read_bytes() + leaf.certificate.read_bytes())
    believed = Trust(bundle, clock=Hands(datetime.now(UTC)), unknown="allow")
    assert believed.refuses(made.public_bytes(Encoding.DER)) == "untrusted"


def test_f14_dates_are_looked_at_each_time(pki: Pki) -> None:
    believed, clock = trust(pki, unknown="allow")
    shown = der(pki.pair("a"))
    assert believed.refuses(shown) == ""
    clock.at += timedelta(days=2)
    assert believed.refuses(shown) == "expired"
    clock.at -= timedelta(days=4)
    assert believed.refuses(shown) == "not-yet-valid"


def test_revoked_is_refused_under_either_rule_and_however_old_the_list_is(pki: Pki) -> None:
    stolen = pki.pair("stolen", not_after=pki.now + timedelta(days=400))
    pki.revoke(stolen, days=1)
    for unknown in ("deny", "allow"):
        believed, clock = trust(pki, unknown=unknown)
        assert believed.refuses(der(stolen)) == "revoked"
        clock.at += timedelta(days=300)
        assert believed.refuses(der(stolen)) == "revoked"


def test_what_nothing_fresh_speaks_of_follows_the_rule_of_the_link(pki: Pki) -> None:
    shown = der(pki.pair("a", not_after=pki.now + timedelta(days=400)))
    pki.revoke(days=1)
    assert trust(pki, lists=False)[0].refuses(shown) == "revocation-unknown"
    assert trust(pki, lists=False, unknown="allow")[0].refuses(shown) == ""
    believed, clock = trust(pki, grace=timedelta(hours=48))  # 24 h is the most
    clock.at += timedelta(days=1, hours=23)
    assert believed.refuses(shown) == ""
    clock.at += timedelta(hours=2)
    assert believed.refuses(shown) == "revocation-unknown"


def test_an_older_list_never_takes_the_place_of_a_newer_one(pki: Pki) -> None:
    stolen = pki.pair("stolen")
    old = pki.crl.read_bytes()
    pki.revoke(stolen, at=pki.now + timedelta(minutes=1))
    believed, _ = trust(pki)
    assert believed.take_lists(lists_in(old, believed.authorities)) is False
    assert believed.refuses(der(stolen)) == "revoked"


def test_a_list_that_another_authority_signed_is_refused(pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    with pytest.raises(BadInput) as refused:
        lists_in(other.crl.read_bytes(), certificates_in(pki.ca.read_bytes()))
    assert refused.value.code == "crl-issuer"


@pytest.mark.parametrize("data", [b"", b"no list", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_what_is_no_list_is_refused(pki: Pki, data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        lists_in(data, certificates_in(pki.ca.read_bytes()))
    assert refused.value.code == "crl-unusable"


_ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
_NOBODYS = bytes.fromhex("06082a8648ce3d04037f")


def test_what_names_an_algorithm_nobody_knows_is_refused_and_breaks_nothing(pki: Pki) -> None:
    """Lists and answers come by plain http: whoever stands between must not stop the service."""
    bundle = certificates_in(pki.ca.read_bytes())
    strange = x509.load_pem_x509_crl(pki.crl.read_bytes()).public_bytes(Encoding.DER).replace(_ECDSA_SHA256, _NOBODYS)
    with pytest.raises(BadInput):
        lists_in(strange, bundle)
    one = certificate(pki.pair("a"))
    answer = Responder(pki=pki).made(ocsp_question(one, bundle[0], NONCE)).replace(_ECDSA_SHA256, _NOBODYS)
    with pytest.raises(BadInput):
        ocsp_answer(answer, certificate=one, issuer=bundle[0], nonce=NONCE, needs_nonce=True, at=datetime.now(UTC))
    believed, _ = trust(pki)
    assert believed.refuses(der(pki.pair("a")).replace(_ECDSA_SHA256, _NOBODYS)) == "untrusted"


def test_a_list_of_a_part_is_refused(pki: Pki) -> None:
    issuer, key = certificates_in(pki.ca.read_bytes())[0], pki.authority._key
    for extension, is_critical in (
        (x509.DeltaCRLIndicator(1), True),
        (
            x509.IssuingDistributionPoint(
                full_name=None, relative_name=None, only_contains_user_certs=False, only_contains_ca_certs=False,
                only_some_reasons=None, indirect_crl=True, only_contains_attribute_certs=False,
            ),
            True,
        ),
    ):  # fmt: skip
        part = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(pki.now - timedelta(hours=1))
            .next_update(pki.now + timedelta(days=1))
            .add_extension(extension, critical=is_critical)  # type: ignore[arg-type]
            .sign(key, SHA256())
        )
        with pytest.raises(BadInput) as refused:
            lists_in(part.public_bytes(Encoding.DER), (issuer,))
        assert refused.value.code == "crl-partial"


def test_a_list_past_half_of_its_life_is_named_and_a_fresh_one_serves_handshakes(pki: Pki) -> None:
    pki.revoke(days=10)
    believed, clock = trust(pki)
    assert believed.half_spent() == ()
    assert len(believed.lists_for_handshakes()) == 1
    clock.at += timedelta(days=6)
    assert len(believed.half_spent()) == 1
    clock.at += timedelta(days=5)
    assert believed.lists_for_handshakes() == ()


def test_an_authority_taken_out_of_the_bundle_is_believed_no_more(pki: Pki, tmp_path: Path) -> None:
    believed, _ = trust(pki)
    shown = der(pki.pair("a"))
    assert believed.refuses(shown) == ""
    believed.use(certificates_in(LabAuthority.create(tmp_path / "next", now=pki.now).certificate.read_bytes()))
    assert believed.refuses(shown) == "untrusted"
    assert believed.lists() == ()


# ── OCSP ─────────────────────────────────────────────────────────────────────────────────────────────────────


def asked(pki: Pki, responder: Responder, *, needs_nonce: bool = True, shown: str = "a"):
    one, issuer = certificate(pki.pair(shown)), certificates_in(pki.ca.read_bytes())[0]
    data = responder.made(ocsp_question(one, issuer, NONCE))
    return ocsp_answer(
        data, certificate=one, issuer=issuer, nonce=NONCE, needs_nonce=needs_nonce, at=datetime.now(UTC)
    )


def test_an_answer_of_the_issuer_or_of_its_delegate_counts(pki: Pki) -> None:
    assert asked(pki, Responder(pki=pki)).is_revoked is False
    assert asked(pki, Responder(pki=pki, signer=delegate(pki))).is_revoked is False
    stolen = certificate(pki.pair("stolen")).serial_number
    assert asked(pki, Responder(pki=pki, revoked={stolen}), shown="stolen").is_revoked is True


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"nonce": False}, "ocsp-nonce"),
        ({"other_nonce": True}, "ocsp-nonce"),
        ({"age": timedelta(days=2)}, "ocsp-stale"),
        ({"other_serial": True}, "ocsp-other"),
    ],
)
def test_an_answer_that_is_not_to_our_question_now_is_refused(pki: Pki, how: dict[str, object], code: str) -> None:
    with pytest.raises(BadInput) as refused:
        asked(pki, Responder(pki=pki, **how))  # type: ignore[arg-type]
    assert refused.value.code == code


def test_an_answer_signed_by_anybody_else_is_refused(pki: Pki, tmp_path: Path) -> None:
    for signer in (pki.pair("leaf"), delegate(Pki(tmp_path / "other"))):
        with pytest.raises(BadInput) as refused:
            asked(pki, Responder(pki=pki, signer=signer))
        assert refused.value.code == "ocsp-signer"


def test_a_missing_nonce_counts_only_where_the_site_says_so(pki: Pki) -> None:
    assert asked(pki, Responder(pki=pki, nonce=False), needs_nonce=False).is_revoked is False
    with pytest.raises(BadInput, match="nonce"):
        asked(pki, Responder(pki=pki, other_nonce=True), needs_nonce=False)


def test_noise_is_no_answer(pki: Pki) -> None:
    one, issuer = certificate(pki.pair("a")), certificates_in(pki.ca.read_bytes())[0]
    for data in (b"", b"\x30\x03\x0a\x01\x06", b"\x30\x80"):
        with pytest.raises(BadInput) as refused:
            ocsp_answer(data, certificate=one, issuer=issuer, nonce=NONCE, needs_nonce=True, at=pki.now)
        assert refused.value.code == "ocsp-unusable"


def test_a_revocation_is_never_taken_back_by_a_later_answer_and_ends_what_a_list_calls_good(pki: Pki) -> None:
    believed, clock = trust(pki)
    shown = der(pki.pair("a"))
    serial = certificate(pki.pair("a")).serial_number
    assert believed.refuses(shown) == ""
    believed.take_answer(shown, asked(pki, Responder(pki=pki, revoked={serial})))
    believed.take_answer(shown, asked(pki, Responder(pki=pki)))
    clock.at += timedelta(hours=3)
    assert believed.refuses(shown) == "revoked"


def test_an_answer_counts_until_its_end(pki: Pki) -> None:
    believed, clock = trust(pki, lists=False)
    shown = der(pki.pair("a"))
    assert believed.refuses(shown) == "revocation-unknown"
    assert believed.seen() == (shown,)
    believed.take_answer(shown, asked(pki, Responder(pki=pki)))
    assert believed.refuses(shown) == ""
    clock.at += timedelta(hours=2)
    assert believed.refuses(shown) == "revocation-unknown"
