"""Profiles, forms and doors together: what leaves is what an index shows, and who it is about is never in doubt."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.lab.index import LabIndex
from gateway.lab.ris import LabExam
from indexer import fhir, gate, kos
from indexer.mhd.client import MhdClient, MhdEndpoint
from indexer.ports import Accepted, Ambiguous, EntryUnknown, NotSent, Submission
from security.errors import BadInput, Broken
from security.outbox.states import State
from tests.support.world import TENANT, World, index_client, make_policy, world
from tests.unit.test_mhd_mapping import SENT

EXAM = LabExam()
STUDY = EXAM.studies[0]
DOMAIN = "1.2.250.1.213.4.5.9.4"  # of the laboratory's IPP
LOCAL = gate.Rules(domain=DOMAIN)
SOURCE = make_policy(LOCAL, 1.0).site
SITE = replace(SOURCE, address=replace(SOURCE.address, location="1.2.250.1.999.5", ae_title="FANTOME"))


async def publish(w: World, exam: LabExam = EXAM) -> State:
    w.pacs.hold(exam)
    await w.report(exam)
    await w.settle()
    return (await w.last(STUDY)).state


async def stored(w: World) -> Submission:
    found = await w.store.read(lambda tx: w.ledger.submission_of(tx, TENANT, 1))
    assert found is not None
    return found[1]


@pytest.mark.parametrize("door", ["xds", "mhd"])
@pytest.mark.parametrize(
    ("profile", "form"), [("drim-m", "kos"), ("xds-i", "kos"), ("mado", "kos"), ("mado", "fhir")]
)
async def test_each_profile_and_form_goes_out_and_comes_back_by_both_doors(
    tmp_path: Path, door: Any, profile: Any, form: Any
) -> None:
    rules = gate.Rules(test_identity="off") if profile == "drim-m" else LOCAL
    async with world(tmp_path, door=door, rules=rules, profile=profile, form=form, site=SITE) as w:
        assert await publish(w) is State.PUBLISHED
        sent = await stored(w)
        (document,) = sent.documents.values()
        for other in ("xds", "mhd"):
            client = index_client(w.index, other)  # type: ignore[arg-type]
            got = await client.retrieve_document(sent.unique_id, w.index.repository_unique_id)
            await client.aclose()
            assert got == document
        read = fhir.read(document) if form == "fhir" else kos.read(document)
        assert read.manifest.study == STUDY
        named = [local for local in read.manifest.patient.local_ids if local.value == EXAM.patient.ipp]
        assert named


async def test_outside_drim_m_the_register_s_identifier_names_the_patient_and_no_ins_leaves(tmp_path: Path) -> None:
    async with world(tmp_path, door="mhd", rules=LOCAL, profile="mado", form="fhir", site=SITE) as w:
        assert await publish(w) is State.PUBLISHED
        sent = await stored(w)
        whole = sent.metadata + b"".join(sent.documents.values())
        assert (EXAM.patient.matricule or "?").encode() not in whole
        params = {"patient.identifier": f"urn:oid:{DOMAIN}|{EXAM.patient.ipp}", "status": "current"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(w.index.fhir_url + "/DocumentReference", params=params) as answer,
        ):
            assert (await answer.json(content_type=None))["total"] == 1


@pytest.mark.parametrize(("pacs", "domain"), [({"patient_id": "IPP-OTHER"}, DOMAIN), ({"issuer": "1.2.3.4"}, DOMAIN)])
async def test_ff19_another_identifier_in_the_pacs_holds_the_exam(
    tmp_path: Path, pacs: dict[str, str], domain: str
) -> None:
    async with world(tmp_path, rules=gate.Rules(domain=domain), profile="xds-i") as w:
        w.pacs.hold(EXAM, **pacs)
        await w.report(EXAM)
        await w.settle()
        held = await w.last(STUDY)
        assert (held.state, held.reason) == (State.BLOCKED, "identity-patient-id")
        assert await w.count("manifest") == 0


async def test_ff19_a_report_without_an_identifier_of_the_register_is_held(tmp_path: Path) -> None:
    async with world(tmp_path, rules=gate.Rules(domain="1.2.3.4"), profile="xds-i") as w:
        w.pacs.hold(EXAM)
        assert "MSA|AE" in await w.report(EXAM)
        await w.settle()
        assert (await w.last(STUDY)).reason == "identity-patient-id-missing"


async def test_ff21_a_submission_leaves_by_the_other_door_after_a_change_of_settings(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await publish(w) is State.PUBLISHED
        client = index_client(w.index, "mhd")
        again = await client.provide_and_register(await stored(w))
        await client.aclose()
        assert isinstance(again, Ambiguous)
        assert again.reason == "already-there"
        assert len(await w.entries(EXAM)) == 1


async def test_ff21_two_attempts_are_the_same_bytes_on_the_wire(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.Response(status=503)

    async with served(take) as client:
        for _ in range(2):
            await client.provide_and_register(SENT)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 1000


class served:  # noqa: N801 - reads as a block
    """A server of one handler and a client of it."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    async def __aenter__(self) -> MhdClient:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.handler)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        port = self.runner.addresses[0][1]
        self.client = MhdClient(
            MhdEndpoint(base_url=f"http://127.0.0.1:{port}/fhir", total_timeout_s=0.5, response_bytes_max=10_000)
        )
        return self.client

    async def __aexit__(self, *_exc: object) -> None:
        await self.client.aclose()
        await self.runner.cleanup()


