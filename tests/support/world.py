"""Intake, engine, publication and a real index node in one process: real SQLite, real sockets, turned clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal
from zoneinfo import ZoneInfo

import aiohttp

from gateway.components import COMPONENTS
from gateway.hl7.intake import Intake
from gateway.lab import raw_query
from gateway.lab.index import LabIndex
from gateway.lab.ris import LabExam, LabPatient, build_oru
from indexer import gate
from indexer.admission import Admission
from indexer.assemble import Site
from indexer.exchanges.recorded import Recorded
from indexer.exchanges.rows import Keeping
from indexer.ledger import Ledger
from indexer.mhd.client import MhdClient, MhdEndpoint
from indexer.ports import NationalIndex, StudySource
from indexer.publication import Policy, Publication
from indexer.report import Coded, Organization
from indexer.study import Absent, Address, Found, Instance, PacsPatient, Series, Study, StudyAnswer
from indexer.trial import Plan, TrialSource
from indexer.withdrawal import Terms, Withdrawal
from indexer.xds.client import XdsClient, XdsEndpoint
from indexer.xds.metadata import Publisher
from security.identity import Ins, PatientIdentity, Traits, Uid
from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.port import Job, JobKind
from security.outbox.retry import RetrySettings
from security.seal import Vault
from security.store.opening import StorePlace, open_store
from security.store.port import ReadTx, Store
from tests.integration.outbox_lab import Hands

TENANT = "site"
ZONE = ZoneInfo("Europe/Paris")
CT = Uid("1.2.840.10008.5.1.4.1.1.2")


@dataclass
class MemoryPacs:
    """A PACS that holds frozen studies. ``answer``: said instead of the truth, when set; ``is_proven``: it has a control
    study, and finds it."""

    name: str = "main"
    studies: dict[str, Study] = field(default_factory=dict)
    answer: StudyAnswer | None = None
    asked: int = 0
    is_proven: bool = True

    async def find(self, study: Uid) -> StudyAnswer:
        self.asked += 1
        if self.answer is not None:
            return self.answer
        held = self.studies.get(study)
        return Found(study=held) if held else Absent(evidence="no match", is_proven=self.is_proven)

    def hold(self, exam: LabExam, *, instances: int = 3, **patient: str) -> Study:
        """Hold what the modality would have stored for the first study of ``exam``."""
        p, order = exam.patient, exam.orders[0]
        uid = Uid(exam.studies[0])
        stated = {
            "patient_id": p.ipp,
            "issuer": "",
            "name": f"{p.birth_name}^{p.first_given_name}",
            "birth_date": f"{p.birth_date:%Y%m%d}",
            "sex": p.sex,
        }
        self.studies[uid] = Study(
            uid=uid,
            patient=PacsPatient(**{**stated, **patient}),
            accession_number=order.accession_number,
            date="20260108",
            time="102500",
            description="Scanner",
            series=(
                Series(
                    uid=Uid(f"{uid}.1"),
                    modality="CT",
                    number=1,
                    instances=tuple(
                        Instance(sop_class=CT, sop_instance=Uid(f"{uid}.1.{n}"), number=n)
                        for n in range(1, instances + 1)
                    ),
                ),
            ),
        )
        return self.studies[uid]


@dataclass
class World:
    """The parts, and what people do with them. ``provide``, ``query``, ``take_back``: the transactions of the
    gateway's door to the index; what people ask of the index is always asked by ITI-18."""

    clock: Hands
    store: Store
    vault: Vault
    ledger: Ledger
    pacs: MemoryPacs
    intake: Intake
    engine: Engine
    client: XdsClient | MhdClient
    index: LabIndex
    admission: Admission
    policy: Policy
    provide: str = "ITI-41"
    query: str = "ITI-18"
    take_back: str = "ITI-57"
    _sent: int = 0

    def restart(self, mode: Literal["live", "shadow"]) -> None:
        """A new engine on the same store, as a restart with another ``mode`` in the settings would make it."""
        policy = replace(self.policy, mode=mode)
        kinds = kinds_of(policy, self.store, self.ledger, sources=[self.pacs], index=self.client, clock=self.clock)
        self.engine = new_engine(self.store, kinds, self.clock)

    async def report(self, exam: LabExam, *, control_id: str | None = None, **words: Any) -> str:
        """Send the exam's report; the whole acknowledgement."""
        self._sent += 1
        return await self.raw(build_oru(exam, control_id=control_id or f"MSG-{self._sent}", **words))

    async def raw(self, message: bytes) -> str:
        return (await self.intake.handle(message)).decode()

    async def settle(self, *, rounds: int = 60, step_s: float = 2.0) -> None:
        """Let the engine work until nothing moves any more, time passing between rounds."""
        idle = 0
        for _ in range(rounds):
            idle = 0 if await self.engine.step() else idle + 1
            if idle == 3:
                return
            self.clock.advance(step_s)

    async def jobs_of(self, study: str) -> list[Job]:
        return await self.store.read(lambda tx: jobs.lane_jobs(tx, tenant=TENANT, lane=study))

    async def last(self, study: str) -> Job:
        return (await self.jobs_of(study))[-1]

    async def count(self, table: str) -> int:
        def work(tx: ReadTx) -> int:
            return int(tx.rows(f"SELECT COUNT(*) AS n FROM {table}")[0]["n"])

        return await self.store.read(work)

    async def entries(self, exam: LabExam) -> list[tuple[str, str]]:
        """(uniqueId, status) of everything the index holds for the exam's patient, asked over the wire."""
        patient = exam.patient
        return await find_documents(self.index.url + "/registry", f"{patient.matricule}^^^&{patient.ins_oid}&ISO^NH")


