"""Whether a job goes on or its exam waits for its images: ``completeness``, asked with what store and PACS say.

Invariants:

* the wait is rows (``sightings``) and the job's own due time, both of them in the store: no timer runs;
* what the index shows is compared instance by instance: only an exam that grew, and changed in nothing else, is
  late; a removed image and whatever a report or the patient changed go out at once;
* which evidence decided stands on the timeline in the transaction that keeps the version, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from indexer import completeness, sightings
from indexer.completeness import Availability, By, Complete, Evidence, Incomplete, PerformedStep, Said, Stage
from indexer.decision import Facts, decide
from indexer.imaging.availability import RETRIEVABLE, notices
from indexer.imaging.rejections import rejected
from indexer.imaging.steps import performed_steps
from indexer.ledger import Ledger, Published
from indexer.manifest import Context, StudyManifest, instances_of, only_adds_images
from security.identity import Uid
from security.outbox.port import Answer, Job
from security.outbox.states import Event
from security.store.port import ReadTx, Store, Tx

_AT_LEAST = timedelta(seconds=1)  # between two looks, however short the policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Nothing is waited for. ``tells``: ends the wait and says what decided, with the version; ``ends``: ends it,
    when no version comes of it."""

    tells: Callable[[Tx], None]
    ends: Callable[[Tx], None]


async def images(
    job: Job,
    manifest: StudyManifest,
    context: Context,
    facts: Facts,
    *,
    published: Published | None,
    policy: completeness.Policy,
    store: Store,
    ledger: Ledger,
    now: datetime,
) -> Answer | Ready:
    """``Ready``, or the answer that lets the job wait. ``manifest``, ``context``: what would go out now;
    ``published``: the newest version that the index showed."""
    seen, said, shown = await store.read(
        lambda tx: (
            sightings.of(tx, job.tenant, job.lane),
            _said(tx, job.tenant, manifest.study),
            ledger.manifest_at(tx, job.tenant, job.lane, published.version) if published else None,
        )
    )
    stage = Stage.FIRST
    if shown is not None:
        stage = Stage.LATE if only_adds_images(manifest, context, shown) else Stage.NEITHER
    evidence = seen.evidence(instances_of(manifest), stage, said, now)
    found = completeness.decide(evidence, policy, now)
    if isinstance(found, Incomplete):
        return Answer(
            event=Event.NOT_YET,
            reason=decide(replace(facts, incomplete=found.reason)).reason,
            detail=f"{found.words}; {len(evidence.held)} instances are there",
            not_before=max(found.next_look, now + _AT_LEAST),
            effects=partial(_wait, ledger=ledger, job=job, evidence=evidence, now=now),
        )
    return Ready(
        tells=partial(_tell, ledger=ledger, job=job, found=found, evidence=evidence, now=now),
        ends=partial(sightings.decided, tenant=job.tenant, study=job.lane),
    )


def _said(tx: ReadTx, tenant: str, study: Uid) -> Said:
    """What modalities (MPPS) and archives (IAN) said. What a step performed for several exams is no count of one; of
    an instance that several notices speak of, the last one counts; what was rejected is not waited for."""
    steps = tuple(
        PerformedStep(
            status=one.status.value,
            at=one.ended_at or one.begun_at,
            instances=one.performed.instances if one.studies == 1 else 0,
        )
        for one in performed_steps(tx, tenant, study)
    )
    said = notices(tx, tenant, study)
    gone = rejected(tx, tenant, study)
    last = {uid: number for number, one in enumerate(said) for uid in one.notice.instances}
    return Said(
        steps=steps,
        notices=tuple(
            Availability(
                at=one.received_at,
                instances=frozenset(
                    uid
                    for uid, how in one.notice.instances.items()
                    if how in RETRIEVABLE and last[uid] == number and uid not in gone
                ),
            )
            for number, one in enumerate(said)
        ),
    )


def _wait(tx: Tx, *, ledger: Ledger, job: Job, evidence: Evidence, now: datetime) -> None:
    """What was seen is kept, and told when it is another set than before."""
    if sightings.saw(tx, job.tenant, job.lane, evidence, now=now):
        told = f"{len(evidence.held)} instances"
        ledger.note(tx, job.tenant, job.lane, kind="images-seen", summary=told, now=now)


def _tell(tx: Tx, *, ledger: Ledger, job: Job, found: Complete, evidence: Evidence, now: datetime) -> None:
    """The wait is over; when the images decided nothing, nothing is said of them."""
    sightings.decided(tx, job.tenant, job.lane)
    if found.by is not By.CHANGE:
        told = f"by {found.by}: {found.words}; {len(evidence.held)} instances"
        ledger.note(tx, job.tenant, job.lane, kind="images-complete", summary=told, now=now)
