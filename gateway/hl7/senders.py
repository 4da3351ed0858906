"""Who may send HL7 messages: this machine, and the networks that the configuration names. Pure.

MLLP knows no credential: beyond loopback a sender is its network, on a segment the site trusts (FF-44).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from security.policy import Action, Allow, Purpose, Resource, Role, Subject, Zone, decide


class Senders:
    """The senders of one tenant. ``networks``: as the configuration names them."""

    def __init__(self, *, tenant: str = "", networks: Sequence[str] = ()) -> None:
        self.tenant = tenant
        self._networks = tuple(ip_network(network) for network in networks)

    def admit(self, address: str) -> bool:
        """Whether a connection from there may bring messages."""
        try:
            place = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        known = next((network for network in self._networks if place in network), None)
        subject = Subject(
            name=f"network {known}" if known else "",
            roles=frozenset({Role.SERVICE} if known else ()),
            is_local=place.is_loopback,
        )
        resource = Resource(tenant=self.tenant)
        return isinstance(decide(subject, Purpose.OPERATION, Action.HL7_SEND, resource, Zone.PACS), Allow)
