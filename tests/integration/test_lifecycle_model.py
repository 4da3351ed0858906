"""An exam's life as a state machine: random histories through the real decision, store and index node.

The laws: never two approved entries of one study; an exam that left the index comes back only after a new reason; a
PACS that gives no clean answer takes nothing out; another patient's exam is never touched; once everybody answers
again, the index shows what the valid reports and the PACS say, and nothing else, and reconciliation changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, LabOrder, LabPatient, build_adt_consent, build_adt_identity, build_mdm
from indexer import exclusion
from indexer.admission import Carrier
from indexer.decision import Arrival
from indexer.imaging import availability
from indexer.imaging.availability import Availability, Notice
from indexer.imaging.rejections import HIDING, Rejections
from indexer.imaging.steps import NewStep, Performed, StepChange, Steps, StepStatus
from indexer.kos.rejection import TITLES, RejectedStudy, RejectionNote
from indexer.study import Unknown
from security.errors import Refused
from security.identity import Uid
from security.store.port import Tx
from tests.integration.test_lifecycle import EXAM, STUDY, cancelled, look, said
from tests.support.lives import Lives, rest
from tests.support.reconciling import reconciler_of
from tests.support.world import TENANT, World

ME = EXAM.patient
ELSE = LabPatient(ipp=ME.ipp, birth_name="REVENANT", first_given_name="PAUL", sex="M", rank=43)
OTHER = replace(ELSE, ipp="IPP9002")
TWIN = replace(ME, ipp="IPP-TWIN")
NEIGHBOUR = LabExam(
    patient=LabPatient(ipp="IPP9003", birth_name="VOISIN-TEST", first_given_name="ANSELME", sex="M", rank=44),
    studies=(f"{STUDY}3",),
    orders=(LabOrder(accession_number="ACN9003", placer_number="OPN9003"),),
    document_id=f"{EXAM.document_id}3",
)
FIRST = replace(EXAM, document_id=f"{EXAM.document_id}.0")
FAULTS = [Fault.DROP_BEFORE, Fault.COMMIT_THEN_RESET, Fault.BUSY, Fault.HTML_MAINTENANCE]
FLAGS = {
    "MASQUE_PS": "MASQUE_PS",
    "INVISIBLE_PATIENT": "INVISIBLE_PATIENT",
    "INVISIBLE_REP_LEGAUX": "INVISIBLE_REPRESENTANTS_LEGAUX",
}
"""OBX-3.1 and the confidentialityCode it becomes (drim-m §2, §5)."""
BY_PACS = ("held nothing", "holds nothing", "was rejected", "twice without it")
"""Words of withdrawals that a clean answer of the PACS must stand behind."""
SEEN: Counter[str] = Counter()
"""What this process ran: histories, steps, and every event by its name."""


@dataclass
class Stated:
    """A report that the model sent. ``changes``: it says that it changes whom the exam is hidden from
    (MODIF_CONF_CODE). ``status``: valid, replaced or withdrawn; ``pending``: it came while the register said that it is
    another person's, so what it replaces stands until the register thinks better of it."""

    exam: LabExam
    hides: frozenset[str]
    for_index: bool = True
    changes: bool = False
    status: str = "valid"
    pending: bool = False


@dataclass
class Register:
    """What the register of patients says of the exam's number. ``root``: whom it leads to; ``word``: whose it is."""

    root: str = "me"
    word: str = "me"

    @property
    def is_else(self) -> bool:
        return self.root == "else" or (self.root == "me" and self.word == "else")


