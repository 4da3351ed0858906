"""Signed submission sets, assertions and revisions from our client to the index node: real sockets, real SQLite."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from lxml import etree

from indexer.manifest import Edition
from indexer.ports import Accepted, EntryAbsent, EntryFound, EntryVersion, Rejected, Submission
from indexer.registry.credentials import Credentials
from indexer.report import Visibility
from indexer.xds import vocabulary as v
from indexer.xds.client import XdsClient, XdsEndpoint
from indexer.xds.metadata import status_change, submission
from indexer.xds.setsignature import read_signature
from indexer.xds.update import metadata_update
from indexer.xds.vihf import Errand, security_header
from security.identity import Uid
from security.keys.signer import PemSigner
from tests.integration.registry_lab import REPOSITORY, Peer, running
from tests.support.signing import NOW, Hand
from tests.unit.test_metadata import CONTEXT, EDITION, KOS, MANIFEST, PUBLISHER, RIM
from tests.unit.test_vihf import CLAIMS

PATIENT = "285067599804896^^^&1.2.250.1.213.1.4.10&ISO^NH"


def edition(number: int, replaces: str | None = None) -> Edition:
    return replace(
        EDITION,
        version=number,
        unique_id=Uid(f"2.25.100{number}1"),
        submission_id=Uid(f"2.25.200{number}1"),
        replaces=replaces,
    )


def signed(signer: PemSigner, number: int = 1, replaces: str | None = None) -> Submission:
    return submission(MANIFEST, CONTEXT, edition(number, replaces), KOS + bytes([number]), PUBLISHER, sign=signer)


@asynccontextmanager
async def client_of(peer: Peer, assertion=None):
    client = XdsClient(
        XdsEndpoint(
            registry_url=f"{peer.base}/xds/registry",
            repository_url=f"{peer.base}/xds/repository",
            repository_unique_id=REPOSITORY,
        ),
        assertion=assertion,
    )
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def peer(tmp_path):
    async with running(tmp_path) as peer:
        yield peer


@pytest.fixture
async def client(peer):
    async with client_of(peer) as client:
        yield client


async def shown(client: XdsClient, unique_id: str) -> EntryFound:
    found = await client.find_document(unique_id)
    assert isinstance(found, EntryFound)
    return found


# -- signed sets ------------------------------------------------------------------------------------------------


async def test_both_documents_come_back_byte_for_byte_and_the_signature_convinces(peer, client, signer, trust):
    sent = signed(signer)
    assert await client.provide_and_register(sent) == Accepted()
    kos, signature = sent.documents.values()
    assert await client.retrieve_document(sent.unique_id, REPOSITORY) == kos
    signature_uid = etree.fromstring(signature).get("Id")
    came_back = await client.retrieve_document(signature_uid, REPOSITORY)
    assert came_back == signature
    assert read_signature(came_back, trust=trust, at=NOW).covers(sent.unique_id, kos)
    body = await peer.query(v.GET_SUBMISSION_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": "'2.25.20011'"})
    assert len(list(body.iter(f"{RIM}ExtrinsicObject"))) == 2
    entry = (await shown(client, signature_uid)).entry_uuid
    linked = await peer.query(v.GET_ASSOCIATIONS, {"$uuid": f"('{entry}')"})
    assert sorted(a.get("associationType").rpartition(":")[2] for a in linked.iter(f"{RIM}Association")) == [
        "HasMember",
        "signs",
    ]


async def test_ff22_three_versions_replace_each_other_and_a_late_fourth_is_refused(peer, client, signer):
    replaces: list[str | None] = [None]
    for number in (1, 2, 3):
        assert await client.provide_and_register(signed(signer, number, replaces[-1])) == Accepted()
        replaces.append((await shown(client, f"2.25.100{number}1")).entry_uuid)
    assert [(await shown(client, f"2.25.100{n}1")).status for n in (1, 2, 3)] == [
        "Deprecated", "Deprecated", "Approved",
    ]  # fmt: skip
    late = await client.provide_and_register(signed(signer, 4, replaces[1]))
    assert isinstance(late, Rejected)
    assert (late.lasting, late.codes) == (True, ("XDSRegistryDeprecatedDocumentError",))


async def test_a_revision_masks_the_entry_and_a_withdrawal_then_hides_it(peer, client, signer):
    sent = signed(signer)
    await client.provide_and_register(sent)
    first = await shown(client, sent.unique_id)
    mask = metadata_update(
        sent,
        EntryVersion(entry_uuid=first.entry_uuid, logical_id=first.entry_uuid, version=1, repository=REPOSITORY),
        unique_id=Uid("2.25.3001"),
        created_at=NOW,
        level="N",
        visibility=Visibility(masked_to_professionals=True),
        publisher=PUBLISHER,
    )
    assert await client.update_status(mask) == Accepted()
    second = await shown(client, sent.unique_id)
    assert (second.status, second.entry_uuid != first.entry_uuid) == ("Approved", True)
    body = await peer.query(v.GET_DOCUMENTS, {"$XDSDocumentEntryEntryUUID": f"('{second.entry_uuid}')"})
    (entry,) = body.iter(f"{RIM}ExtrinsicObject")
    assert entry.get("lid") == first.entry_uuid
    assert [
        c.get("nodeRepresentation")
        for c in entry.iter(f"{RIM}Classification")
        if c.get("classificationScheme") == v.ENTRY_CONFIDENTIALITY_CODE
    ] == ["N", "MASQUE_PS"]
    withdrawal = status_change(
        sent,
        second.entry_uuid,
        unique_id=Uid("2.25.3002"),
        created_at=NOW,
        new_status=v.STATUS_DELETED,
        publisher=PUBLISHER,
    )
    assert await client.update_status(withdrawal) == Accepted()
    assert await client.find_document(sent.unique_id) == EntryAbsent()


# -- assertions -------------------------------------------------------------------------------------------------


def asserting(signer: PemSigner, clock: Hand):
    def header(errand: Errand) -> bytes:
        return security_header(CLAIMS, errand, assertion_id=f"_{uuid.uuid4()}", now=clock.now(), signer=signer)

    return header


@pytest.fixture
async def strict(tmp_path, trust):
    """A node that believes one signer."""
    async with running(tmp_path, credentials=Credentials(trust, Hand())) as peer:
        yield peer


async def test_with_assertions_everything_works_as_without(strict, signer):
    async with client_of(strict, asserting(signer, Hand())) as client:
        sent = signed(signer)
        assert await client.provide_and_register(sent) == Accepted()
        found = await shown(client, sent.unique_id)
        assert await client.retrieve_document(sent.unique_id, REPOSITORY) == KOS + b"\x01"
        withdrawal = status_change(
            sent, found.entry_uuid, unique_id=Uid("2.25.3002"), created_at=NOW,
            new_status=v.STATUS_DELETED, publisher=PUBLISHER,
        )  # fmt: skip
        assert await client.update_status(withdrawal) == Accepted()


async def test_t21_nothing_is_done_for_who_brings_no_assertion_or_somebody_else_s(strict, signer, signing_keys):
    stranger = PemSigner(signing_keys["other"].certificate, signing_keys["other"].key, Hand())
    old = Hand(NOW - timedelta(hours=2))
    for assertion in (None, asserting(stranger, Hand()), asserting(signer, old)):
        async with client_of(strict, assertion) as client:
            answer = await client.provide_and_register(signed(signer))
            assert isinstance(answer, Rejected)
            assert (answer.known, answer.codes) == (False, ("soap-sender",))
    async with client_of(strict, asserting(signer, Hand())) as client:
        assert await client.find_document("2.25.10011") == EntryAbsent()


async def test_an_assertion_about_another_patient_is_refused(strict, signer):
    def about_jules(errand: Errand) -> bytes:
        return asserting(signer, Hand())(replace(errand, patient_id="170129999900254^^^&1.2.250.1.213.1.4.10&ISO^NH"))

    async with client_of(strict, about_jules) as client:
        answer = await client.provide_and_register(signed(signer))
        assert isinstance(answer, Rejected)


async def test_an_assertion_is_used_once(strict, signer):
    header = asserting(signer, Hand())(Errand(patient_id=PATIENT))
    async with client_of(strict, lambda _errand: header) as client:
        assert await client.provide_and_register(signed(signer)) == Accepted()
        again = await client.provide_and_register(signed(signer, 2))
        assert isinstance(again, Rejected)


async def test_i5_each_attempt_has_its_own_assertion_around_the_same_body(strict, signer):
    made: list[bytes] = []

    def remembered(errand: Errand) -> bytes:
        made.append(asserting(signer, Hand())(errand))
        return made[-1]

    sent = signed(signer)
    async with client_of(strict, remembered) as client:
        await client.provide_and_register(sent)
        await client.provide_and_register(sent)
    assert len({etree.fromstring(header)[0].get("ID") for header in made}) == 2


async def test_f14_an_expired_certificate_sends_nothing(strict, signing_keys, signer):
    clock = Hand()
    late = PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, clock)
    clock.moment = NOW + timedelta(days=4000)
    async with client_of(strict, asserting(late, clock)) as client:
        answer = await client.provide_and_register(signed(signer))
    assert (type(answer).__name__, answer.reason) == ("NotSent", "certificate-expired")
