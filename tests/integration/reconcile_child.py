"""A process that reconciles and may be killed at any crash point: ``reconcile_child DATABASE INDEX SECONDS``.

INDEX is the running index node, SECONDS what the turned clock has moved. The PACS is what ``pacs_of_child`` makes it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.components import COMPONENTS
from indexer import gate
from indexer.ledger import Ledger
from indexer.reconciliation import round as rounds
from indexer.reconciliation.look import Lookout
from indexer.reconciliation.round import Bounds, Reconciler
from indexer.xds.client import XdsClient, XdsEndpoint
from security.seal import Vault
from security.store.opening import open_store
from tests.integration.outbox_lab import Hands
from tests.support.reconciling import Calendar, lab_exam
from tests.support.world import TENANT, MemoryPacs, make_policy

EXAMS, GROWN, GONE = range(1, 8), (2, 5), (3, 6)


def pacs_of_child() -> MemoryPacs:
    """Everything as it was published, but what grew and what is gone."""
    pacs = MemoryPacs()
    for number in EXAMS:
        if number not in GONE:
            pacs.hold(lab_exam(number), instances=5 if number in GROWN else 3)
    return pacs


async def main(database: Path, index: str, seconds: float) -> None:
    """One whole run in batches of two."""
    rounds.BATCH = 2
    clock = Hands()
    clock.advance(seconds)
    store = await open_store(database, COMPONENTS)
    client = XdsClient(
        XdsEndpoint(
            registry_url=f"{index}/registry", repository_url=f"{index}/repository", repository_unique_id="1.2"
        )
    )
    vault = await Vault.load(store, bytes(range(32)), [TENANT], clock)
    pacs = pacs_of_child()
    lookout = Lookout(
        policy=make_policy(gate.Rules(test_identity="off"), 10.0),
        store=store,
        ledger=Ledger(vault),
        sources=[pacs],
        index=client,
        search=client,
        clock=clock,
    )
    found = await Reconciler(lookout, [Calendar(pacs)], Bounds(share_max=1.0)).run(None)
    print(found.state, found.changed)
    await client.aclose()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
