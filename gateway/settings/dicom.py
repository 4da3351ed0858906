"""The DICOM listener of one legal entity: its address, its folder, its peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from gateway.settings.certificates import LanRevocationSettings
from gateway.settings.fields import (
    IN_CLEAR_HINT,
    TRUSTED_LAN,
    AeTitle,
    AeTitleOrNone,
    Interface,
    Listen,
    Name,
    Network,
    PemFile,
    ReceivedFolder,
    Seconds,
    SecretFile,
    Segment,
)
from gateway.settings.section import Section

DicomService = Literal["storage", "rejection-notes", "mpps", "availability"]
RejectionTitle = Literal["113001", "113037", "113038", "113039"]


class DicomPeerSettings(Section):
    """One system that may send to us: known by AE title, network and, with TLS, certificate, all together."""

    aet: AeTitle = Field(description="Its AE title.")
    networks: list[Network] = Field(min_length=1, max_length=32, description="Networks or addresses it calls from.")
    certificate_file: PemFile | None = Field(
        default=None, description="Its certificate; required where the listener speaks TLS."
    )
    may: list[DicomService] = Field(
        default=["storage"],
        min_length=1,
        description="What it may send: storage, rejection-notes (IOCM), mpps, availability (IAN).",
    )
    associations_max: int = Field(default=10, ge=1, le=1000, description="Associations at once.")
    objects_per_hour: int = Field(default=100_000, ge=1, description="Objects within an hour; more gets 0xA700.")
    bytes_per_hour: int = Field(default=1024**4, ge=1, description="Bytes within an hour; more gets 0xA700.")
    deflated: bool = Field(default=False, description="Whether it may send deflated data sets.")
    strict: bool = Field(
        default=False, description="Refuse what breaks a rule (0xC000) instead of keeping it in quarantine."
    )


class DicomSettings(Section):
    """Zone pacs: DICOM (C-ECHO, C-STORE)."""

    together = (("ca_file", "certificate_file", "key_file"),)
    rising = (("connections_per_address_max", "connections_max"),)

    listen: Listen = Field(default="", description="host:port of the DICOM listener; empty = off.")
    interface: Interface = ""
    segment: Segment = Field(
        default="", description="trusted-lan = plain DICOM may be spoken on this listener; empty = TLS alone."
    )
    ae_title: AeTitle = Field(default="POTERNE", description="AE title under which peers call us.")
    notes_ae_title: AeTitleOrNone = Field(
        default="",
        description="AE title under which peers send rejection notes (IOCM); empty = ae_title, as every object.",
    )
    hiding_titles: list[RejectionTitle] = Field(
        default=["113001", "113037", "113038"],
        description="Titles of rejection notes whose instances no manifest lists, also when the PACS still has them.",
    )
    unconfirmed_s: Seconds = Field(
        default=24 * 3600.0,
        description="Seconds a received object may stay unseen in the PACS before an alert says so.",
    )
    folder: ReceivedFolder | None = Field(
        default=None, description="Folder of received objects, sealed; created at the first start."
    )
    ca_file: PemFile | None = Field(default=None, description="Authorities of the peers' certificates (TLS).")
    certificate_file: PemFile | None = Field(default=None, description="Our certificate (TLS).")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    revocation: LanRevocationSettings = Field(
        default_factory=LanRevocationSettings, description="Whether a peer's certificate was revoked."
    )
    pdu_bytes_max: int = Field(
        default=256 * 1024, ge=4096, le=64 * 1024**2, description="Bytes of the longest PDU that peers may send."
    )
    idle_s: Seconds = Field(default=60.0, description="Seconds without a message before an association ends.")
    connections_max: int = Field(default=50, ge=1, le=1000, description="Connections at once.")
    connections_per_address_max: int = Field(
        default=10, ge=1, le=1000, description="Connections at once from one address."
    )
    peers: dict[Name, DicomPeerSettings] = Field(default_factory=dict, description="Who may call, by name.")

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        if not table.get("listen"):
            return
        if not table.get("folder"):
            yield "folder", "is absent though the listener is on", "name the folder that keeps what is received"
        if not table.get("certificate_file") and table.get("segment") != TRUSTED_LAN:
            yield (
                "segment",
                "is not trusted-lan though the listener speaks plain DICOM",
                IN_CLEAR_HINT,
            )
        peers = table.get("peers")
        if not isinstance(peers, Mapping) or not peers:
            yield "peers", "is empty though the listener is on", "describe at least one peer: nobody else may call"
            return
        if table.get("notes_ae_title") and table.get("notes_ae_title") == table.get("ae_title", "POTERNE"):
            yield "notes_ae_title", "is the AE title of every object", "give rejection notes another, or leave it out"
        titles: set[object] = set()
        for name, peer in peers.items():
            if not isinstance(peer, Mapping):
                continue
            title = peer.get("aet")
            if title is not None and title in titles:
                yield f"peers.{name}.aet", "is the AE title of another peer", "give each peer its own AE title"
            titles.add(title)
            if table.get("certificate_file") and not peer.get("certificate_file"):
                yield (
                    f"peers.{name}.certificate_file",
                    "is absent though the listener speaks TLS",
                    "name the certificate this peer shows",
                )
