"""A DICOM door in a process of its own: to be killed, squeezed or watched.

``python -m tests.integration.dimse_child FOLDER [JSON]`` prints its port and serves until SIGTERM. JSON: ``limits``
(fields of ``Limits``), ``memory`` (bytes of private memory it may have), ``free_bytes_min``, ``discard`` (keep
nothing: protocol alone), ``tls`` (certificate, key, authority, fingerprint of the peer), ``port``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from gateway.dimse.limits import Limits
from gateway.dimse.services import Discard, Request, Services
from security.errors import Fault
from security.keys.tls import server_context
from tests.support.dimse import door, peer


class Nowhere:
    """A store service that keeps nothing."""

    def begin(self, _request: Request) -> Discard:
        return Discard(0)


async def main(folder: Path, options: dict[str, Any]) -> None:
    if options.get("memory"):
        resource.setrlimit(resource.RLIMIT_DATA, (options["memory"], options["memory"]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    context, peers = None, None
    if options.get("tls"):
        certificate, key, authority, fingerprint = options["tls"]
        context = server_context(Path(certificate), Path(key), Path(authority))
        peers = (peer(fingerprint=fingerprint),)
    async with door(
        folder,
        tls=context,
        peers=peers,
        limits=Limits(**options.get("limits", {})),
        services=Services(store=Nowhere()) if options.get("discard") else None,
        free_bytes_min=options.get("free_bytes_min", 0),
        port=options.get("port", 0),
    ) as opened:
        print(opened.port, flush=True)
        await stop.wait()


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
    except Fault as fault:
        sys.exit(str(fault))
