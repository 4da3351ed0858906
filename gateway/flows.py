"""The flow matrix of a site: who opens a connection to whom, in which zone, by which port and protocol, and what
proves who they are.

Read from the configuration alone: nothing is opened. A security officer compares it with the rules of the firewall;
``rules`` writes those that keep zones apart on this host (T63).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import typer

from gateway.i18n import Words
from gateway.settings import (
    DicomSettings,
    Hl7Settings,
    IndexNodeSettings,
    IndexXds,
    OpsSettings,
    PacsDimse,
    PacsSettings,
    Settings,
    TenantSettings,
    address,
)
from gateway.views import columns
from security.policy import Zone

_OURSELVES = "poterne"
_PORTS = {"https": 443, "http": 80}
_Listener = OpsSettings | Hl7Settings | DicomSettings | IndexNodeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One connection. ``opened_by``: the side that connects; ``interface``: the only one on which it comes in, "" for
    any and for what we open; ``key``: where the configuration says so."""

    zone: str
    opened_by: str
    to: str
    port: int
    protocol: str
    authentication: str
    key: str
    interface: str = ""


def flows(settings: Settings) -> list[Flow]:
    """Every connection that this configuration makes possible."""
    return [*_listeners(settings), *_calls(settings)]


def _listeners(settings: Settings) -> Iterator[Flow]:
    ops = settings.ops
    if ops.listen:
        secured = ops.certificate_file is not None
        people = "account: password and code" + (", or client certificate" if ops.ca_file else "")
        yield _inbound(
            Zone.OPS,
            "people, monitoring",
            ops,
            "HTTPS" if secured else "HTTP (this machine)",
            people,
            "ops.listen",
        )
    for name, tenant in settings.tenants.items():
        yield from _tenant_listeners(name, tenant)
    node = settings.index_node
    if node is not None:
        yield _node(node)


def _tenant_listeners(name: str, tenant: TenantSettings) -> Iterator[Flow]:
    hl7, dicom, key = tenant.hl7, tenant.dicom, f"tenants.{name}"
    if hl7.listen:
        who = ", ".join(hl7.networks) or "this machine"
        proof = f"network address, segment {hl7.segment}" if hl7.networks else "this machine"
        yield _inbound(Zone.PACS, f"RIS ({who})", hl7, "MLLP", proof, f"{key}.hl7.listen")
    if not dicom.listen:
        return
    secured = dicom.certificate_file is not None
    for peer, one in dicom.peers.items():
        proof = "client certificate, AE title, network" if secured else "AE title, network (trusted-lan)"
        yield _inbound(
            Zone.PACS,
            f"{peer} ({', '.join(one.networks)})",
            dicom,
            "DICOM TLS" if secured else "DICOM",
            proof,
            f"{key}.dicom.peers.{peer}",
        )


def _node(node: IndexNodeSettings) -> Flow:
    secured = node.certificate_file is not None
    proof = "client certificate" if secured else "this machine"
    if node.assertion_certificates_file:
        proof += ", signed assertion (VIHF)"
    protocol = "HTTPS: XDS.b, FHIR" if secured else "HTTP: XDS.b, FHIR (this machine)"
    return _inbound(Zone.PEERS, "gateways", node, protocol, proof, "index_node.listen")


def _calls(settings: Settings) -> Iterator[Flow]:
    for name, tenant in settings.tenants.items():
        for pacs, one in tenant.pacs.items():
            yield _pacs(one, f"tenants.{name}.pacs.{pacs}")
        index = tenant.index
        protocol = "XDS.b" if isinstance(index, IndexXds) else "FHIR (MHD)"
        proof = "client certificate" if index.certificate_file else "none (this machine)"
        if isinstance(index, IndexXds) and index.vihf:
            proof += ", signed assertion (VIHF)"
        addresses = {index.registry_url, index.repository_url} if isinstance(index, IndexXds) else {index.address}
        for url in sorted(addresses):
            yield _to_url(Zone.PEERS, url, protocol, proof, f"tenants.{name}.index")
    yield from _providers(settings)
    if settings.store is not None and settings.store.postgres is not None:
        database = settings.store.postgres
        if not database.host.startswith("/"):
            secured = " (TLS)" if database.ca_file else ""
            yield Flow(
                zone=Zone.HOST,
                opened_by=_OURSELVES,
                to=database.host,
                port=database.port,
                protocol=f"PostgreSQL{secured}",
                authentication="client certificate" if database.certificate_file else "password",
                key="store.postgres",
            )
    if mail := settings.alerts.mail:
        yield Flow(
            zone=Zone.OPS,
            opened_by=_OURSELVES,
            to=mail.host,
            port=mail.port,
            protocol=f"SMTP ({mail.security})",
            authentication="password" if mail.username else "none",
            key="alerts.mail",
        )
    if hook := settings.alerts.webhook:
        yield _to_url(Zone.OPS, hook.url, "webhook", "HMAC" if hook.secret_file else "none", "alerts.webhook")