async def find_documents(url: str, patient: str) -> list[tuple[str, str]]:
    """What the index holds of a patient: (uniqueId, status) in the order answered."""
    async with aiohttp.ClientSession() as session:
        found = await find_entries(session, url, patient)
    return [(str(entry["unique_id"]), str(entry["status"])) for entry in found]


async def find_entries(session: aiohttp.ClientSession, url: str, patient: str) -> list[dict[str, Any]]:
    """FindDocuments, Approved and Deprecated, as hand-written SOAP; as ``raw_query`` reads the answer."""
    statuses = "".join(
        f"<r:Value>('urn:oasis:names:tc:ebxml-regrep:StatusType:{status}')</r:Value>"
        for status in ("Approved", "Deprecated")
    )
    request = f"""<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"
 xmlns:a="http://www.w3.org/2005/08/addressing" xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"><s:Header>
 <a:Action s:mustUnderstand="1">urn:ihe:iti:2007:RegistryStoredQuery</a:Action>
 <a:MessageID>urn:uuid:00000000-0000-4000-8000-000000000001</a:MessageID></s:Header><s:Body>
 <q:AdhocQueryRequest xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0">
 <q:ResponseOption returnType="LeafClass" returnComposedObjects="true"/>
 <r:AdhocQuery id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d">
 <r:Slot name="$XDSDocumentEntryPatientId"><r:ValueList><r:Value>'{patient.replace("&", "&amp;")}'</r:Value>
 </r:ValueList></r:Slot><r:Slot name="$XDSDocumentEntryStatus"><r:ValueList>{statuses}</r:ValueList></r:Slot>
 </r:AdhocQuery></q:AdhocQueryRequest></s:Body></s:Envelope>"""
    headers = {"Content-Type": "application/soap+xml; charset=UTF-8"}
    async with session.post(url, data=request.encode(), headers=headers) as answer:
        data = await answer.read()
        assert answer.status == 200, data
    return raw_query.entries(data)


def make_policy(rules: gate.Rules, visibility_s: float) -> Policy:
    organization = Organization(identifier="101999999", system="1.2.250.1.71.4.2.2", name="Centre FANTÔME")
    return Policy(
        tenant=TENANT,
        timezone=ZONE,
        site=Site(institution=organization, address=Address(base="https://images.fantome.example/wado")),
        publisher=Publisher(
            device_id="899711256811",
            device_name="Poterne",
            manufacturer="Poterne",
            institution_name=organization.name,
            institution_id=organization.identifier,
            source_id="1.2.250.1.999.1.1.1",
            content_type=Coded(code="04", system="1.2.250.1.213.2.2", display="Hospitalisation de jour"),
            facility_type=Coded(code="SA08", system="1.2.250.1.71.4.2.4", display="Cabinet de groupe"),
            practice_setting=Coded(code="AMBULATOIRE", system="1.2.250.1.213.1.1.4.9", display="Ambulatoire"),
        ),
        rules=rules,
        visibility=timedelta(seconds=visibility_s),
        pacs_retry_base_s=1.0,
        pacs_retry_cap_s=4.0,
    )


def trial_plan(policy: Policy, **changes: Any) -> Plan:
    """A trial of an invented patient of the test authority, under the rules of real exams."""
    patient = LabPatient(birth_name="ESSAI-FANTÔME", first_given_name="TANTALE", rank=77)
    return Plan(
        **{
            "tenant": policy.tenant,
            "mode": policy.mode,
            "patient": PatientIdentity(
                traits=Traits(
                    birth_name=patient.birth_name,
                    first_given_name=patient.first_given_name,
                    sex=patient.sex,
                    birth_date=patient.birth_date,
                    birthplace=patient.birthplace,
                ),
                ins=Ins(matricule=patient.matricule or "", oid=patient.ins_oid, status="VALI"),
            ),
            "source_id": policy.publisher.source_id,
            "timezone": ZONE,
            "rules": gate.Rules(),
            **changes,
        }
    )


