"""Audit messages as syslog over TLS (RFC 5424, RFC 5425), as ITI-20 asks.

Invariants:

* each frame is ``LENGTH SP MESSAGE``, the length in octets (RFC 5425 §4.3);
* syslog has no answer. A batch counts as taken when the receiver, told that nothing more comes (close_notify), has
  ended the connection, and not before: its system would have reset it, had bytes been left unread. Anything else
  after the first byte is an unknown outcome, and the batch goes again. What the receiver does with what it read, this
  protocol cannot tell; FHIR can;
* everything ends in bounded time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable
from datetime import datetime
from time import monotonic

from gateway.bridge import Call

PRI_NOTICE, PRI_WARNING = 85, 84  # facility 10 (authpriv), severity 5 and 4
MSGID = "IHE+RFC-3881"
APP_NAME = "poterne"
GRACE_S = 0.2
"""How long a receiver that crashes may take to show it, before we say that nothing more comes."""
_READ = 4096


class Unclear(Exception):
    """Bytes left, and whether they arrived is not known."""


def header(*, at: datetime, host: str, process: str, is_failure: bool) -> bytes:
    """RFC 5424 §6.2 header with nil structured data, and the blank before the message. Names are cut to what the
    grammar allows: printable ASCII, 255 and 128 characters."""
    pri = PRI_WARNING if is_failure else PRI_NOTICE
    moment = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = f"<{pri}>1 {moment} {_name(host, 255)} {APP_NAME} {_name(process, 128)} {MSGID} - "
    return said.encode("ascii")


def frame(message: bytes) -> bytes:
    """RFC 5425 §4.3.1: octet count, blank, message."""
    return b"%d %s" % (len(message), message)


def _name(text: str, most: int) -> str:
    return "".join(c for c in text if "!" <= c <= "~")[:most] or "-"


def send(
    call: Call, frames: Iterable[bytes], *, host: str, port: int, context: ssl.SSLContext, connect_s: float
) -> None:
    """Hand over a batch on a connection of its own.

    Raises:
        OSError: nothing left this machine; ``ssl.SSLError`` is one.
        Unclear: bytes left, and it is not known what became of them.
    """
    plain = socket.create_connection((host, port), timeout=connect_s)
    try:
        secured = context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    with secured:
        call.on_cut(lambda: _cut(secured))
        try:
            for one in frames:
                secured.settimeout(max(call.left_s, 0.001))
                secured.sendall(one)
            _still_there(secured)
            _end(call, secured)
        except OSError as error:
            raise Unclear(type(error).__name__) from error


def _still_there(secured: ssl.SSLSocket) -> None:
    """A receiver that ends before it was told that nothing more comes did not take it all.

    Raises:
        ConnectionAbortedError: it ended.
    """
    secured.settimeout(GRACE_S)
    try:
        if not secured.recv(_READ):
            raise ConnectionAbortedError
    except TimeoutError:
        return


def _end(call: Call, secured: ssl.SSLSocket) -> None:
    """Say that nothing more comes, and wait for the receiver's end.

    Raises:
        OSError: it did not end in order, or not in time.
    """
    until = monotonic() + call.left_s
    secured.settimeout(max(call.left_s, 0.001))
    try:
        bare = secured.unwrap()
    except ssl.SSLEOFError:
        return  # it ended the stream without a close_notify of its own, as rsyslog does, having read ours
    except ssl.SSLZeroReturnError:
        return
    with bare:
        bare.shutdown(socket.SHUT_WR)
        while monotonic() < until:
            bare.settimeout(max(until - monotonic(), 0.001))
            if not bare.recv(_READ):
                return
    raise TimeoutError


def _cut(secured: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        secured.shutdown(socket.SHUT_RDWR)
