"""What commands ask of the operations: facts in, facts out; each method one command, nothing decided here."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from gateway.facts import OTHER_VERSION, Facts, Operation, Say, day, fact, operator, texts
from gateway.operations import Operations
from gateway.pacs.probe import report_facts
from indexer import trial
from indexer.reconciliation.rows import Window
from security.errors import BadInput


class Asked:
    """The operations as commands ask for them (``gateway.control``). ``reveal_users``: users of this machine who may
    read exchanges in clear by a command."""

    def __init__(self, operations: Operations, *, reveal_users: frozenset[str] = frozenset()) -> None:
        self._operations = operations
        self._reveal_users = reveal_users

    def by_name(self) -> Mapping[str, Operation]:
        """Each by the name under which it is asked for."""
        act = self._operations
        return {
            "export-xdm": self._export_xdm,
            "import-xdm": self._import_xdm,
            "backed-up": self._backed_up,
            "drilled": self._drilled,
            "reveal": self._reveal,
            "reconcile": self._reconcile,
            "pause": self._pause,
            "resume": self._resume,
            "retry": _about_exam(act.retry),
            "withdraw": _about_exam(act.withdraw),
            "republish": _about_exam(act.republish),
            "publish": _about_exam(act.publish),
            "take": self._take,
            "try-out": self._try_out,
            "take-back": self._take_back,
            "probe": self._probe,
        }

    # -- exams -------------------------------------------------------------------------------------------------

    async def _pause(self, facts: Facts, _say: Say) -> None:
        await self._operations.pause(fact(facts, "tenant"), actor=fact(facts, "actor"), reason=fact(facts, "reason"))

    async def _resume(self, facts: Facts, _say: Say) -> None:
        await self._operations.resume(fact(facts, "tenant"), actor=fact(facts, "actor"))

    async def _take(self, facts: Facts, _say: Say) -> list[str]:
        try:
            message = base64.b64decode(fact(facts, "message"), validate=True)
        except binascii.Error:
            raise BadInput("message is not Base64", code="bad-fact", hint=OTHER_VERSION) from None
        return list(await self._operations.take(fact(facts, "tenant"), message))

    async def _try_out(self, facts: Facts, say: Say) -> bool:
        steps = self._operations.try_out(
            fact(facts, "tenant"),
            actor=fact(facts, "actor"),
            send=facts.get("send") is True,
            keep=facts.get("keep") is True,
            limit_s=float(fact(facts, "limit_s")),
        )
        return await _said(steps, say)

    async def _take_back(self, facts: Facts, say: Say) -> bool:
        steps = self._operations.take_back(
            fact(facts, "tenant"),
            fact(facts, "study"),
            actor=fact(facts, "actor"),
            limit_s=float(fact(facts, "limit_s")),
        )
        return await _said(steps, say)

    async def _reveal(self, facts: Facts, _say: Say) -> list[Facts]:
        user = fact(facts, "user")
        found = await self._operations.reveal(
            fact(facts, "tenant"),
            fact(facts, "study"),
            actor=operator(user),
            numbers=None,
            has_right=user in self._reveal_users,
        )
        return [
            {
                "number": one.listed.number,
                "request": _base64(one.request),
                "answer": _base64(one.answer),
                "cut": one.cut,
                "withheld": one.withheld,
            }
            for one in found
        ]

    # -- PACS, index, copies -----------------------------------------------------------------------------------

    async def _probe(self, facts: Facts, _say: Say) -> Facts:
        return report_facts(await self._operations.probe(fact(facts, "tenant"), fact(facts, "pacs")))

    async def _reconcile(self, facts: Facts, say: Say) -> Facts:
        days = (facts.get("first"), facts.get("last"))
        window = Window(first=day(days[0]), last=day(days[1])) if any(days) else None
        up_to = facts.get("withdraw_up_to")
        found = await self._operations.reconcile(
            fact(facts, "tenant"),
            window,
            withdraw_up_to=up_to if isinstance(up_to, int) else None,
            progress=say,
        )
        return asdict(found) | {"changed": found.changed}

    async def _backed_up(self, facts: Facts, _say: Say) -> None:
        await self._operations.backed_up(
            last_audit_no=int(fact(facts, "last_audit_no")), digest=fact(facts, "digest")
        )

    async def _drilled(self, facts: Facts, _say: Say) -> list[Facts]:
        made = await self._operations.drilled(
            rto_s=float(fact(facts, "rto_s")), last_audit_no=int(fact(facts, "last_audit_no"))
        )
        return [{"tenant": one.tenant, "rto_s": one.rto_s, "rpo_s": one.rpo_s} for one in made]

    async def _export_xdm(self, facts: Facts, say: Say) -> Facts:
        since = facts.get("since")
        made = await self._operations.export_xdm(
            fact(facts, "tenant"),
            Path(fact(facts, "target")),
            since=day(since) if since else None,
            studies=texts(facts, "studies"),
            actor=fact(facts, "actor"),
            say=say,
        )
        return asdict(made)

    async def _import_xdm(self, facts: Facts, say: Say) -> Facts:
        done = await self._operations.import_xdm(
            fact(facts, "tenant"),
            [Path(one) for one in texts(facts, "files")],
            apply=facts.get("apply") is True,
            actor=fact(facts, "actor"),
            say=say,
        )
        return asdict(done)


def _about_exam(act: Callable[..., Awaitable[None]]) -> Operation:
    async def asked(facts: Facts, _say: Say) -> None:
        where = (fact(facts, "tenant"), fact(facts, "study"))
        await act(*where, actor=fact(facts, "actor"), reason=fact(facts, "reason"))

    return asked


async def _said(steps: AsyncIterator[trial.Step], say: Say) -> bool:
    """Say every step; whether all went well."""
    went_well = True
    async for step in steps:
        went_well = went_well and step.is_good
        say(asdict(step))
    return went_well


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