def _providers(settings: Settings) -> Iterator[Flow]:
    for name, provider in settings.identity_providers.items():
        proof = "client certificate" + (", secret" if provider.client_secret_file else "")
        urls = (provider.jwks_url, provider.introspection_url, provider.token_url, provider.userinfo_url)
        for place in sorted({urlsplit(url).netloc for url in urls if url}):
            yield _to_url(Zone.OPS, f"https://{place}", "OAuth, OpenID Connect", proof, f"identity_providers.{name}")


def _pacs(pacs: PacsSettings, key: str) -> Flow:
    if isinstance(pacs, PacsDimse):
        secured = pacs.certificate_file is not None
        return Flow(
            zone=Zone.PACS,
            opened_by=_OURSELVES,
            to=pacs.host,
            port=pacs.port,
            protocol="DICOM TLS (C-FIND)" if secured else "DICOM (C-FIND)",
            authentication="client certificate, AE title" if secured else "AE title",
            key=key,
        )
    certificate = getattr(pacs, "certificate_file", None)
    proof = "client certificate" if certificate else "password" if pacs.username else "none"
    return _to_url(Zone.PACS, pacs.url, "Orthanc REST" if pacs.kind == "orthanc" else "DICOMweb", proof, key)


def _inbound(zone: Zone, who: str, door: _Listener, protocol: str, proof: str, key: str) -> Flow:  # noqa: PLR0917
    host, port = address(door.listen)
    return Flow(
        zone=zone,
        opened_by=who,
        to=host,
        port=port,
        protocol=protocol,
        authentication=proof,
        key=key,
        interface=door.interface,
    )


def _to_url(zone: Zone, url: str, protocol: str, proof: str, key: str) -> Flow:
    parts = urlsplit(url)
    return Flow(
        zone=zone,
        opened_by=_OURSELVES,
        to=parts.hostname or "",
        port=parts.port or _PORTS[parts.scheme],
        protocol=f"{parts.scheme.upper()}: {protocol}",
        authentication=proof,
        key=key,
    )


def rules(settings: Settings) -> str:
    """Rules of nftables(8) by which no listener is reached through another zone's network, for the host's firewall:
    what comes to an address on an interface that does not hold it is dropped, and so is what comes in on another
    interface than the listener's own."""
    lines = []
    for listener in {(one.to, one.port): one for one in flows(settings) if one.opened_by != _OURSELVES}.values():
        if ipaddress.ip_address(listener.to).is_loopback:
            continue
        family = "ip6" if ":" in listener.to else "ip"
        to = f"{family} daddr {listener.to} tcp dport {listener.port}"
        lines.append(f"{to} fib daddr . iif type != local drop")
        if listener.interface:
            lines.append(f'{to} iifname != "{listener.interface}" drop')
    inside = "".join(f"    {line}\n" for line in ('iifname "lo" accept', *lines))
    head = "  chain zones {\n    type filter hook input priority filter; policy accept;\n"
    return f"table inet poterne {{\n{head}{inside}  }}\n}}\n"


def run(settings: Settings, words: Words, *, as_json: bool, as_rules: bool = False) -> int:
    """Print the matrix, or the rules of the host's firewall."""
    if as_rules:
        typer.echo(rules(settings), nl=False)
        return 0
    found = flows(settings)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], ensure_ascii=False))
        return 0
    if not found:
        typer.echo(words("This configuration opens no connection."))
        return 0
    heads = ("zone", "opened by", "to", "port", "protocol", "authentication", "key", "interface")
    rows = [heads, *(tuple(str(value) for value in asdict(one).values()) for one in found)]
    for line in columns(rows):
        typer.echo(line)
    return 0
