"""A DICOM sender made of a socket and bytes: it can say anything, right or wrong, in pieces of any size."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Any, Self

from gateway.dimse.command import Command, Field, Tag, read_command, write_command
from gateway.dimse.pdu import Fragment, Pdu, PduReader, PduType, data_pdus, whole_pdu
from tests.support.dimse import AET

ECHO = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
Contexts = Sequence[tuple[str, Sequence[str]]]


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def associate_rq(
    contexts: Contexts, *, aet: str = "SCU", called: str = AET, pdu_bytes_max: int = 65_536, user: bytes = b""
) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    body = struct.pack(">HH", 1, 0) + called.encode().ljust(16) + aet.encode().ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, syntaxes) in enumerate(contexts):
        offered = b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
        body += item(0x20, bytes([2 * number + 1, 0, 0, 0]) + item(0x30, abstract.encode()) + offered)
    body += item(0x50, item(0x51, struct.pack(">L", pdu_bytes_max)) + item(0x52, b"1.2.250.1.999.8") + user)
    return whole_pdu(PduType.ASSOCIATE_RQ, body)


class RawScu:
    """One connection. ``source``: the loopback address it calls from."""

    def __init__(
        self, port: int, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None, nagle: bool = False
    ) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        if not nagle:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
        self._reader = PduReader(data_bytes_max=1 << 20)
        self._units: list[Pdu | tuple[bool, bytes, bool]] = []
        self._number = 0

    def associate(self, contexts: Contexts, **facts: Any) -> dict[int, int]:
        """Ask for an association; results by context id, empty when it was rejected (``answer`` tells)."""
        self.socket.sendall(associate_rq(contexts, **facts))
        self.answer = self.unit()
        if not isinstance(self.answer, Pdu) or self.answer.type is not PduType.ASSOCIATE_AC:
            return {}
        results, position, body = {}, 68, self.answer.body
        while position < len(body):
            kind, length = struct.unpack_from(">BxH", body, position)
            if kind == 0x21:
                results[body[position + 4]] = body[position + 6]
            position += 4 + length
        return results

    def echo(self, context_id: int = 1) -> int:
        self.command(context_id, {Tag.COMMAND_FIELD: Field.C_ECHO, Tag.AFFECTED_SOP_CLASS_UID: ECHO})
        return self.status()

    def store(
        self, context_id: int, sop_class: str, sop: str, body: bytes, *, pdu: int = 65_536, first: int | None = None
    ) -> int:
        """Send an object; its status. ``first``: of its bytes, and then nothing more."""
        elements: dict[Tag, int | str] = {
            Tag.COMMAND_FIELD: Field.C_STORE,
            Tag.AFFECTED_SOP_CLASS_UID: sop_class,
            Tag.AFFECTED_SOP_INSTANCE_UID: sop,
            Tag.PRIORITY: 0,
        }
        self.command(context_id, elements, has_data=True)
        sent = body if first is None else body[:first]
        for piece in data_pdus(context_id, sent, is_command=False, is_last=first is None, bytes_max=pdu):
            self.socket.sendall(piece)
        return self.status() if first is None else -1

    def store_pieces(self, context_id: int, sop_class: str, sop: str, pieces: Sequence[bytes]) -> int:
        """The same for an object that is too large to be held."""
        elements: dict[Tag, int | str] = {
            Tag.COMMAND_FIELD: Field.C_STORE,
            Tag.AFFECTED_SOP_CLASS_UID: sop_class,
            Tag.AFFECTED_SOP_INSTANCE_UID: sop,
        }
        self.command(context_id, elements, has_data=True)
        for number, piece in enumerate(pieces, 1):
            is_last = number == len(pieces)
            for pdu in data_pdus(context_id, piece, is_command=False, is_last=is_last, bytes_max=256 * 1024):
                self.socket.sendall(pdu)
        return self.status()

    def command(self, context_id: int, elements: dict[Tag, int | str], *, has_data: bool = False) -> None:
        self._number += 1
        whole = {Tag.MESSAGE_ID: self._number, Tag.COMMAND_DATA_SET_TYPE: 1 if has_data else 0x0101} | elements
        for pdu in data_pdus(context_id, write_command(whole), is_command=True, is_last=True, bytes_max=16_384):
            self.socket.sendall(pdu)

    def status(self) -> int:
        """The status of the next response; -1 when an abort or the end came instead."""
        found = self.response()
        return -1 if found is None or found.status is None else found.status

    def response(self) -> Command | None:
        data = b""
        while True:
            unit = self.unit()
            if not isinstance(unit, tuple):
                return None
            is_command, piece, is_last = unit
            if is_command:
                data += piece
                if is_last:
                    return read_command(data)

    def unit(self) -> Pdu | tuple[bool, bytes, bool] | None:
        """The next PDU or piece of a message, None at the end."""
        while not self._units:
            try:
                data = self.socket.recv(65_536)
            except ConnectionError:
                return None
            if not data:
                return None
            for one in self._reader.receive(memoryview(data)):
                self._units.append(
                    (one.is_command, bytes(one.data), one.is_last) if isinstance(one, Fragment) else one
                )
        return self._units.pop(0)

    def release(self) -> bool:
        """Whether the release was answered."""
        self.socket.sendall(whole_pdu(PduType.RELEASE_RQ, bytes(4)))
        unit = self.unit()
        self.close()
        return isinstance(unit, Pdu) and unit.type is PduType.RELEASE_RP

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
