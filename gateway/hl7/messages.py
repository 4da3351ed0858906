"""Which messages are for this gateway, and who reads each: message type and event → reader (drim-m §2).

Invariant: a message of another type, event or processing mode is refused for that reason alone, for what else it
should hold is not ours to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Protocol

from gateway.hl7 import consent_message
from gateway.hl7.consent_message import ConsentMessage, read_consent_message
from gateway.hl7.order_message import OrderMessage, read_order_message
from gateway.hl7.reading import MessageRefused, problem_at
from gateway.hl7.report_message import DOCUMENT_EVENTS, ReportMessage, read_report_message
from security.parse.hl7 import Message

Stated = ReportMessage | OrderMessage | ConsentMessage


class Reader(Protocol):
    """Reads one family of messages."""

    def __call__(self, message: Message, *, timezone: tzinfo, received_at: datetime) -> Stated:
        """What the message states; raises ``MessageRefused`` with every reason."""
        ...


READERS: Mapping[str, Mapping[str, Reader]] = {
    "ORU": {"R01": read_report_message},
    "MDM": dict.fromkeys(DOCUMENT_EVENTS, read_report_message),
    "ORM": {"O01": read_order_message},
    "OMI": {"O23": read_order_message},
    "ADT": dict.fromkeys(sorted(consent_message.EVENTS | consent_message.IDENTITY_EVENTS), read_consent_message),
}


def read_message(message: Message, *, timezone: tzinfo, received_at: datetime) -> Stated:
    """What ``message`` states; ``timezone`` is that of times without an offset.

    Raises:
        MessageRefused: with every reason.
    """
    header = message.header
    kind, trigger = header.text(9), header.text(9, 2)
    if kind not in READERS:
        text = f"Message type: expected one of {', '.join(READERS)}"
        raise MessageRefused([problem_at(header, 9, "unsupported-type", text)])
    if trigger not in READERS[kind]:
        text = f"Trigger event of {kind}: expected one of {', '.join(READERS[kind])}"
        raise MessageRefused([problem_at(header, 9, "unsupported-event", text)])
    if header.text(11) not in {"P", ""}:
        text = "Processing id: expected P, production"
        raise MessageRefused([problem_at(header, 11, "unsupported-processing", text)])
    return READERS[kind][trigger](message, timezone=timezone, received_at=received_at)
