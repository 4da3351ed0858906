"""Whom a link still believes: chain, dates and revocation of a peer's certificate, from lists and answers held in
memory. Nothing is fetched here: whoever has a network brings lists (RFC 5280 §5) and OCSP answers (RFC 6960).

Invariants:

* a certificate is believed only when its chain, by names and signatures, ends at a self-signed authority of *this*
  link's bundle; intermediate authorities belong into the bundle;
* what a list or an answer calls revoked is refused, however old the list is and whatever else calls it good;
* when nothing fresh speaks of the certificate the link's rule decides: ``deny`` or ``allow``, both by name;
* a list counts when its issuer is of the bundle and signed it, it is whole (no delta, no partition) and states its
  end; an older one never takes the place of a newer one; a grace past its end is for lists alone, never for answers;
* an answer counts when the certificate's issuer, or a responder it delegated, signed it, and, where nonces are
  required, it answers our very question.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from security.clock import Clock
from security.errors import BadInput
from security.keys.authority import UNREADABLE, is_issuer

CHAIN_MAX = 8
LIST_BYTES_MAX = 64 * 1024 * 1024
GRACE_MAX = timedelta(hours=24)
_SKEW = timedelta(minutes=5)
_ANSWER_LASTS = timedelta(
    hours=12
)  # an answer without nextUpdate: newer information is always there (RFC 6960 §4.2.2.1)
_REMEMBERED_MAX = 1000
_SHORTEST = timedelta(seconds=60)
_PARTITIONED = ("only_contains_attribute_certs", "indirect_crl")

Noted = TypeVar("Noted")
Unknown = Literal["deny", "allow"]
GOOD = ""
"""What ``Trust.refuses`` says of a certificate that is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A list whose signature was verified. ``issuer``: fingerprint of the authority that signed it."""

    issuer: str
    number: int
    this_update: datetime
    next_update: datetime
    crl: x509.CertificateRevocationList

    def is_fresh(self, at: datetime, grace: timedelta) -> bool:
        """Whether its silence about a certificate means something."""
        return self.this_update - _SKEW <= at <= self.next_update + grace


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspAnswer:
    """A verified answer about one certificate. ``until``: when its silence ends."""

    is_revoked: bool
    this_update: datetime
    until: datetime


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, lower-case hexadecimal."""
    return hashlib.sha256(certificate).hexdigest()


def certificates_in(data: bytes) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM text.

    Raises:
        BadInput: ``certificate-unusable``.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        raise BadInput(
            "no readable certificates in PEM form", code="certificate-unusable", hint="give them in PEM form"
        ) from None


def read_certificate(der: bytes) -> x509.Certificate:
    """A certificate of somebody else, read to its end: name, key and extensions can be asked for from then on.

    Raises:
        BadInput: ``certificate-unusable``.
    """
    try:
        found = x509.load_der_x509_certificate(der)
        _ = found.subject, found.issuer, found.extensions, found.public_key()
    except UNREADABLE:
        raise BadInput(
            "a certificate that cannot be read", code="certificate-unusable", hint="show an X.509 certificate"
        ) from None
    return found


def lists_in(data: bytes, authorities: Iterable[x509.Certificate]) -> tuple[RevocationList, ...]:
    """The lists in ``data`` (DER, or PEM one after the other), each verified with the authority that issued it.

    Raises:
        BadInput: ``crl-unusable`` none, too large, or another form; ``crl-issuer`` nobody of ``authorities`` signed
            one; ``crl-partial``; ``crl-without-end``.
    """
    known = tuple(authorities)
    try:
        return tuple(_verified(crl, known) for crl in crls(data))
    except UNREADABLE:
        raise BadInput("no readable revocation list", code="crl-unusable", hint=_CRL) from None


def crls(data: bytes) -> list[x509.CertificateRevocationList]:
    """Every revocation list of ``data``, unverified.

    Raises:
        BadInput: ``crl-unusable``.
    """
    if len(data) > LIST_BYTES_MAX:
        raise BadInput(f"more than {LIST_BYTES_MAX} bytes of revocation list", code="crl-unusable", hint=_CRL)
    begin = b"-----BEGIN X509 CRL-----"
    parts = [begin + part for part in data.split(begin)[1:]]
    try:
        return [x509.load_pem_x509_crl(part) for part in parts] if parts else [x509.load_der_x509_crl(data)]
    except ValueError:
        raise BadInput("no readable revocation list", code="crl-unusable", hint=_CRL) from None


