"""Why is this exam not visible? Real situations on the real spine; ``poterne exam --json`` names cause and next step."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.lab.index import Fault, LabIndex, Switch
from gateway.lab.ris import LabExam, build_adt_consent
from indexer import exclusion
from indexer.ports import EntryFound
from indexer.study import Unknown
from indexer.xds.client import XdsClient, XdsEndpoint
from security.keys.lab_pki import LabAuthority
from security.keys.tls import client_context, server_context
from security.outbox import jobs
from tests.acceptance.test_commands import Ran, poterne
from tests.integration.test_messages import said
from tests.support.world import TENANT, World, world
from tests.unit.configuration import TEXT, write

EXAM = LabExam()
STUDY = EXAM.studies[0]
WHO = "operator:Jeanne Martin (console)"
WHY = "asked for by the head of the service"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


def conf_of(folder: Path, *, reveal_users: tuple[str, ...] = ()) -> Path:
    """The configuration of the commands beside a running world: its database, its key."""
    text = TEXT.replace("[tenants.fantome", f"[tenants.{TENANT}").replace('"poterne.db"', '"../gateway.db"', 1)
    (folder / "conf").mkdir()
    conf = write(folder / "conf", f"{text}\n[exchanges]\nreveal_users = {list(reveal_users)}\n")
    (conf.parent / "kek").write_text(bytes(range(32)).hex())
    return conf


async def exam_command(folder: Path, *words: str, lang: str = "en") -> Ran:
    """``poterne exam STUDY --conf … words``, while the world runs."""
    conf = folder / "conf" / "poterne.toml"
    if not conf.exists():
        conf = conf_of(folder)
    return await asyncio.to_thread(poterne, "exam", STUDY, "--conf", str(conf), *words, lang=lang)


async def told(folder: Path, lang: str = "en") -> dict[str, Any]:
    ran = await exam_command(folder, "--json", lang=lang)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    facts: dict[str, Any] = json.loads(ran.stdout)
    return facts


# -- what happens ------------------------------------------------------------------------------------------------


async def published(w: World) -> None:
    w.pacs.hold(EXAM)
    assert "MSA|AA|" in await w.report(EXAM)
    await w.settle()


async def index_away(w: World, _folder: Path) -> None:
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE))
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle(rounds=6)


async def index_busy(w: World, _folder: Path) -> None:
    w.index.switches.set(Switch(name=Fault.BUSY, on=("ITI-41",)))
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle(rounds=2)


async def certificate_refused(w: World, folder: Path) -> None:
    now = datetime.now(UTC)
    ours, theirs = (LabAuthority.create(folder / name, now=now) for name in ("ours", "theirs"))
    days = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=1)}
    node, stranger = theirs.issue("index", **days), ours.issue("gateway", **days)
    trusting: ssl.SSLContext = client_context(stranger.certificate, stranger.key, ours.certificate)
    async with LabIndex(
        folder / "tls", clock=w.clock, tls=server_context(node.certificate, node.key, theirs.certificate)
    ) as index:
        w.client = XdsClient(
            XdsEndpoint(
                registry_url=f"{index.url}/registry",
                repository_url=f"{index.url}/repository",
                repository_unique_id=index.repository_unique_id,
                tls=trusting,
                connect_timeout_s=2.0,
                total_timeout_s=3.0,
            )
        )
        w.restart("live")
        w.pacs.hold(EXAM)
        await w.report(EXAM)
        await w.settle(rounds=3)
        await w.client.aclose()


async def patients_differ(w: World, _folder: Path) -> None:
    w.index.switches.set(Switch(name=Fault.REFUSE, code="XDSPatientIdDoesNotMatch", on=("ITI-41",)))
    await published(w)


async def refused_for_good(w: World, _folder: Path) -> None:
    w.index.switches.set(Switch(name=Fault.REFUSE, code="XDSRegistryMetadataError", on=("ITI-41",)))
    await published(w)


async def strange_refusal(w: World, _folder: Path) -> None:
    w.index.switches.set(Switch(name=Fault.REFUSE, code="XDSHouseRule", on=("ITI-41",)))
    await published(w)


async def maintenance_page(w: World, _folder: Path) -> None:
    w.index.switches.set(Switch(name=Fault.HTML_MAINTENANCE))
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle(rounds=4)


async def pacs_silent(w: World, _folder: Path) -> None:
    w.pacs.answer = Unknown(reason="unreachable", detail="nothing answers")
    await w.report(EXAM)
    await w.settle(rounds=6)


async def pacs_password(w: World, _folder: Path) -> None:
    w.pacs.answer = Unknown(reason="unauthorised", detail="401")
    await w.report(EXAM)
    await w.settle(rounds=6)


async def study_absent(w: World, _folder: Path) -> None:
    await w.report(EXAM)
    await w.settle(rounds=6)


async def identity_in_doubt(w: World, _folder: Path) -> None:
    w.pacs.hold(EXAM, birth_date="19700101")
    await w.report(EXAM)
    await w.settle()


async def identity_unqualified(w: World, _folder: Path) -> None:
    await w.report(replace(EXAM, patient=replace(EXAM.patient, ins_status="PROV")))
    await w.settle()


async def opposition(w: World, _folder: Path) -> None:
    sent = build_adt_consent(EXAM.patient, opposition="IO", at=said(w), sent_at=said(w), control_id="C1")
    assert "MSA|AA|" in await w.raw(sent)
    w.clock.advance(5)
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()


async def not_for_index(w: World, _folder: Path) -> None:
    w.pacs.hold(EXAM)
    await w.report(replace(EXAM, flags={**EXAM.flags, "DESTDMP": "N"}))
    await w.settle()


async def shadow(w: World, _folder: Path) -> None:
    w.restart("shadow")
    await published(w)


async def paused(w: World, _folder: Path) -> None:
    await w.store.write(lambda tx: jobs.pause(tx, tenant=TENANT, actor=WHO, reason="index moves", now=w.clock.now()))
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle(rounds=4)


async def not_shown(w: World, _folder: Path) -> None:
    w.index.switches.set(Switch(name=Fault.INVISIBLE, seconds=10_000))
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle(rounds=3)


async def replaced_by_others(w: World, _folder: Path) -> None:
    await published(w)
    (entry,) = await w.entries(EXAM)

    async def deprecated(unique_id: str) -> EntryFound:
        return EntryFound(entry_uuid="urn:uuid:1", unique_id=unique_id, status="Deprecated")

    w.client.find_document = deprecated  # type: ignore[method-assign]
    w.pacs.hold(EXAM, instances=5)
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9002", replaces=EXAM.document_id))
    await w.settle()
    assert entry[1] == "Approved"


async def taken_out(w: World, _folder: Path) -> None:
    await published(w)
    now = w.clock.now()
    await w.store.write(lambda tx: exclusion.withdraw(tx, w.admission, STUDY, actor=WHO, reason=WHY, now=now))
    await w.settle()


async def shown(w: World, _folder: Path) -> None:
    await published(w)


@dataclass(frozen=True)
class Case:
    """``french``: stands in the French sentence of the next step."""

    happens: Callable[[World, Path], Awaitable[None]]
    state: str
    cause: str
    next: str
    who: str
    french: str


CASES = (
    Case(index_away, "sending", "index-connection-lost", "ask-index", "poterne", "Rien à faire"),
    Case(index_busy, "waiting", "index-XDSRepositoryBusy", "send-again", "poterne", "de nouveau à l’index"),
    Case(certificate_refused, "waiting", "index-tls-refused", "mend", "operator", "refuse notre certificat"),
    Case(patients_differ, "failed", "index-XDSPatientIdDoesNotMatch", "decide", "operator", "vérifier l’INS"),
    Case(refused_for_good, "failed", "index-XDSRegistryMetadataError", "decide", "operator", "l’index l’a refusé"),
    Case(strange_refusal, "held", "index-XDSHouseRule", "decide", "operator", "l’index l’a refusé"),
    Case(maintenance_page, "sending", "index-unreadable-answer", "ask-index", "poterne", "demandera à l’index"),
    Case(pacs_silent, "waiting", "pacs-unreachable", "ask-pacs", "poterne", "redemandera au PACS"),
    Case(pacs_password, "waiting", "pacs-unauthorised", "mend", "operator", "mot de passe"),
    Case(study_absent, "waiting", "pacs-has-no-such-study", "ask-pacs", "poterne", "redemandera au PACS"),
    Case(
        identity_in_doubt,
        "held",
        "identity-birth-date",
        "compare",
        "operator",
        "Les sources diffèrent sur le patient",
    ),
    Case(identity_unqualified, "held", "identity-ins-status", "message", "sender", "La source doit corriger"),
    Case(opposition, "held", "patient-opposed", "consent", "patient", "Rien à faire ici"),
    Case(not_for_index, "held", "not-for-index", "message", "sender", "DESTDMP"),
    Case(shadow, "waiting", "shadow-mode", "live", "nobody", "passera en réel"),
    Case(paused, "waiting", "paused", "resume", "operator", "poterne queue resume"),
    Case(not_shown, "accepted", "not-visible-yet", "ask-index", "poterne", "demandera à l’index"),
    Case(replaced_by_others, "held", "entry-deprecated-by-others", "decide", "operator", "Quelqu’un doit agir"),
    Case(taken_out, "withdrawn", "", "out", "nobody", "hors de l’index"),
    Case(shown, "indexed", "", "shown", "nobody", "l’index montre l’examen"),
)


@pytest.mark.parametrize("case", CASES, ids=[case.happens.__name__ for case in CASES])
async def test_the_command_names_cause_and_next_step(w: World, tmp_path: Path, case: Case) -> None:
    await case.happens(w, tmp_path)
    facts = await told(tmp_path)
    step = facts["next"]
    assert (facts["state"], facts["cause"]["code"]) == (case.state, case.cause)
    assert (step["code"], step["who"]) == (case.next, case.who)
    assert (step["at"] is not None) == (step["code"] in {"ask-pacs", "ask-index", "send-again", "mend"})
    assert bool(facts["cause"]["words"]) == bool(case.cause)
    french = await told(tmp_path, lang="fr")
    assert case.french in french["next"]["what"]
    assert not case.cause or french["cause"]["words"] != facts["cause"]["words"]
    whole = await exam_command(tmp_path, "--exchanges", lang="fr")
    assert case.french in whole.stdout.replace("\n", " ")
    markers = (EXAM.patient.birth_name, EXAM.patient.first_given_name, EXAM.patient.ipp, EXAM.patient.matricule or "")
    assert [one for one in markers if one in whole.stdout] == []
