"""A modality that costs little: sends prepared C-STOREs as fast as they are answered, in a process of its own.

``python -m tests.benchmarks.dimse_sender JSON`` says "ready" once it is associated, waits for a line, sends, and prints
as JSON when it began and ended (monotonic seconds) and how many were answered 0x0000. JSON: ``port``, ``called``, ``objects``, ``run`` (makes the instances its own), ``size`` of the pixels,
``pdu``, ``nagle`` (leave Nagle's algorithm on and write PDU by PDU, as many senders do), ``tls``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from gateway.dimse.command import Field, Tag, write_command
from gateway.dimse.pdu import data_pdus
from security.keys.tls import client_context
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set, element
from tests.support.dimse_raw import RawScu

SOP = f"{ROOT}.4.100000.100000"


def prepared(size: int, pdu: int) -> list[bytes]:
    """Command and data PDUs of one object."""
    command = write_command(
        {
            Tag.COMMAND_FIELD: Field.C_STORE,
            Tag.AFFECTED_SOP_CLASS_UID: CT,
            Tag.AFFECTED_SOP_INSTANCE_UID: SOP,
            Tag.MESSAGE_ID: 1,
            Tag.PRIORITY: 0,
            Tag.COMMAND_DATA_SET_TYPE: 1,
        }
    )
    geometry = [element(0x00100020, "LO", b"IPP-BENCH ")]
    body = data_set(1, sop=SOP, study=f"{ROOT}.4", series=f"{ROOT}.4.1", before=geometry, pixels=bytes(size))
    return [
        *data_pdus(1, command, is_command=True, is_last=True, bytes_max=pdu),
        *data_pdus(1, body, is_command=False, is_last=True, bytes_max=pdu),
    ]


def main(asked: dict[str, Any]) -> None:
    tls = client_context(*(Path(path) for path in asked["tls"])) if asked.get("tls") else None
    scu = RawScu(asked["port"], tls=tls, nagle=asked["nagle"])
    assert scu.associate([(CT, [EXPLICIT])], called=asked["called"]) == {1: 0}, scu.answer
    pdus = prepared(asked["size"], asked["pdu"])
    print("ready", flush=True)
    sys.stdin.readline()
    good, began = 0, time.monotonic()
    for number in range(asked["objects"]):
        own = SOP.replace("100000.100000", f"{100_000 + asked['run']}.{100_000 + number}").encode()
        mine = [pdu.replace(SOP.encode(), own) for pdu in pdus[:2]] + pdus[2:]
        for piece in mine if asked["nagle"] else [b"".join(mine)]:
            scu.socket.sendall(piece)
        good += scu.status() == 0
    ended = time.monotonic()
    scu.release()
    print(json.dumps({"began": began, "ended": ended, "good": good}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