class Life(RuleBasedStateMachine):
    """One study, everybody who may say something about it, and an engine that is run now and then."""

    lives: ClassVar[Lives]
    runner: ClassVar[asyncio.Runner]

    @classmethod
    def open_world(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory(prefix="life-")
        cls.runner = asyncio.Runner()
        cls.lives = cls.runner.run(Lives.open(Path(cls.folder.name)))
        cls.neighbour = cls.runner.run(cls.publish(NEIGHBOUR))
        cls.lives.keep("beside a neighbour")
        cls.runner.run(cls.publish(FIRST))
        cls.lives.keep("shown")

    @classmethod
    async def publish(cls, exam: LabExam) -> Any:
        """An exam of which nobody ever says anything else; its uniqueId."""
        w = cls.lives.world()
        w.pacs.hold(exam)
        assert "MSA|AA|" in await w.report(exam, control_id=exam.document_id)
        await rest(w)
        (entry,) = await cls.lives.entries(exam.patient)
        assert entry["status"] == "Approved"
        return entry["unique_id"]

    @classmethod
    def close_world(cls) -> None:
        cls.runner.run(cls.lives.close())
        cls.runner.close()
        cls.folder.cleanup()

    @initialize(begins=st.sampled_from(["shown", "beside a neighbour"]), updates=st.booleans(), control=st.booleans())
    def open(self, begins: str, updates: bool, control: bool) -> None:
        """``updates``: the index takes new metadata (ITI-57); ``control``: the PACS proves itself, else the neighbour
        is its witness."""
        SEEN["histories"] += 1
        self.w: World = self.lives.begin(begins, updates_metadata=updates)
        self.w.pacs.is_proven = self.has_control = control
        self.reports: list[Stated] = []
        self.register = Register()
        self.opposed = self.kept_out = self.is_lost = False
        self.held: frozenset[int] = frozenset()  # instance numbers that the PACS has
        self.rejected: frozenset[int] = frozenset()
        self.number = 0
        self.awaited = ""  # the report that a correction overtook
        self.has_reason = True
        self.was_shown = False
        self.asked = -1
        self.shown: list[dict[str, Any]] = []
        if begins == "shown":
            self.reports.append(Stated(exam=FIRST, hides=frozenset({"INVISIBLE_PATIENT"})))
            self.held = frozenset({1, 2, 3})
            self.was_shown = True
        self.store_images()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "w"):
            self.converge()

    def send(self, message: bytes) -> str:
        self.w.clock.advance(5)
        return str(self.run(self.w.raw(message)))

    def next_id(self) -> str:
        self.number += 1
        return f"N{self.number}"

    def next_uid(self) -> Uid:
        return Uid(f"1.2.250.1.213.4.5.9.8.{self.next_id()[1:]}")

    def write(self, work: Any) -> Any:
        """A transaction of a door. ``work``: of the transaction and its carrier."""
        self.w.clock.advance(5)
        by = Carrier(control_id=self.next_id(), zone="test", at=self.w.clock.now())
        return self.run(self.w.store.write(lambda tx: work(tx, by)))

    @property
    def valid(self) -> list[Stated]:
        return [one for one in self.reports if one.status == "valid"]

    @property
    def is_for_index(self) -> bool:
        return all(one.for_index for one in self.valid)

    # -- reports ---------------------------------------------------------------------------------------------

    @rule(
        hides=st.frozensets(st.sampled_from(sorted(FLAGS)), max_size=2),
        for_index=st.sampled_from([True] * 7 + [False]),
        replaces=st.booleans(),
        changes=st.booleans(),
    )
    def report(self, hides: frozenset[str], for_index: bool, replaces: bool, changes: bool) -> None:
        candidates = [one for one in self.valid if not one.pending]
        old = candidates[-1] if replaces and candidates else None
        made = self.state(hides, for_index=for_index, changes=changes, replaces=old.exam.document_id if old else "")
        made.hides |= old.hides if old and not changes else frozenset()
        if old and self.register.is_else:
            made.pending = True
        elif old:
            old.status = "replaced"
        self.has_reason = True

    def state(
        self,
        hides: frozenset[str],
        *,
        for_index: bool = True,
        changes: bool = False,
        replaces: str = "",
        document_id: str = "",
    ) -> Stated:
        """Send a report."""
        id_ = self.next_id()
        flags = {flag: "Y" if flag in hides else "N" for flag in FLAGS}
        exam = replace(
            EXAM,
            document_id=document_id or f"{EXAM.document_id}.{self.number}",
            replaces=replaces,
            flags={
                **EXAM.flags,
                **flags,
                "DESTDMP": "Y" if for_index else "N",
                "MODIF_CONF_CODE": "Y" if changes else "N",
            },
        )
        self.w.clock.advance(5)
        self.run(self.w.report(exam, control_id=id_, order_control="RO" if replaces else "NW"))
        made = Stated(exam=exam, hides=hides, for_index=for_index, changes=changes)
        self.reports.append(made)
        return made

    @precondition(lambda self: not self.register.is_else and not self.awaited)
    @rule(hides=st.frozensets(st.sampled_from(sorted(FLAGS)), max_size=1), changes=st.booleans())
    def overtake(self, hides: frozenset[str], changes: bool) -> None:
        """A correction comes before what it corrects."""
        self.awaited = f"{EXAM.document_id}.0.{self.number + 1}"
        self.state(hides, changes=changes, replaces=self.awaited)
        self.has_reason = True

    @precondition(lambda self: self.awaited and not (self.register.is_else or self.opposed))
    @rule(hides=st.frozensets(st.sampled_from(sorted(FLAGS)), max_size=2))
    def late_original(self, hides: frozenset[str]) -> None:
        """It counts for nothing any more, but what it hides stays hidden: no new reason."""
        made = self.state(hides, document_id=self.awaited)
        made.status, self.awaited = "replaced", ""
        self.tighten(made)

    def tighten(self, older: Stated) -> None:
        for one in self.reports:
            if one.exam.replaces == older.exam.document_id and not one.changes:
                one.hides |= older.hides
                self.tighten(one)

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """A sender repeats itself: no new reason."""
        one = data.draw(st.sampled_from(self.reports))
        self.w.clock.advance(5)
        self.run(
            self.w.report(one.exam, control_id=self.next_id(), order_control="RO" if one.exam.replaces else "NW")
        )

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def withdraw_report(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.reports))
        was_for_index = self.is_for_index
        message = build_mdm(one.exam, control_id=self.next_id(), event="T04", order_control="CA", result_status="D")
        ack = self.send(message)
        assert ("MSA|AA|" in ack) is (one.status != "replaced"), (one, ack)
        if one.status == "valid":
            one.status = "withdrawn"
        self.has_reason = self.has_reason or (self.is_for_index and not was_for_index)

    # -- the patient -----------------------------------------------------------------------------------------

    @rule(word=st.sampled_from(["IO", "INO"]))
    def oppose(self, word: str) -> None:
        self.w.clock.advance(5)
        at = said(self.w)
        was_else = self.register.is_else
        self.send(build_adt_consent(opposition=word, at=at, sent_at=at, control_id=self.next_id()))
        self.register.word = "me"  # it is an A31 as well
        self.has_reason = self.has_reason or (self.opposed and word == "INO")
        self.opposed = word == "IO"
        self.heard(was_else=was_else)

    def identity(self, patient: LabPatient, event: str, prior: LabPatient | None = None) -> None:
        self.w.clock.advance(5)
        sent_at = said(self.w)
        was_else = self.register.is_else
        self.send(build_adt_identity(patient, event=event, prior=prior, sent_at=sent_at, control_id=self.next_id()))
        match event, patient.ipp, prior.ipp if prior else "":
            case ("A31", _, _):
                self.register.word = "else" if patient == ELSE else "me"
            case ("A40", ME.ipp, _):
                self.register = Register()
            case ("A40", OTHER.ipp, _):
                self.register.root = "else"
            case ("A40", TWIN.ipp, _):
                self.register.root = "twin"
            case ("A37", OTHER.ipp, _):
                self.register.root = "me" if self.register.root == "else" else self.register.root
            case ("A37", ME.ipp, _):  # an undo says nothing of names
                self.register.root = "me" if self.register.root == "twin" else self.register.root
        self.heard(was_else=was_else)

    def heard(self, *, was_else: bool) -> None:
        """The register says that the exam is the patient's own again: what came meanwhile counts now."""
        if was_else and not self.register.is_else:
            self.has_reason = True
            for one in self.reports:
                if one.pending:
                    self.replaced_by(one)
                one.pending = False

    def replaced_by(self, newer: Stated) -> None:
        for one in self.valid:
            if one.exam.document_id == newer.exam.replaces:
                one.status = "replaced"

    @rule(is_else=st.booleans())
    def correct(self, is_else: bool) -> None:
        self.identity(ELSE if is_else else ME, "A31")

    @rule(what=st.sampled_from(["A40", "A37"]))
    def merge_into_another(self, what: str) -> None:
        """Somebody merges the exam's patient into another person, or takes them apart again."""
        self.identity(OTHER, what, ME)

    @rule(what=st.sampled_from(["A40", "A37", "A40 back"]))
    def merge_of_one_person(self, what: str) -> None:
        """Two numbers of one person: the exam stays, under the surviving one."""
        if what == "A40":
            self.identity(TWIN, what, ME)
        else:
            self.identity(ME, what[:3], TWIN)

    # -- people ----------------------------------------------------------------------------------------------

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

    # -- the imaging side ------------------------------------------------------------------------------------

    def store_images(self) -> None:
        """The PACS holds what it should; one that was emptied holds nothing."""
        pacs = self.w.pacs
        pacs.studies.clear()
        if not self.is_lost:
            pacs.hold(NEIGHBOUR)
            if self.held:
                study = pacs.hold(EXAM, instances=4)
                (series,) = study.series
                kept = tuple(one for one in series.instances if one.number in self.held)
                pacs.studies[study.uid] = replace(study, series=(replace(series, instances=kept),))

    def announce(self, arrived: Arrival) -> None:
        self.write(lambda tx, by: self.w.admission.announce(tx, STUDY, arrived, by))

    @rule(
        held=st.frozensets(st.integers(min_value=1, max_value=4), max_size=4),
        told=st.sampled_from([None, None, Arrival.IMAGES_ARRIVED]),
    )
    def images(self, held: frozenset[int], told: Arrival | None) -> None:
        """Images come late, or go, announced or not."""
        self.has_reason = self.has_reason or not held <= self.held
        self.held = held
        self.store_images()
        if told is not None:
            self.announce(told)

    @rule(
        title=st.sampled_from(sorted(TITLES)),
        numbers=st.frozensets(st.integers(min_value=1, max_value=4), min_size=1, max_size=4),
        is_gone=st.booleans(),
    )
    def reject(self, title: str, numbers: frozenset[int], is_gone: bool) -> None:
        """A rejection note (IOCM). ``is_gone``: the PACS no longer answers with what it rejects."""
        note = RejectionNote(
            unique_id=self.next_uid(),
            title=title,
            patient=self.patient_of_images(),
            studies=(
                RejectedStudy(
                    study=Uid(STUDY), instances=tuple(Uid(f"{STUDY}.1.{number}") for number in sorted(numbers))
                ),
            ),
        )
        if is_gone:
            self.held -= numbers
            self.store_images()
        rejections = Rejections(tenant=TENANT, ledger=self.w.ledger, rules=self.w.policy.rules)

        def obey(tx: Tx, by: Carrier) -> None:
            outcome = rejections.take(tx, note, peer="MODALITY", zone=by.zone, now=by.at)
            for study in outcome.studies:
                self.w.admission.announce(tx, study, Arrival.IMAGES_REJECTED, by)

        self.write(obey)
        if title in HIDING:
            self.rejected |= numbers

    def patient_of_images(self) -> Any:
        return type(self.w.pacs)().hold(EXAM).patient

    @rule(said_=st.sampled_from(sorted(Availability)))
    def notice(self, said_: Availability) -> None:
        """An Instance Availability Notification."""
        made = Notice(
            uid=self.next_uid(),
            study=Uid(STUDY),
            instances={Uid(f"{STUDY}.1.{number}"): said_ for number in self.held or {1}},
        )

        def keep(tx: Tx, by: Carrier) -> None:
            availability.record(tx, self.w.ledger, TENANT, made, peer="PACS", zone=by.zone, now=by.at)
            if made.arrival is not None:
                self.w.admission.announce(tx, made.study, made.arrival, by)

        self.write(keep)

    @rule(status=st.sampled_from([StepStatus.COMPLETED, StepStatus.DISCONTINUED]))
    def step(self, status: StepStatus) -> None:
        """A performed procedure step (MPPS), begun and ended."""
        steps = Steps(tenant=TENANT, ledger=self.w.ledger, rules=self.w.policy.rules)
        performed = Performed(series=1, instances=len(self.held))
        made = NewStep(
            uid=self.next_uid(), studies=(Uid(STUDY),), patient=self.patient_of_images(), performed=performed
        )
        change = StepChange(status=status, performed=performed, reason="")

        def create(tx: Tx, by: Carrier) -> None:
            steps.create(tx, made, peer="MODALITY", zone=by.zone, now=by.at)

        def end(tx: Tx, by: Carrier) -> None:
            for study, arrived in steps.change(tx, made.uid, change, now=by.at).items():
                self.w.admission.announce(tx, study, arrived, by)

        self.write(create)
        self.write(end)

    @rule(control=st.sampled_from(["CA", "NW"]))
    def order(self, control: str) -> None:
        """The order is cancelled, or changed."""
        self.send(cancelled(control).replace(f"O-{control}".encode(), self.next_id().encode()))

    # -- who does not answer -----------------------------------------------------------------------------------

    @rule(is_away=st.booleans())
    def pacs_away(self, is_away: bool) -> None:
        self.w.pacs.answer = Unknown(reason="unreachable", detail="no route") if is_away else None

    @precondition(lambda self: not self.has_control)
    @rule(is_lost=st.booleans(), told=st.booleans())
    def pacs_emptied(self, is_lost: bool, told: bool) -> None:
        """A PACS that holds nothing at all, not even its witness, and says so cleanly (FF-54). ``told``: just then the
        end of the exam is announced."""
        self.is_lost = is_lost
        self.store_images()
        if told:
            self.announce(Arrival.ORDER_CANCELLED)
            self.work(steps=4, pause_s=2.0)

    @rule(
        fault=st.sampled_from(FAULTS),
        on=st.sampled_from(["ITI-41", "ITI-57", "ITI-18"]),
        times=st.integers(min_value=1, max_value=3),
    )
    def index_stumbles(self, fault: Fault, on: str, times: int) -> None:
        self.w.index.switches.set(Switch(name=fault, on=(on,), times=times))

    @rule(seconds=st.sampled_from([2.0, 6.0]))
    def index_lags(self, seconds: float) -> None:
        """What is registered or withdrawn shows late in queries (F09)."""
        self.w.index.switches.set(Switch(name=Fault.INVISIBLE, seconds=seconds))

    # -- time --------------------------------------------------------------------------------------------------

    @property
    def is_silent(self) -> bool:
        """Whether no PACS answer may take anything out now."""
        return self.is_lost or self.w.pacs.answer is not None

    def taken_out(self) -> int:
        """Withdrawals asked for because of what the PACS said."""
        rows = self.run(
            self.w.store.read(lambda tx: tx.rows("SELECT summary FROM evidence WHERE kind = 'withdrawal-asked'"))
        )
        return sum(any(words in row["summary"] for words in BY_PACS) for row in rows)

    @rule(steps=st.integers(min_value=1, max_value=8), pause_s=st.sampled_from([0.5, 2.0, 60.0]))
    def work(self, steps: int, pause_s: float) -> None:
        before = self.taken_out() if self.is_silent else 0
        for _ in range(steps):
            self.run(self.w.engine.step())
            self.never_two()
            self.w.clock.advance(pause_s)
        assert not self.is_silent or self.taken_out() == before, "nothing is withdrawn on a silence"

    @rule(commits=st.integers(min_value=1, max_value=14), before=st.booleans())
    def process_dies(self, commits: int, before: bool) -> None:
        """In the middle of a lane; its leases are lost, another process goes on."""
        SEEN["deaths"] += self.run(self.lives.dies(self.w, commits, before=before))

    @rule(is_later=st.booleans())
    def nightly(self, is_later: bool) -> None:
        """A reconciliation, at any moment."""
        if is_later:
            self.w.clock.advance(3700)
        before = self.taken_out() if self.is_silent else 0
        self.run(reconciler_of(self.w).run(None))
        assert not self.is_silent or self.taken_out() == before, "nothing is withdrawn on a silence"

    @rule()
    def converge(self) -> None:
        """Everybody answers, the PACS is looked at until a lasting absence would count: the index must be true."""
        self.w.pacs.answer = None
        self.is_lost = False
        self.store_images()
        self.w.index.switches.set()
        self.run(rest(self.w))
        for _ in range(2):
            self.look()
            self.w.clock.advance(3700)
        self.look()
        self.compare()
        self.undisturbed()

    def look(self) -> None:
        """What a PACS that announces a change asks for."""
        if self.reports and not self.kept_out:
            self.run(look(self.w))
        self.run(rest(self.w))

    def undisturbed(self) -> None:
        """Where everything is as it should be, reconciliation finds nothing to do (I19)."""
        found = self.run(reconciler_of(self.w).run(None))
        assert found.changed == 0, found.drift

    def compare(self) -> None:
        shown = self.approved()
        images = self.held - self.rejected
        is_kept = self.opposed or self.kept_out or self.register.is_else
        may = bool(self.valid) and self.is_for_index and not is_kept and bool(images)
        assert len(shown) == int(may)
        assert not shown or self.has_reason or self.was_shown
        if shown:
            (entry,) = shown
            hidden = {FLAGS[flag] for one in self.valid for flag in one.hides}
            assert set(entry["confidentiality_codes"]) & set(FLAGS.values()) == hidden
            manifest = self.run(self.w.store.read(partial(self.listed, entry["unique_id"])))
            assert manifest == images
        else:
            self.has_reason = False
        self.was_shown = bool(shown)

    def listed(self, unique_id: str, tx: Any) -> frozenset[int]:
        """Numbers of the instances that the manifest of an entry lists."""
        (row,) = tx.rows("SELECT version FROM manifest WHERE unique_id = :u", u=unique_id)
        manifest, _ = self.w.ledger.manifest_at(tx, TENANT, STUDY, row["version"])
        return frozenset(
            int(one.sop_instance.rpartition(".")[2]) for series in manifest.series for one in series.instances
        )

    def approved(self) -> list[dict[str, Any]]:
        """Our study's approved entries; the index is asked when it took anything since."""
        counts = self.w.index.switches.counts
        taken = counts["ITI-41"] + counts["ITI-57"]
        if taken != self.asked:
            self.asked = taken
            found = self.run(self.lives.entries(ME))
            self.shown = [entry for entry in found if entry["status"] == "Approved"]
            beside = self.run(self.lives.entries(NEIGHBOUR.patient))
            assert [(one["unique_id"], one["status"]) for one in beside] == [(self.neighbour, "Approved")]
        return self.shown

    @invariant()
    def count(self) -> None:
        SEEN["steps"] += 1

    @invariant()
    def never_two(self) -> None:
        if hasattr(self, "w"):
            SEEN["looks"] += 1  # at what the index shows
            shown = self.approved()
            assert len(shown) <= 1
            assert not shown or self.was_shown or self.has_reason


HISTORIES = int(os.environ.get("POTERNE_HISTORIES", "2000"))
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


class OneWorld:
    """Histories on one world."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.began = time.monotonic()
        Life.open_world()

    @classmethod
    def tearDownClass(cls) -> None:
        Life.close_world()
        print(f"\n{dict(SEEN)} in {time.monotonic() - cls.began:.0f} s")


class TestLife(OneWorld, Life.TestCase):  # type: ignore[name-defined,misc]
    """A few histories in the default run."""

    settings = settings(max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=CHECKS)


@pytest.mark.full
class TestLongLife(OneWorld, Life.TestCase):  # type: ignore[name-defined,misc]
    """Thousands of them."""

    settings = settings(max_examples=HISTORIES, stateful_step_count=40, deadline=None, suppress_health_check=CHECKS)
