"""Who is believed: revocation of a link's peers, the folder of ``poterne certs``, the white list of the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from gateway.settings.fields import (
    CrlFile,
    HttpsUrlOrNone,
    ListUrl,
    ListUrlOrNone,
    Network,
    PemFile,
    ReceivedFolder,
    Seconds,
    Text,
    XmlFile,
)
from gateway.settings.section import Section


class RevocationSettings(Section):
    """How it is known that a peer's certificate was not revoked. Addresses are named here, never taken from one."""

    unknown: Literal["deny", "allow"] = Field(
        default="deny", description="What happens to a peer when no fresh list or answer speaks of it."
    )
    crl_file: CrlFile | None = Field(
        default=None,
        description="Revocation lists of the authorities of ca_file (PEM or DER), read again when changed.",
    )
    crl_urls: list[ListUrl] = Field(
        default_factory=list, max_length=16, description="Addresses where those lists are fetched."
    )
    ocsp_url: ListUrlOrNone = Field(default="", description="OCSP responder of those authorities; empty = none.")
    ocsp_nonce: Literal["required", "optional"] = Field(
        default="required", description="Whether an OCSP answer must repeat our nonce."
    )


class LanRevocationSettings(RevocationSettings):
    """The same on the network of the PACS, where few authorities publish lists."""

    unknown: Literal["deny", "allow"] = Field(
        default="allow", description="What happens to a peer when no fresh list or answer speaks of it."
    )


def without_source(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The rule of a link whose ``revocation`` denies what is unknown: something must speak of its peers."""
    revocation = table.get("revocation")
    stated = revocation if isinstance(revocation, Mapping) else {}
    if not table.get("ca_file") or stated.get("unknown", "deny") != "deny":
        return
    if not any(stated.get(key) for key in ("crl_file", "crl_urls", "ocsp_url")):
        yield (
            "revocation",
            "names nothing that says which certificates were revoked, so every peer would be refused",
            'set crl_file, crl_urls or ocsp_url; or, knowing that a stolen key would stay good, unknown = "allow"',
        )


def without_authorities(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The rule of a link where the system's authorities would do: whose lists and answers count must be stated."""
    revocation = table.get("revocation")
    stated = revocation if isinstance(revocation, Mapping) else {}
    if is_asked(stated) and not table.get("ca_file"):
        yield (
            "revocation",
            "asks who was revoked though no authorities are named",
            "name the authorities of the peer's certificate in ca_file: their lists and answers alone count",
        )


def is_asked(stated: Mapping[str, Any]) -> bool:
    """Whether a ``revocation`` names what speaks of revoked certificates, or refuses what nothing speaks of."""
    return stated.get("unknown") == "deny" or any(stated.get(key) for key in ("crl_file", "crl_urls", "ocsp_url"))


class CertificatesSettings(Section):
    """What ``poterne certs`` and the watch over revocation share."""

    folder: ReceivedFolder | None = Field(
        default=None, description="Folder of new pairs, earlier pairs and fetched lists; mode 0700."
    )
    people_authority: ReceivedFolder | None = Field(
        default=None,
        description="Folder of the authority that certifies people (poterne certs ca init); none = none.",
    )
    refresh_s: Seconds = Field(default=3600.0, description="Seconds between two fetches of lists; each a little off.")
    crl_grace_s: float = Field(
        default=14_400.0, ge=0, le=86_400, description="Seconds a revocation list still counts past its own end."
    )
    networks: list[Network] = Field(
        default_factory=list,
        max_length=32,
        description="Networks of one's own from which lists may be fetched; public addresses always may.",
    )


class WhiteListSettings(Section):
    """The signed list of every box of the network (drim-m §10)."""

    one_of = (("url", "file"),)

    url: HttpsUrlOrNone = Field(default="", description="Address where the list is published (https).")
    file: XmlFile | None = Field(default=None, description="File where something else puts the list.")
    ca_file: PemFile = Field(description="Authorities of its signer, up to the root.")
    server_ca_file: PemFile | None = Field(
        default=None, description="Authorities of the server of url; none = the system's."
    )
    signer_cn: Text = Field(default="Liste Blanche DRIM-M", description="Common name of its signer.")
    signer_ou: Text = Field(default="318751275100020", description="Organizational unit of its signer.")
    refresh_s: Seconds = Field(default=21_600.0, description="Seconds between two looks.")
    revocation: RevocationSettings = Field(
        default_factory=RevocationSettings, description="Whether the signer was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_source(table)
