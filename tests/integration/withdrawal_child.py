"""A gateway's engine alone, on a database that somebody else filled: works until nothing is left, then ends.

``python -m tests.integration.withdrawal_child DATABASE REGISTRY_URL REPOSITORY_URL REPOSITORY``, to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from random import Random

from gateway.components import COMPONENTS
from indexer import gate
from indexer.ledger import Ledger
from indexer.standing import Patience
from indexer.withdrawal import Terms, Withdrawal
from indexer.xds.client import XdsClient, XdsEndpoint
from security.clock import SystemClock
from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.retry import RetrySettings
from security.seal import Vault
from security.store.opening import open_store
from tests.support.world import TENANT, make_policy


async def work(database: Path, registry: str, repository: str, repository_unique_id: str) -> None:
    clock = SystemClock()
    store = await open_store(database, COMPONENTS)
    ledger = Ledger(await Vault.load(store, bytes(range(32)), [TENANT], clock))
    client = XdsClient(
        XdsEndpoint(registry_url=registry, repository_url=repository, repository_unique_id=repository_unique_id)
    )
    kind = Withdrawal(
        terms=Terms(
            tenant=TENANT,
            mode="live",
            publisher=make_policy(gate.Rules(), 1.0).publisher,
            patience=Patience(visibility=timedelta(seconds=0.2), retry_base_s=0.1, retry_cap_s=0.1),
        ),
        store=store,
        ledger=ledger,
        index=client,
        clock=clock,
    )
    retry = RetrySettings(base_s=0.1, cap_s=0.2)
    engine = Engine(
        store, {kind.name: kind}, clock=clock, rng=Random(1), settings=EngineSettings(idle_s=0.05, retry=retry)
    )
    try:
        while await store.read(jobs.open_jobs):
            if not await engine.step():
                await asyncio.sleep(0.05)
    finally:
        await client.aclose()
        await store.close()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), *sys.argv[2:]))
