"""An exam's life as a state machine: random histories through the real decision, store and index node.

The laws: never two approved entries of one study; an exam that left the index comes back only after a new reason;
once everybody answers again, the index shows what the valid reports and the PACS say, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, LabPatient, build_adt_consent, build_adt_identity, build_mdm
from indexer import exclusion
from indexer.study import Unknown
from security.errors import Refused
from tests.integration.test_lifecycle import EXAM, STUDY, cancelled, look, said
from tests.support.world import TENANT, World, world

ELSE = LabPatient(ipp=EXAM.patient.ipp, birth_name="REVENANT", first_given_name="PAUL", sex="M", rank=43)
TWIN = replace(EXAM.patient, ipp="IPP-TWIN")
FAULTS = [Fault.DROP_BEFORE, Fault.COMMIT_THEN_RESET, Fault.BUSY, Fault.HTML_MAINTENANCE]


@dataclass
class Stated:
    """A report that the model sent. ``status``: valid, replaced or withdrawn."""

    exam: LabExam
    masks: bool
    status: str = "valid"


class Life(RuleBasedStateMachine):
    """One study, everybody who may say something about it, and an engine that is run now and then."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory(prefix="life-")
        self.w: World = self.run(self.stack.enter_async_context(world(Path(self.folder.name))))
        self.reports: list[Stated] = []
        self.opposed = self.kept_out = self.is_else = False
        self.instances = 0  # 0: the PACS does not have the study
        self.number = 0
        self.has_reason = True

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "w"):
            self.converge()
            self.run(self.stack.aclose())
            self.runner.close()
            self.folder.cleanup()

    def send(self, message: bytes) -> str:
        self.w.clock.advance(5)
        return str(self.run(self.w.raw(message)))

    def next_id(self) -> str:
        self.number += 1
        return f"N{self.number}"

    @property
    def valid(self) -> list[Stated]:
        return [one for one in self.reports if one.status == "valid"]

    # -- what arrives ----------------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_else)
    @rule(masks=st.booleans(), replaces=st.booleans())
    def report(self, masks: bool, replaces: bool) -> None:
        id_ = self.next_id()
        old = self.valid[-1] if replaces and self.valid else None
        exam = replace(
            EXAM,
            document_id=f"{EXAM.document_id}.{self.number}",
            replaces=old.exam.document_id if old else "",
            flags={**EXAM.flags, "MASQUE_PS": "Y" if masks else "N"},
        )
        self.w.clock.advance(5)
        self.run(self.w.report(exam, control_id=id_, order_control="RO" if old else "NW"))
        if old:
            old.status = "replaced"
        self.reports.append(Stated(exam=exam, masks=masks or (old is not None and old.masks)))
        self.has_reason = True

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """A sender repeats itself: no new reason."""
        one = data.draw(st.sampled_from(self.reports))
        self.run(
            self.w.report(one.exam, control_id=self.next_id(), order_control="RO" if one.exam.replaces else "NW")
        )

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def withdraw_report(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.reports))
        message = build_mdm(one.exam, control_id=self.next_id(), event="T04", order_control="CA", result_status="D")
        ack = self.send(message)
        assert ("MSA|AA|" in ack) is (one.status != "replaced")
        if one.status == "valid":
            one.status = "withdrawn"

    @rule(word=st.sampled_from(["IO", "INO"]))
    def oppose(self, word: str) -> None:
        at = said(self.w)
        self.send(build_adt_consent(opposition=word, at=at, sent_at=said(self.w), control_id=self.next_id()))
        self.has_reason = self.has_reason or (self.opposed and word == "INO")
        self.opposed = word == "IO"

    @rule()
    def cancel(self) -> None:
        self.send(cancelled().replace(b"O-CA", self.next_id().encode()))

    @rule(what=st.sampled_from(["A40", "A37"]))
    def merge(self, what: str) -> None:
        sent_at = said(self.w)
        self.send(
            build_adt_identity(EXAM.patient, event=what, prior=TWIN, sent_at=sent_at, control_id=self.next_id())
        )

    @rule(is_else=st.booleans())
    def correct(self, is_else: bool) -> None:
        patient = ELSE if is_else else EXAM.patient
        sent_at = said(self.w)
        self.send(build_adt_identity(patient, event="A31", sent_at=sent_at, control_id=self.next_id()))
        self.has_reason = self.has_reason or (self.is_else and not is_else)
        self.is_else = is_else

    @rule(takes_out=st.booleans())
    def person(self, takes_out: bool) -> None:
        act = exclusion.withdraw if takes_out else exclusion.republish
        now = self.w.clock.now()
        try:
            self.run(
                self.w.store.write(
                    lambda tx: act(
                        tx, self.w.admission, STUDY, actor="operator:ana", reason="as agreed at the desk", now=now
                    )
                )
            )
        except Refused:  # nobody spoke of the exam yet, or it is out already
            assert not self.reports or (takes_out and self.kept_out)
            return
        assert self.reports
        self.kept_out = takes_out
        self.has_reason = self.has_reason or not takes_out

    @rule(instances=st.integers(min_value=0, max_value=3))
    def images(self, instances: int) -> None:
        if instances:
            self.w.pacs.hold(EXAM, instances=instances)
            self.has_reason = True
        else:
            self.w.pacs.studies.pop(STUDY, None)
        self.instances = instances

    # -- who does not answer -----------------------------------------------------------------------------------

    @rule(is_away=st.booleans())
    def pacs_away(self, is_away: bool) -> None:
        self.w.pacs.answer = Unknown(reason="unreachable", detail="no route") if is_away else None

    @rule(fault=st.sampled_from(FAULTS), on=st.sampled_from(["ITI-41", "ITI-57"]))
    def index_stumbles(self, fault: Fault, on: str) -> None:
        self.w.index.switches.set(Switch(name=fault, on=(on,), times=1))

    # -- time --------------------------------------------------------------------------------------------------

    @rule(steps=st.integers(min_value=1, max_value=6))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.run(self.w.engine.step())
            self.w.clock.advance(2)

    @rule()
    def converge(self) -> None:
        """Everybody answers, the PACS is looked at until a lasting absence would count: the index must be true."""
        self.w.pacs.answer = None
        self.w.index.switches.set()
        self.run(self.w.settle(rounds=80))
        for _ in range(2):
            if self.reports and not self.kept_out:
                self.run(look(self.w))
            self.run(self.w.settle(rounds=80))
            self.w.clock.advance(3700)
        if self.reports and not self.kept_out:
            self.run(look(self.w))
        self.run(self.w.settle(rounds=80))
        shown = self.approved()
        may = bool(self.valid) and not (self.opposed or self.kept_out or self.is_else) and self.instances > 0
        assert len(shown) == int(may)
        assert not shown or self.has_reason or self.was_shown
        if shown:
            self.compare(shown[0])
        else:
            self.has_reason = False
        self.was_shown = bool(shown)

    was_shown = False

    def compare(self, unique_id: str) -> None:
        """The entry says how many images the PACS holds, and hides what a valid report hides."""
        rows = self.run(
            self.w.store.read(
                lambda tx: tx.rows("SELECT version, instances FROM manifest WHERE unique_id = :u", u=unique_id)
            )
        )
        assert rows[0]["instances"] == self.instances
        sent = self.run(
            self.w.store.read(lambda tx: self.w.ledger.submission_at(tx, TENANT, STUDY, rows[0]["version"]))
        )
        assert (b"MASQUE_PS" in sent.metadata) is any(one.masks for one in self.valid)

    def approved(self) -> list[str]:
        return [unique_id for unique_id, status in self.run(self.w.entries(EXAM)) if status == "Approved"]

    @invariant()
    def never_two(self) -> None:
        if hasattr(self, "w"):
            shown = self.approved()
            assert len(shown) <= 1
            assert not shown or self.was_shown or self.has_reason


HISTORIES = int(os.environ.get("POTERNE_HISTORIES", "2000"))
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


class TestLife(Life.TestCase):  # type: ignore[name-defined,misc]
    """A few histories in the default run."""

    settings = settings(max_examples=6, stateful_step_count=14, deadline=None, suppress_health_check=CHECKS)


@pytest.mark.full
class TestLongLife(Life.TestCase):  # type: ignore[name-defined,misc]
    """Thousands of them."""

    settings = settings(max_examples=HISTORIES, stateful_step_count=40, deadline=None, suppress_health_check=CHECKS)
