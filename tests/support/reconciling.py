"""A reconciler on a world: the same parts, the PACS in memory also as a calendar."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from random import Random

import apsw

from gateway.components import COMPONENTS
from gateway.hl7.intake import Intake
from gateway.lab.ris import LabExam, LabOrder, LabPatient
from indexer.admission import Admission
from indexer.ledger import Ledger
from indexer.reconciliation import rows
from indexer.reconciliation.look import Lookout
from indexer.reconciliation.round import AfterRestore, Bounds, Reconciler
from indexer.study import CalendarAnswer, ListedStudy, Unknown
from security.outbox.engine import Engine, EngineSettings
from security.outbox.retry import RetrySettings
from security.seal import Vault
from security.store.opening import StorePlace, open_store
from tests.support.world import MemoryPacs, World, kinds_of


@dataclass
class Calendar:
    """The PACS in memory as one that lists days."""

    pacs: MemoryPacs
    is_silent: bool = False

    @property
    def name(self) -> str:
        return self.pacs.name

    async def studies_on(self, day: date) -> CalendarAnswer:
        if self.is_silent:
            return Unknown(reason="unreachable", detail="nobody answers")
        listed = [study for study in self.pacs.studies.values() if study.date == f"{day:%Y%m%d}"]
        return tuple(ListedStudy(uid=study.uid, time=study.time) for study in listed)


def lookout_of(w: World) -> Lookout:
    return Lookout(
        policy=w.policy,
        store=w.store,
        ledger=w.ledger,
        sources=[w.pacs],
        index=w.client,
        search=w.client,
        clock=w.clock,
    )


def reconciler_of(w: World, *, bounds: Bounds | None = None) -> Reconciler:
    made = Reconciler(lookout_of(w), [Calendar(w.pacs)], bounds or Bounds(share_max=1.0))
    kinds = kinds_of(w.policy, w.store, w.ledger, sources=[w.pacs], index=w.client, clock=w.clock)
    w.engine = Engine(
        w.store,
        {name: AfterRestore(kind, made) for name, kind in kinds.items()},
        clock=w.clock,
        rng=Random(7),
        settings=EngineSettings(retry=RetrySettings(base_s=0.5, cap_s=2.0)),
    )
    return made


def lab_exam(number: int) -> LabExam:
    """One exam of an invented patient of its own."""
    arcs = "1.2.250.1.213.4.5.9"
    return replace(
        LabExam(patient=LabPatient(rank=number % 999 + 1, ipp=f"IPP{number}", birthplace=f"63{number // 999 + 100}")),
        studies=(f"{arcs}.2.{number}",),
        orders=(LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
        document_id=f"{arcs}.1.{number}",
    )


def snapshot(database: Path, copy: Path) -> None:
    """A consistent copy of the database as it is now (SQLite online backup)."""
    source, target = apsw.Connection(str(database)), apsw.Connection(str(copy))
    with target.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(-1)
    target.close()
    source.close()


@asynccontextmanager
async def restored(w: World, copy: Path, folder: Path) -> AsyncIterator[World]:
    """The same world, its database replaced by the copy, as ``poterne restore`` leaves it."""
    await w.store.close()
    place = folder / "restored.db"
    shutil.copy(copy, place)
    place.chmod(0o600)
    store = await open_store(place, COMPONENTS)
    now = w.clock.now()
    await store.write(lambda tx: rows.mark_restored(tx, now=now))
    vault = await Vault.load(store, bytes(range(32)), [w.policy.tenant], w.clock)
    again = replace(w, store=store, vault=vault, ledger=Ledger(vault))
    again.intake = _intake(again)
    try:
        yield again
    finally:
        await store.close()


@asynccontextmanager
async def another_box(w: World, folder: Path, *, place: StorePlace | None = None) -> AsyncIterator[World]:
    """A box with a fresh database and a key of its own, under the same tenant, before the same index and PACS.
    ``place``: where its database is, None for a file in ``folder``."""
    folder.mkdir()
    store = await open_store(place or folder / "gateway.db", COMPONENTS)
    vault = await Vault.load(store, b"b" * 32, [w.policy.tenant], w.clock)
    other = replace(w, store=store, vault=vault, ledger=Ledger(vault))
    other.intake = _intake(other)
    try:
        yield other
    finally:
        await store.close()


def _intake(w: World) -> Intake:
    w.admission = Admission(tenant=w.policy.tenant, ledger=w.ledger, rules=w.policy.rules)
    return Intake(
        tenant=w.policy.tenant,
        store=w.store,
        vault=w.vault,
        admission=w.admission,
        ledger=w.ledger,
        timezone=w.policy.timezone,
        fallback_charset="cp1252",
        clock=w.clock,
        enqueued=lambda: None,
    )
