"""Which links of a configuration speak TLS with a pair of ours, or with servers whose revocation is asked about, and
which pairs only sign. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from gateway.settings import (
    AuditSettings,
    DicomSettings,
    FeedFhir,
    FeedSyslog,
    IdentityProviderSettings,
    IndexMhd,
    IndexNodeSettings,
    IndexXds,
    MailSettings,
    PacsDicomWeb,
    PacsDimse,
    PacsOrthanc,
    RevocationSettings,
    Settings,
    TenantSettings,
    WebhookSettings,
)
from gateway.settings.certificates import is_asked
from security.errors import BadInput

Side = Literal["client", "server"]
Kind = Literal["index", "index-node", "dicom", "pacs", "pacs-http", "alerts", "audit", "identity-provider", "sign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate of ours with its key, and the key of the configuration that names it: ``tenants.chu.index`` for
    AUTH, ``tenants.chu.index.sign`` for SIGN."""

    key: str
    kind: Kind
    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link. ``key``, ``kind``: as those of ``Pair``; ``pair``: ours, None towards a server that knows us by other
    means; ``host``, ``port``: the peer of a client, the listener of a server."""

    key: str
    kind: Kind
    pair: Pair | None
    side: Side
    ca_file: Path
    revocation: RevocationSettings
    host: str
    port: int


Visited = PacsOrthanc | PacsDicomWeb | MailSettings | WebhookSettings
"""The sections of servers that need not ask who calls: a link when they say what speaks of revocation."""
Mutual = (
    IndexXds
    | IndexMhd
    | IndexNodeSettings
    | DicomSettings
    | PacsDimse
    | IdentityProviderSettings
    | FeedSyslog
    | FeedFhir
)
"""The sections that describe such a link."""


def links(settings: Settings) -> dict[str, Link]:
    """Every link by its key."""
    return {link.key: link for link in _links(settings)}


def pairs(settings: Settings) -> dict[str, Pair]:
    """Every pair of ours by its key, SIGN included."""
    found = {link.key: link.pair for link in _links(settings) if link.pair}
    for name, tenant in settings.tenants.items():
        index = tenant.index
        if isinstance(index, IndexXds) and index.sign_certificate_file and index.sign_key_file:
            key = f"tenants.{name}.index.sign"
            found[key] = Pair(
                key=key,
                kind="sign",
                certificate_file=index.sign_certificate_file,
                key_file=index.sign_key_file,
            )
    return found


def pair_of(settings: Settings, key: str) -> Pair:
    """The pair of that key.

    Raises:
        BadInput: ``no-such-pair``.
    """
    known = pairs(settings)
    if key not in known:
        shown = ", ".join(known) or "none: no section names certificate_file and key_file"
        raise BadInput(f"{key} is no pair of this configuration", code="no-such-pair", hint=f"one of: {shown}")
    return known[key]


def _links(settings: Settings) -> Iterator[Link]:
    for name, tenant in settings.tenants.items():
        yield from _of_tenant(f"tenants.{name}", tenant)
    yield from feed_links("audit", settings.audit)
    if settings.index_node:
        yield from link_of("index_node", settings.index_node)
        yield from feed_links("index_node.audit", settings.index_node.audit)
    for name, provider in settings.identity_providers.items():
        yield from link_of(f"identity_providers.{name}", provider)
    yield from visit_of("alerts.mail", settings.alerts.mail)
    yield from visit_of("alerts.webhook", settings.alerts.webhook)


def feed_links(key: str, audit: AuditSettings) -> Iterator[Link]:
    """The links to the audit repositories of a section."""
    for name, feed in audit.feed.items():
        yield from link_of(f"{key}.feed.{name}", feed)


def _of_tenant(key: str, tenant: TenantSettings) -> Iterator[Link]:
    yield from link_of(f"{key}.index", tenant.index)
    yield from link_of(f"{key}.dicom", tenant.dicom)
    for name, pacs in tenant.pacs.items():
        where = f"{key}.pacs.{name}"
        yield from link_of(where, pacs) if isinstance(pacs, PacsDimse) else visit_of(where, pacs)


def link_of(key: str, section: Mutual) -> Iterator[Link]:
    """The link of one section, none when it does not speak TLS."""
    if not (section.certificate_file and section.key_file and section.ca_file):
        return
    kind, side, host, port = _place(section)
    yield Link(
        key=key,
        kind=kind,
        pair=Pair(key=key, kind=kind, certificate_file=section.certificate_file, key_file=section.key_file),
        side=side,
        ca_file=section.ca_file,
        revocation=section.revocation,
        host=host,
        port=port,
    )


def visit_of(key: str, section: Visited | None) -> Iterator[Link]:
    """The link of one section whose server's revocation is asked about, none otherwise."""
    if section is None or not section.ca_file or not is_asked(section.revocation.model_dump()):
        return
    if isinstance(section, MailSettings):
        host, port, is_secured = section.host, section.port, section.security != "none"
    else:
        parts = urlsplit(section.url)
        host, port, is_secured = parts.hostname or "", parts.port or 443, parts.scheme == "https"
    if not is_secured:
        return
    kind: Kind = "pacs-http" if isinstance(section, PacsOrthanc | PacsDicomWeb) else "alerts"
    pair = None
    if isinstance(section, PacsDicomWeb) and section.certificate_file and section.key_file:
        pair = Pair(key=key, kind=kind, certificate_file=section.certificate_file, key_file=section.key_file)
    yield Link(
        key=key,
        kind=kind,
        pair=pair,
        side="client",
        ca_file=section.ca_file,
        revocation=section.revocation,
        host=host,
        port=port,
    )


def _place(section: Mutual) -> tuple[Kind, Side, str, int]:
    match section:
        case IndexNodeSettings() | DicomSettings():
            host, _, port = section.listen.rpartition(":")
            kind: Kind = "dicom" if isinstance(section, DicomSettings) else "index-node"
            return kind, "server", host.strip("[]"), int(port or 0)
        case PacsDimse():
            return "pacs", "client", section.host, section.port
        case FeedSyslog():
            return "audit", "client", section.host, section.port
        case FeedFhir():
            parts = urlsplit(section.url)
            return "audit", "client", parts.hostname or "", parts.port or 443
        case _:
            parts = urlsplit(section.address)
            kind = "identity-provider" if isinstance(section, IdentityProviderSettings) else "index"
            return kind, "client", parts.hostname or "", parts.port or 443