def kinds_of(
    policy: Policy,
    store: Store,
    ledger: Ledger,
    *,
    sources: Sequence[StudySource],
    index: NationalIndex,
    clock: Hands,
) -> dict[str, JobKind]:
    """The tenant's kinds of job, as the gateway wires them."""
    publication = Publication(
        policy=policy,
        store=store,
        ledger=ledger,
        sources=sources,
        index=index,
        clock=clock,
        trial=[TrialSource(plan=trial_plan(policy), store=store, ledger=ledger)],
    )
    withdrawal = Withdrawal(
        terms=Terms(tenant=policy.tenant, mode=policy.mode, publisher=policy.publisher, patience=policy.patience),
        store=store,
        ledger=ledger,
        index=index,
        clock=clock,
    )
    return {
        kind.name: Recorded(kind, store=store, ledger=ledger, clock=clock, keeping=Keeping())
        for kind in (publication, withdrawal)
    }


def index_client(index: LabIndex, door: Literal["xds", "mhd"], *, patience_s: float = 3.0) -> XdsClient | MhdClient:
    """The gateway's client of the laboratory's index, which waits ``patience_s`` for an answer."""
    if door == "mhd":
        return MhdClient(MhdEndpoint(base_url=index.fhir_url, connect_timeout_s=2.0, total_timeout_s=patience_s))
    return XdsClient(
        XdsEndpoint(
            registry_url=f"{index.url}/registry",
            repository_url=f"{index.url}/repository",
            repository_unique_id=index.repository_unique_id,
            connect_timeout_s=2.0,
            total_timeout_s=patience_s,
        )
    )


@asynccontextmanager
async def world(
    folder: Path,
    *,
    rules: gate.Rules | None = None,
    visibility_s: float = 10.0,
    source: StudySource | None = None,
    place: StorePlace | None = None,
    door: Literal["xds", "mhd"] = "xds",
    patience_s: float = 3.0,
    **policy_changes: Any,
) -> AsyncIterator[World]:
    """A world in ``folder``; everything is closed at the end. ``source``: asked instead of the PACS in memory.
    ``place``: where its database is instead; ``door``: by which the gateway reaches the index, and ``patience_s`` for how
    long it waits for an answer."""
    clock = Hands()
    rules = rules or gate.Rules(test_identity="off")
    store = await open_store(place or folder / "gateway.db", COMPONENTS)
    vault = await Vault.load(store, bytes(range(32)), [TENANT], clock)
    index = await LabIndex(folder / "index", clock=clock).__aenter__()
    client = index_client(index, door, patience_s=patience_s)
    policy = replace(make_policy(rules, visibility_s), **policy_changes)
    try:
        yield wired(clock, store, vault, index, client, policy=policy, source=source)
    finally:
        await client.aclose()
        await index.__aexit__()
        await store.close()


def wired(
    clock: Hands,
    store: Store,
    vault: Vault,
    index: LabIndex,
    client: XdsClient | MhdClient,
    *,
    policy: Policy,
    source: StudySource | None = None,
) -> World:
    """A gateway and what surrounds it, on stores and doors that are open."""
    ledger, pacs = Ledger(vault), MemoryPacs()
    admission = Admission(tenant=TENANT, ledger=ledger, rules=policy.rules)
    kinds = kinds_of(policy, store, ledger, sources=[source or pacs], index=client, clock=clock)
    engine = new_engine(store, kinds, clock)
    intake = Intake(
        tenant=TENANT,
        store=store,
        vault=vault,
        admission=admission,
        ledger=ledger,
        timezone=ZONE,
        fallback_charset="cp1252",
        clock=clock,
        enqueued=engine.nudge,
    )
    is_fhir = isinstance(client, MhdClient)
    return World(
        clock=clock,
        store=store,
        vault=vault,
        ledger=ledger,
        pacs=pacs,
        intake=intake,
        engine=engine,
        client=client,
        index=index,
        admission=admission,
        policy=policy,
        provide="ITI-65" if is_fhir else "ITI-41",
        take_back="ITI-65 withdrawal" if is_fhir else "ITI-57",
        query="ITI-67" if is_fhir else "ITI-18",
    )


def new_engine(store: Store, kinds: dict[str, JobKind], clock: Hands) -> Engine:
    """One incarnation of the worker, whose retries are soon."""
    settings = EngineSettings(retry=RetrySettings(base_s=0.5, cap_s=2.0))
    return Engine(store, kinds, clock=clock, rng=Random(7), settings=settings)
