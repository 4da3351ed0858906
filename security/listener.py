"""Listening sockets: on one address and, where it is asked for, on one network interface alone (T63).

Linux answers for each of its addresses on every interface (the weak host model, RFC 1122 §3.3.4.2). Bound to an
address alone, the listener of one zone is reached from every other zone whose hosts send to that address; bound to an
interface too (SO_BINDTODEVICE, socket(7)), it takes what came in there, and what this machine itself sends.

Leaves to others: who is served, and the rules of the host's firewall (``gateway.flows``).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from security.errors import Broken

BACKLOG: Final = 128


def listening(host: str, port: int, *, interface: str = "", backlog: int = BACKLOG) -> socket.socket:
    """A listening TCP socket that does not block. ``port`` 0: a free one; ``interface``: "" for any.

    Raises:
        OSError: the address cannot be bound; ENODEV: there is no such interface; EPERM: the kernel lets nobody
            without CAP_NET_RAW bind to one.
    """
    is_v6 = ":" in host
    opened = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_v6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if interface:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        opened.bind((host, port))
        opened.listen(backlog)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


@contextmanager
def opening(key: str, listen: str, interface: str = "") -> Iterator[None]:
    """Names the setting, the address and the interface of a listener that cannot be opened.

    Raises:
        Broken: ``interface-unknown``, ``interface-denied``, ``door-unavailable``.
    """
    try:
        yield
    except OSError as error:
        section = key.rpartition(".")[0]
        if interface and error.errno == errno.ENODEV:
            known = ", ".join(sorted(name for _, name in socket.if_nameindex()))
            raise Broken(
                f"{section}.interface: this machine has no network interface {interface}; it has {known}",
                code="interface-unknown",
                hint="correct the name; an interface that comes up late must be waited for by the service unit",
            ) from error
        if interface and error.errno == errno.EPERM:
            raise Broken(
                f"{section}.interface: the kernel does not let this process bind {listen} to {interface}",
                code="interface-denied",
                hint="give the service CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW), or take interface out"
                " and load the rules of: poterne flows --rules",
            ) from error
        raise Broken(
            f"{key}: {listen} cannot be opened: {os.strerror(error.errno or 0)}",
            code="door-unavailable",
            hint="stop what listens there, or choose another address",
        ) from error