def _verified(crl: x509.CertificateRevocationList, authorities: tuple[x509.Certificate, ...]) -> RevocationList:
    issuer = next((one for one in authorities if one.subject == crl.issuer and _signed_by(crl, one)), None)
    if issuer is None:
        raise BadInput("a revocation list that no authority of this link signed", code="crl-issuer", hint=_CRL)
    number = 0
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.CRLNumber):
            number = value.crl_number
        elif isinstance(value, x509.IssuingDistributionPoint):
            if value.only_some_reasons or any(getattr(value, name) for name in _PARTITIONED):
                raise BadInput("a revocation list that tells a part only", code="crl-partial", hint=_CRL)
        elif extension.critical:
            raise BadInput("a revocation list of a form that is not read here", code="crl-partial", hint=_CRL)
    if crl.next_update_utc is None:
        raise BadInput("a revocation list that does not say when it ends", code="crl-without-end", hint=_CRL)
    return RevocationList(
        issuer=fingerprint(issuer.public_bytes(Encoding.DER)),
        number=number,
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        crl=crl,
    )


def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return (
        usage.crl_sign
        and isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        and crl.is_signature_valid(key)
    )


def ocsp_question(certificate: x509.Certificate, issuer: x509.Certificate, nonce: bytes) -> bytes:
    """An OCSP request in DER with a nonce (RFC 6960 §4.1, RFC 9654); its certificate id is of SHA-1, as responders
    index by it (RFC 6960 §4.3): a name, not a proof."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1())  # noqa: S303
    return builder.add_extension(x509.OCSPNonce(nonce), critical=False).build().public_bytes(Encoding.DER)


def ocsp_answer(
    data: bytes,
    *,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    nonce: bytes,
    needs_nonce: bool,
    at: datetime,
) -> OcspAnswer:
    """The answer to ``ocsp_question``.

    Raises:
        BadInput: ``ocsp-unusable`` unreadable or no success; ``ocsp-signer``; ``ocsp-other`` about another
            certificate; ``ocsp-nonce``; ``ocsp-unknown`` the responder does not know it; ``ocsp-stale``.
    """
    try:
        answer = ocsp.load_der_ocsp_response(data)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise _ocsp("unusable", f"the responder said {answer.response_status.name.lower()}")
        _require_responder(answer, issuer, at)
        expected = ocsp.load_der_ocsp_request(ocsp_question(certificate, issuer, nonce))
        is_ours = (answer.serial_number, answer.issuer_key_hash, answer.issuer_name_hash) == (
            expected.serial_number,
            _hashed(answer.hash_algorithm, certificate, issuer)[1],
            _hashed(answer.hash_algorithm, certificate, issuer)[0],
        )
        shown = next((one.value.nonce for one in answer.extensions if isinstance(one.value, x509.OCSPNonce)), None)
    except UNREADABLE:
        raise _ocsp("unusable", "it cannot be read") from None
    if not is_ours:
        raise _ocsp("other", "it is about another certificate")
    if shown != nonce and (shown is not None or needs_nonce):
        raise _ocsp("nonce", "it does not answer our question (nonce)")
    if answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise _ocsp("unknown", "the responder does not know the certificate")
    until = answer.next_update_utc or answer.this_update_utc + _ANSWER_LASTS
    is_revoked = answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    if not is_revoked and not answer.this_update_utc - _SKEW <= at <= until:
        raise _ocsp("stale", "it is not of now")
    return OcspAnswer(is_revoked=is_revoked, this_update=answer.this_update_utc, until=until)


def _hashed(algorithm: HashAlgorithm, certificate: x509.Certificate, issuer: x509.Certificate) -> tuple[bytes, bytes]:
    """Issuer name hash and key hash as a responder that used ``algorithm`` writes them (RFC 6960 §4.1.1)."""
    asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm).build()
    return asked.issuer_name_hash, asked.issuer_key_hash


def _require_responder(answer: ocsp.OCSPResponse, issuer: x509.Certificate, at: datetime) -> None:
    """RFC 6960 §4.2.2.2: the issuer itself, or one it certified for OCSP signing."""
    if _signed(answer, issuer):
        return
    for delegate in answer.certificates:
        try:
            purposes = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            continue
        if (
            ExtendedKeyUsageOID.OCSP_SIGNING in purposes
            and is_issuer(issuer, delegate)
            and delegate.not_valid_before_utc <= at <= delegate.not_valid_after_utc
            and _signed(answer, delegate)
        ):
            return
    raise _ocsp("signer", "neither the issuer nor a responder it delegated signed it")


def _signed(answer: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, algorithm = signer.public_key(), answer.signature_hash_algorithm
    if algorithm is None or algorithm.digest_size < SHA256.digest_size:
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey) and answer.signature_algorithm_oid != SignatureAlgorithmOID.RSASSA_PSS:
            key.verify(answer.signature, answer.tbs_response_bytes, padding.PKCS1v15(), algorithm)
        else:
            return False
    except InvalidSignature:
        return False
    return True


class Trust:
    """What one link believes. Reads are cheap and safe from any thread; one caller at a time brings news."""

    def __init__(
        self,
        authorities: Iterable[x509.Certificate],
        *,
        clock: Clock,
        unknown: Unknown,
        grace: timedelta = timedelta(),
        purpose: x509.ObjectIdentifier | None = None,
    ) -> None:
        """``authorities``: the link's bundle. ``grace``: how long past its end a list still counts, 24 h at most.
        ``purpose``: what extendedKeyUsage must state, None where it may be silent (OpenSSL lets silence pass)."""
        self._clock = clock
        self._purpose = purpose
        self._unknown = unknown
        self._grace = min(grace, GRACE_MAX)
        self._lists: Mapping[str, RevocationList] = {}
        self._answers: Mapping[str, OcspAnswer] = {}
        self._asked_for: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.authorities: tuple[x509.Certificate, ...] = tuple(authorities)
        self._chains: OrderedDict[str, tuple[x509.Certificate, ...]] = OrderedDict()

    # ── news ─────────────────────────────────────────────────────────────────────────────────────────────────

    def use(self, authorities: Iterable[x509.Certificate]) -> None:
        """Another bundle; lists of authorities that are not in it are forgotten."""
        self.authorities = tuple(authorities)
        known = {fingerprint(one.public_bytes(Encoding.DER)) for one in self.authorities}
        self._lists = {issuer: one for issuer, one in self._lists.items() if issuer in known}
        self._chains = OrderedDict()

    def take_lists(self, found: Iterable[RevocationList]) -> bool:
        """Use lists that are not older than those held; whether any was new."""
        taken = dict(self._lists)
        for one in found:
            held = taken.get(one.issuer)
            if held is None or (one.this_update, one.number) >= (held.this_update, held.number):
                taken[one.issuer] = one
        changed = taken != self._lists
        self._lists = taken
        return changed

    def take_answer(self, certificate: bytes, answer: OcspAnswer) -> None:
        """Use an OCSP answer about a certificate; a revocation is never taken back by one."""
        key = fingerprint(certificate)
        held = self._answers.get(key)
        if held is None or (not held.is_revoked and answer.this_update >= held.this_update) or answer.is_revoked:
            kept = [*self._answers.items()][-(_REMEMBERED_MAX - 1) :]
            self._answers = dict(kept) | {key: answer}

    # ── judgement ────────────────────────────────────────────────────────────────────────────────────────────

    def refuses(self, certificate: bytes) -> str:
        """Why a peer's certificate (DER) is not believed now, "" when it is: ``untrusted``, ``expired``,
        ``not-yet-valid``, ``purpose``, ``revoked``, ``revocation-unknown``."""
        key, at = fingerprint(certificate), self._clock.now()
        chain = self._chain(key, certificate)
        if not chain:
            return "untrusted"
        unfit = _out_of_time(chain, at)
        if not unfit and self._purpose is not None and self._purpose not in _purposes(chain[0]):
            unfit = "purpose"
        if unfit:
            return unfit
        answer = self._answers.get(key)
        if (answer is not None and answer.is_revoked) or any(
            self._lists_it(issuer, one) for one, issuer in pairwise(chain)
        ):
            return "revoked"
        if len(chain) == 1 or self._is_known(chain, answer, at):
            return GOOD
        _note(self._asked_for, key, certificate, self._lock)
        return "revocation-unknown" if self._unknown == "deny" else GOOD

    def chain(self, certificate: bytes) -> tuple[x509.Certificate, ...]:
        """The certificate, then its issuers up to the self-signed one; empty when it does not end there."""
        return self._chain(fingerprint(certificate), certificate)

    def seen(self) -> tuple[bytes, ...]:
        """Certificates of which nothing fresh spoke when they were judged, those seen last first."""
        with self._lock:
            return tuple(reversed(self._asked_for.values()))

    def lists(self) -> tuple[RevocationList, ...]:
        """The lists in use."""
        return tuple(self._lists.values())

    def lists_for_handshakes(self) -> tuple[bytes, ...]:
        """The lists in PEM form when every authority of the bundle has one that is fresh without grace and for a
        while: then OpenSSL may check too, and tell the peer by its alert. Else none."""
        soon = self._clock.now() + _SHORTEST
        held = [self._lists.get(fingerprint(one.public_bytes(Encoding.DER))) for one in self.authorities]
        if not held or not all(
            one and one.this_update <= self._clock.now() and soon < one.next_update for one in held
        ):
            return ()
        return tuple(one.crl.public_bytes(Encoding.PEM) for one in held if one)

    def half_spent(self) -> tuple[RevocationList, ...]:
        """Lists past half of their life: somebody should have brought newer ones."""
        now = self._clock.now()
        return tuple(one for one in self.lists() if now > one.this_update + (one.next_update - one.this_update) / 2)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────

    def _is_known(self, chain: tuple[x509.Certificate, ...], answer: OcspAnswer | None, at: datetime) -> bool:
        held = self._lists.get(fingerprint(chain[1].public_bytes(Encoding.DER)))
        return (held is not None and held.is_fresh(at, self._grace)) or (answer is not None and at <= answer.until)

    def _lists_it(self, issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
        held = self._lists.get(fingerprint(issuer.public_bytes(Encoding.DER)))
        return (
            held is not None
            and held.crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
        )

    def _chain(self, key: str, certificate: bytes) -> tuple[x509.Certificate, ...]:
        chains = self._chains
        found = chains.get(key)
        if found is None:
            found = _built(certificate, self.authorities)
            _note(chains, key, found, self._lock)
        return found


def _note(into: OrderedDict[str, Noted], key: str, value: Noted, lock: threading.Lock) -> None:
    """Remember the latest thousand."""
    with lock:
        into[key] = value
        into.move_to_end(key)
        while len(into) > _REMEMBERED_MAX:
            into.popitem(last=False)


def _built(certificate: bytes, authorities: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...]:
    try:
        chain = [read_certificate(certificate)]
    except BadInput:
        return ()
    while chain[-1].subject != chain[-1].issuer and len(chain) < CHAIN_MAX:
        issuer = next((one for one in authorities if _is_authority(one) and is_issuer(one, chain[-1])), None)
        if issuer is None:
            return ()
        chain.append(issuer)
    return tuple(chain) if chain[-1] in authorities and is_issuer(chain[-1], chain[-1]) else ()


def _out_of_time(chain: tuple[x509.Certificate, ...], at: datetime) -> str:
    if any(at > one.not_valid_after_utc for one in chain):
        return "expired"
    return "not-yet-valid" if any(at < one.not_valid_before_utc for one in chain) else ""


def _purposes(certificate: x509.Certificate) -> Iterable[x509.ObjectIdentifier]:
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()


def _is_authority(certificate: x509.Certificate) -> bool:
    """RFC 5280 §6.1.4 k and n."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def _ocsp(code: str, message: str) -> BadInput:
    return BadInput(f"OCSP answer: {message}", code=f"ocsp-{code}", hint=_OCSP)


_CRL = "fetch the whole list that the certificate's own authority publishes"
_OCSP = "ask the responder of the certificate's own authority"
