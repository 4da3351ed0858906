"""Run in the namespace of a zone's host: what of the gateway can be reached, and whether it answers.

``reach ADDRESS,… PORT,…`` prints the pairs that take a connection; ``mllp``, ``dicom``, ``https`` with address and port
(and, for https, authority and pair) print what came back. Output: JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

_PATIENCE_S = 3.0


def reach(addresses: str, ports: str) -> list[str]:
    aims = list(product(addresses.split(","), ports.split(",")))
    with ThreadPoolExecutor(len(aims)) as pool:
        takes = pool.map(lambda aim: _takes(*aim), aims)
        return [f"{host}:{port}" for (host, port), taken in zip(aims, takes, strict=True) if taken]


def _takes(host: str, port: str) -> bool:
    try:
        socket.create_connection((host, int(port)), _PATIENCE_S).close()
    except (ConnectionRefusedError, TimeoutError):  # refused, or dropped by a rule
        return False
    return True


def mllp(host: str, port: str) -> str:
    with socket.create_connection((host, int(port)), _PATIENCE_S) as one:
        one.sendall(b"\x0bMSH|^~\\&|A|B|C|D|2026\r\x1c\r")
        answer = one.recv(4096)
    return "MSA" if b"\rMSA|" in answer else "?"


def dicom(host: str, port: str) -> int:
    from pynetdicom.ae import ApplicationEntity

    scu = ApplicationEntity("SCANNER1")
    scu.add_requested_context("1.2.840.10008.1.1")  # Verification
    association = scu.associate(host, int(port), ae_title="POTERNE")
    try:
        return int(association.send_c_echo().Status)
    finally:
        association.release()


def https(host: str, port: str, ca: str, certificate: str, key: str) -> int:
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    calling = http.client.HTTPSConnection(host, int(port), context=context, timeout=_PATIENCE_S)
    calling.request("GET", "/live")
    return calling.getresponse().status


if __name__ == "__main__":
    asked = {one.__name__: one for one in (reach, mllp, dicom, https)}[sys.argv[1]]
    print(json.dumps(asked(*sys.argv[2:])))