async def test_a_refused_connection_means_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = MhdClient(MhdEndpoint(base_url=f"http://127.0.0.1:{port}/fhir"))
    assert isinstance(await client.provide_and_register(SENT), NotSent)
    assert isinstance(await client.find_document("2.25.1"), EntryUnknown)
    await client.aclose()


async def test_f06_f10_slow_and_large_answers_are_ambiguous() -> None:
    async def slow(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(5)
        return web.Response()

    async def large(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b" " * 20_000)

    for handler, reason in ((slow, "timeout"), (large, "answer-too-large")):
        async with served(handler) as client:
            answer = await client.provide_and_register(SENT)
            assert isinstance(answer, Ambiguous)
            assert answer.reason == reason


async def test_t26_a_redirect_is_not_followed_and_a_url_elsewhere_is_not_dialled() -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path.endswith("_search"):
            found = {
                "resourceType": "DocumentReference",
                "id": "7",
                "status": "current",
                "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.25.1"},
                "content": [{"attachment": {"url": "http://169.254.169.254/latest"}}],
            }
            return web.json_response({"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": found}]})
        raise web.HTTPFound("/other")

    async with served(elsewhere) as client:
        assert not isinstance(await client.provide_and_register(SENT), Accepted)
        with pytest.raises(BadInput) as caught:
            await client.retrieve_document("2.25.1", "")
        assert caught.value.code == "document-elsewhere"
    assert asked == ["/fhir", "/fhir/DocumentReference/_search"]


@pytest.mark.parametrize("url", ["http://index.test/fhir", "https://index.test/fhir", "ftp://127.0.0.1/"])
def test_an_address_without_mutual_tls_is_refused(url: str) -> None:
    with pytest.raises(Broken) as caught:
        MhdEndpoint(base_url=url)
    assert caught.value.code == "index-address"


async def test_i11_a_node_that_is_restarted_shows_what_it_took(tmp_path: Path) -> None:
    async with LabIndex(tmp_path) as index:
        client = index_client(index, "mhd")
        assert await client.provide_and_register(SENT) == Accepted()
        await client.aclose()
    async with LabIndex(tmp_path) as index:
        client = index_client(index, "mhd")
        found = await client.find_document(SENT.unique_id)
        await client.aclose()
        assert getattr(found, "status", "") == "Approved"
        assert replace(found, status="Approved") == found
