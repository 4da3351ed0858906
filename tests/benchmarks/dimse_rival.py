"""A plain pynetdicom SCP: ``python -m tests.benchmarks.dimse_rival FOLDER``; FOLDER "" keeps nothing. Prints its port.

What most servers in Python do: bytes to a file, no fsync, then 0x0000.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from tests.fixtures.dicom_objects import CT, EXPLICIT
from tests.support.dimse import AET


def main(folder: str) -> None:
    def store(event: evt.Event) -> int:
        data = event.encoded_dataset()
        if folder:
            (Path(folder) / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(data)
        return 0

    entity = AE(ae_title=AET)
    entity.maximum_pdu_size = 262_144
    entity.supported_contexts = [build_context(CT, EXPLICIT)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    print(server.server_address[1], flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
