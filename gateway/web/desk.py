"""The port between pages and the house: what a person may ask, and what they may have done.

The pages know this and nothing of stores, ledgers or queues. ``study``: StudyInstanceUID. ``actor``: role and name
(``operator:…``) of the account, as the audit record says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal, Protocol

from indexer import exams, release, timeline
from indexer.exchanges.reveal import Masked
from indexer.exchanges.rows import Listed, Opened
from security.outbox.jobs import Pause


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantFacts:
    """One tenant as pages name it. ``zone``: the zone its times are shown in; ``paused``: nothing of it is sent."""

    title: str
    zone: tzinfo
    mode: Literal["live", "shadow"]
    paused: Pause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """Something that asks for a person. ``subject``: reason, PACS or setting; ``text``: no patient value."""

    kind: str
    subject: str
    tenant: str
    opened_at: datetime
    text: str


class Desk(Protocol):
    """What the console asks of the house.

    A question about an exam nobody knows answers None. ``tenant``: "" for all of them where a list is asked.
    """

    async def tenants(self) -> Mapping[str, TenantFacts]: ...

    async def counts(self, tenant: str) -> exams.Counts: ...

    async def page(self, wanted: exams.Wanted) -> exams.Page: ...

    async def exam(self, tenant: str, study: str) -> timeline.Exam | None: ...

    async def exchanges(self, tenant: str, study: str) -> Sequence[Listed]:
        """What was said between us and the index about an exam, without the bytes."""
        ...

    async def exchange(self, tenant: str, study: str, number: int) -> Masked | None:
        """One exchange, masked; None when it is not kept."""
        ...

    async def reveal(
        self, tenant: str, study: str, *, actor: str, numbers: Sequence[int] | None, has_right: bool
    ) -> Sequence[Opened]:
        """Exchanges in clear. The audit record of this access is durable before this returns.

        Raises:
            Refused: ``reveal-not-allowed``, which is on record too.
        """
        ...

    async def held(self, tenant: str, study: str, *, actor: str, by_glass: bool = False) -> release.HeldExam | None:
        """Both identities of a held exam. The audit record of this access is durable before this returns.

        ``by_glass``: it is an emergency, recorded under an event of its own.
        """
        ...

    async def release(self, tenant: str, study: str, *, actor: str, reason: str, seen: str) -> None:
        """Accept the conflicts shown.

        Raises:
            Refused: ``changed-meanwhile``, ``not-releasable``.
            BadInput: the reason is too short, too long or quotes a value of the patient.
        """
        ...

    async def retry(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Try a waiting, held or failed exam again now.

        Raises:
            Refused: it is not for a retry to decide.
            BadInput: the reason is too short, too long or quotes a value of the patient.
        """
        ...

    async def withdraw(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Take an exam out of the index, until a person lets it back.

        Raises:
            Refused: ``unknown-exam``, ``already-out``.
            BadInput: the reason is too short, too long or quotes a value of the patient.
        """
        ...

    async def republish(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Let an exam back into the index.

        Raises:
            Refused: ``unknown-exam``.
            BadInput: the reason is too short, too long or quotes a value of the patient.
        """
        ...

    async def publish(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Publish an exam with the images that are there.

        Raises:
            Refused: ``unknown-exam``, ``not-waiting-for-images``.
            BadInput: the reason is too short, too long or quotes a value of the patient.
        """
        ...

    async def pause(self, tenant: str, *, actor: str, reason: str) -> None: ...

    async def resume(self, tenant: str, *, actor: str) -> None: ...

    async def alerts(self, lang: str) -> Sequence[OpenAlert]:
        """What asks for a person now, said in ``lang``."""
        ...
