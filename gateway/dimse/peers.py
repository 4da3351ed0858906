"""Who may associate, and as whom: a peer is its AE title, its network and, with TLS, its certificate together (T06).

Pure: a decision on what the connection shows. An AE title is a label that anybody can write; alone it opens nothing
beyond the networks it is configured for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address

from gateway.dimse.associate import APPLICATION_CONTEXT, Proposal
from gateway.dimse.negotiation import (
    UNKNOWN_CALLED,
    UNKNOWN_CALLING,
    UNSUPPORTED_APPLICATION,
    UNSUPPORTED_VERSION,
    Rejection,
    Terms,
)
from gateway.dimse.services import Admitted, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPeer:
    """A configured peer. ``fingerprint``: SHA-256 of its certificate, lower-case hexadecimal, "" when the listener
    asks for none. ``notes``: what it may do at the AE title of rejection notes, None for nothing."""

    aet: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    fingerprint: str
    admitted: Admitted
    notes: Terms | None = None


class PeerTable:
    """The peers of one listener (``services.Policy``). ``is_secured``: the listener speaks TLS; ``notes_aet``: where
    rejection notes are sent, "" for nowhere of their own."""

    def __init__(self, peers: Sequence[KnownPeer], *, called_aet: str, is_secured: bool, notes_aet: str = "") -> None:
        self._peers = tuple(peers)
        self._called_aet = called_aet
        self._notes_aet = notes_aet
        self._is_secured = is_secured

    def admit(self, proposal: Proposal, origin: Origin) -> Admitted | Rejection:
        """The peer whose AE title, network and certificate all match, or the rejection of security §6."""
        if not proposal.is_version_1:
            return UNSUPPORTED_VERSION
        if proposal.application_context != APPLICATION_CONTEXT:
            return UNSUPPORTED_APPLICATION
        is_notes = bool(self._notes_aet) and proposal.called_aet == self._notes_aet
        if proposal.called_aet != self._called_aet and not is_notes:
            return UNKNOWN_CALLED
        found = next((peer for peer in self._peers if self._matches(peer, proposal, origin)), None)
        if found is None:
            return UNKNOWN_CALLING
        if not is_notes:
            return found.admitted
        return UNKNOWN_CALLING if found.notes is None else replace(found.admitted, terms=found.notes)

    def _matches(self, peer: KnownPeer, proposal: Proposal, origin: Origin) -> bool:
        if peer.aet != proposal.calling_aet:
            return False
        address = ip_address(origin.address.partition("%")[0])
        if not any(address in network for network in peer.networks):
            return False
        return not self._is_secured or (bool(origin.fingerprint) and origin.fingerprint == peer.fingerprint)
