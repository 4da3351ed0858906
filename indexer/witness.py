"""Whether a PACS that says it lacks an exam still finds what it holds: only then does its absence count (FF-54,
design §4).

Invariants:

* a PACS that found its control study in the same exchange has proved itself (``Absent.is_proven``); any other one is
  asked for its witness, right after it said that it lacks the exam;
* the witness comes from our own rows: of the other exams that the index shows, the one that this PACS held most
  recently. One, and the youngest: a PACS restored from a copy finds the old ones, and only lacks what came since;
* what it answered about the witness later makes no other exam the witness: two exams that a restored PACS lost never
  prove each other's end. Only an exam whose end was announced is none, for it may rightly be gone;
* a witness that is missing, or that nobody can ask for, leaves no answer at all: that is ``Unknown``.

What follows is ``decision``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from indexer.ports import StudySource
from indexer.questions import Asked
from indexer.study import Absent, Found, StudyAnswer, Unknown
from security.identity import Uid
from security.store.port import ReadTx, Store


async def proved(
    asked: Sequence[Asked], sources: Sequence[StudySource], *, store: Store, tenant: str, study: Uid
) -> list[tuple[str, StudyAnswer]]:
    """The answers, each absence with its proof where one can be had. ``sources``: who gave them."""
    named = {source.name: source for source in sources}

    async def one(answered: Asked) -> tuple[str, StudyAnswer]:
        pacs, answer = answered.pacs, answered.answer
        if not isinstance(answer, Absent) or answer.is_proven:
            return pacs, answer
        witness = await store.read(lambda tx: of(tx, tenant, study, pacs))
        if witness is None:
            return pacs, answer
        match await named[pacs].find(witness):
            case Found():
                evidence = f"{answer.evidence}; the exam it held most recently: found"
                return pacs, replace(answer, evidence=evidence, is_proven=True)
            case Absent():
                return pacs, Unknown(
                    reason="witness-missing", detail="it lacks the exam of the index that it held most recently too"
                )
            case Unknown() as unknown:
                return pacs, unknown

    return list(await asyncio.gather(*map(one, asked)))


def of(tx: ReadTx, tenant: str, study: str, pacs: str) -> Uid | None:
    """The exam that proves what this PACS says about ``study``, None when there is none."""
    row = tx.row(
        "SELECT a.study_uid FROM pacs_answer a WHERE a.tenant = :tenant AND a.pacs = :pacs AND a.kind = 'found'"
        " AND a.study_uid <> :study AND EXISTS (SELECT 1 FROM entry e WHERE e.tenant = a.tenant"
        " AND e.study_uid = a.study_uid AND e.status = 'Approved' AND e.version = (SELECT MAX(n.version) FROM entry n"
        " WHERE n.tenant = e.tenant AND n.study_uid = e.study_uid))"
        " AND NOT EXISTS (SELECT 1 FROM presence p WHERE p.tenant = a.tenant AND p.study_uid = a.study_uid"
        " AND p.announced_at IS NOT NULL) ORDER BY a.last_at DESC, a.answer_id DESC LIMIT 1",
        tenant=tenant,
        pacs=pacs,
        study=study,
    )
    return None if row is None else Uid(row["study_uid"])
