"""One follower in a process of its own, to be killed: ``python -m tests.integration.changes_child DB URL USER PASSWORD``.

Reads the change log to its end once, as ``ChangeFollower.run`` does from one rest to the next.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.components import COMPONENTS
from gateway.pacs.changes import ChangeFollower
from gateway.pacs.orthanc import OrthancPeer
from indexer.ledger import Ledger
from security.clock import SystemClock
from security.seal import Vault
from security.store.sqlite import SqliteStore

TENANT = "site"


async def main(database: str, url: str, username: str, password: str) -> None:
    store, clock = await SqliteStore.open(Path(database), COMPONENTS), SystemClock()
    follower = ChangeFollower(
        tenant=TENANT,
        peer=OrthancPeer(name="orthanc", url=url, username=username, password=password),
        store=store,
        ledger=Ledger(await Vault.load(store, bytes(range(32)), [TENANT], clock)),
        clock=clock,
    )
    while not (await follower.look()).is_last:
        pass
    await follower.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
