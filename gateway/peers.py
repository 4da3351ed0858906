"""The peers of a tenant, made from its settings: one function per kind of peer, for whoever asks them.

Nothing is opened here: an adapter connects when it is first asked.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version

from gateway.certificates.link import TrustedLink
from gateway.certificates.links import link_of, visit_of
from gateway.pacs.dicomweb import DicomWebPeer, DicomWebSource
from gateway.pacs.dimse import DimsePeer, DimseSource
from gateway.pacs.orthanc import OrthancPeer, OrthancSource
from gateway.settings import (
    IndexMhd,
    IndexSettings,
    IndexXds,
    PacsDicomWeb,
    PacsDimse,
    PacsOrthanc,
    PacsSettings,
    TenantSettings,
)
from indexer.mhd.client import MhdClient, MhdEndpoint
from indexer.xds.client import XdsClient, XdsEndpoint
from indexer.xds.vihf import Claims, Errand, security_header
from security.clock import Clock, SystemClock
from security.identity import Uid
from security.keys.signer import Signer, SigningPair
from security.secrets import read_secret


def pacs_peer(
    name: str, pacs: PacsSettings, secure: ssl.SSLContext | None = None
) -> OrthancPeer | DicomWebPeer | DimsePeer:
    """How a PACS is reached. ``secure``: the context of its link, where it has one; without one a link of its own is
    read from the files.

    Raises:
        Broken: its password file cannot be read.
    """
    control = Uid(pacs.control_study) if pacs.control_study else None
    match pacs:
        case PacsOrthanc():
            return OrthancPeer(
                name=name,
                url=pacs.url,
                username=pacs.username,
                password=_password(pacs),
                ca_file=pacs.ca_file,
                tls=secure or _visiting(pacs),
                timeout_s=pacs.timeout_s,
                deadline_s=pacs.deadline_s,
                control=control,
                questions_max=pacs.questions_max,
            )
        case PacsDicomWeb():
            return DicomWebPeer(
                name=name,
                url=pacs.url,
                username=pacs.username,
                password=_password(pacs),
                ca_file=pacs.ca_file,
                tls=secure or _visiting(pacs),
                certificate_file=pacs.certificate_file,
                key_file=pacs.key_file,
                timeout_s=pacs.timeout_s,
                deadline_s=pacs.deadline_s,
                control=control,
                questions_max=pacs.questions_max,
            )
        case PacsDimse():
            return DimsePeer(
                name=name,
                host=pacs.host,
                port=pacs.port,
                called_aet=pacs.called_aet,
                calling_aet=pacs.calling_aet,
                default_charset=pacs.default_charset,
                timeout_s=pacs.timeout_s,
                deadline_s=pacs.deadline_s,
                control=control,
                questions_max=pacs.questions_max,
                tls=secure or _alone(pacs),
            )


def pacs_source(
    name: str, pacs: PacsSettings, secure: ssl.SSLContext | None = None
) -> OrthancSource | DicomWebSource | DimseSource:
    """The adapter that asks a PACS. To be closed by its owner. ``secure``: as ``pacs_peer``."""
    match pacs_peer(name, pacs, secure):
        case OrthancPeer() as orthanc:
            return OrthancSource(orthanc)
        case DicomWebPeer() as dicomweb:
            return DicomWebSource(dicomweb)
        case DimsePeer() as dimse:
            return DimseSource(dimse)


def index_client(
    tenant: TenantSettings,
    observe_date: Callable[[str, datetime], None] = lambda _header, _at: None,
    *,
    clock: Clock | None = None,
    secure: ssl.SSLContext | None = None,
) -> XdsClient | MhdClient:
    """The client of the tenant's index, by its door. To be closed by its owner. ``observe_date``: as ``Wire`` has it.
    ``secure``: as ``pacs_peer``.

    Raises:
        Broken: a certificate or key cannot be used.
    """
    index = tenant.index
    context = secure or _alone(index)
    if isinstance(index, IndexMhd):
        return MhdClient(
            MhdEndpoint(
                base_url=index.base_url,
                fhir_documents=index.fhir_documents,
                tls=context,
                connect_timeout_s=index.connect_timeout_s,
                total_timeout_s=index.total_timeout_s,
                response_bytes_max=index.response_bytes_max,
            ),
            observe_date=observe_date,
        )
    return XdsClient(
        XdsEndpoint(
            registry_url=index.registry_url,
            repository_url=index.repository_url,
            repository_unique_id=index.repository_unique_id,
            tls=context,
            connect_timeout_s=index.connect_timeout_s,
            total_timeout_s=index.total_timeout_s,
            response_bytes_max=index.response_bytes_max,
        ),
        observe_date=observe_date,
        assertion=_assertion(tenant, index, clock or SystemClock()),
    )


def _alone(section: IndexSettings | PacsDimse) -> ssl.SSLContext | None:
    """The context of a link that nobody keeps current: for one question, by the lists that stand in files."""
    found = next(link_of("", section), None)
    return TrustedLink(found, clock=SystemClock(), grace_s=0).context if found else None


def _visiting(section: PacsOrthanc | PacsDicomWeb) -> ssl.SSLContext | None:
    """The same for a server whose revocation is asked about; None for the rest."""
    found = next(visit_of("", section), None)
    return TrustedLink(found, clock=SystemClock(), grace_s=0).context if found else None


def set_signer(index: IndexSettings, clock: Clock) -> Callable[[], Signer] | None:
    """Who signs the submission sets of a tenant, None for nobody."""
    pair = _signing_pair(index, clock) if isinstance(index, IndexXds) and index.sign_sets else None
    return pair.signer if pair else None


def _signing_pair(index: IndexXds, clock: Clock) -> SigningPair | None:
    """What signs towards an index, None when nothing is signed."""
    if index.sign_certificate_file is None or index.sign_key_file is None:
        return None
    return SigningPair(index.sign_certificate_file, index.sign_key_file, clock, digest=index.sign_digest)


def _assertion(tenant: TenantSettings, index: IndexXds, clock: Clock) -> Callable[[Errand], bytes] | None:
    """Makes the wsse:Security header of one request, None when the tenant sends none."""
    asked, pair, publisher = index.vihf, _signing_pair(index, clock), tenant.publisher
    if asked is None or pair is None:
        return None
    claims = Claims(
        version=asked.version,
        sector=publisher.facility_type,
        structure_id=publisher.institution_id,
        lps_id=asked.lps_id,
        software=publisher.device_name,
        model=publisher.manufacturer,
        software_version=version("poterne"),
        homologation=asked.homologation,
    )

    def header(errand: Errand) -> bytes:
        return security_header(claims, errand, assertion_id=f"_{uuid.uuid4()}", now=clock.now(), signer=pair.signer())

    return header


def _password(pacs: PacsOrthanc | PacsDicomWeb) -> str:
    if pacs.password_file is None:
        return ""
    return read_secret(pacs.password_file, what="PACS password").decode().strip()
