"""The bounds of the door: what one peer, one connection, one PDU may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one listener.

    An association holds at most one command set (64 KiB), one association request (256 KiB), one gathered data set
    (``gathered_bytes_max``, not for C-STORE) and what its sink holds; all share one read buffer.

    ``header_s``, ``body_s``: from the first byte of a PDU to its header, from there to its last byte (longer for a
    long one: at ``body_bytes_per_s``), whatever trickles in. ``request_s``: from the connection to its request
    (ARTIM). ``message_s``: between the PDUs of one message. ``idle_s``: between messages. ``association_s``: in all.
    ``hostile_max`` violations ``within_s`` ban an address for ``ban_s``.
    """

    pdu_bytes_max: int = 256 * 1024
    gathered_bytes_max: int = 1024 * 1024
    connections_max: int = 64
    connections_per_address_max: int = 16
    backlog: int = 128
    handshake_s: float = 5.0
    request_s: float = 10.0
    header_s: float = 5.0
    body_s: float = 30.0
    body_bytes_per_s: int = 64 * 1024
    message_s: float = 30.0
    idle_s: float = 60.0
    association_s: float = 6 * 3600.0
    write_s: float = 30.0
    closing_s: float = 5.0
    drain_s: float = 10.0
    hostile_max: int = 3
    hostile_within_s: float = 600.0
    ban_s: float = 900.0
