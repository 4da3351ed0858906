"""ITI-57 at the index node: who may withdraw what, and what is seen of it afterwards. Real sockets, real SQLite."""

from __future__ import annotations

import asyncio

import pytest
from lxml import etree

from indexer.xds import vocabulary as v
from tests.fixtures.xds_submissions import DELETED, JULES, ONDINE, RPLC, UPDATE, Draft, update
from tests.integration.registry_lab import RIM as R
from tests.integration.registry_lab import ids, outcome, running
from tests.integration.test_corpus_registry import plain, schema, wsdl  # noqa: F401  # fixtures

APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
FIND = {"$XDSDocumentEntryPatientId": f"'{ONDINE}'", "$XDSDocumentEntryStatus": f"('{APPROVED}')"}
UID = "2.25.100001"


@pytest.fixture
async def peer(tmp_path):
    (tmp_path / "node").mkdir()
    async with running(tmp_path / "node") as peer:
        yield peer


@pytest.fixture
async def held(peer):
    """entryUUID of a document that the index holds."""
    assert await peer.submit(Draft()) == ("Success", [])
    return (await peer.entry(UID))[0]


async def ask(peer, body: bytes) -> tuple[str, list[str]]:
    return outcome((await peer.ask(v.ITI_57, body, path="/xds/registry")).body)


async def get(peer, unique_id: str = UID) -> list[str]:
    return ids(await peer.query(v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": f"('{unique_id}')"}))


async def test_what_was_withdrawn_is_not_shown_nor_given_out(peer, held):
    assert await ask(peer, update(held)) == ("Success", [])
    assert await get(peer) == []
    assert ids(await peer.query(v.FIND_DOCUMENTS, FIND)) == []
    shown = await peer.query(v.GET_SUBMISSION_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": "'2.25.200001'"})
    assert ids(shown) == []
    assert (await peer.retrieve(UID))[:2] == ("Failure", ["XDSDocumentUniqueIdError"])


async def test_who_names_the_status_sees_what_was_withdrawn(peer, held):
    await ask(peer, update(held))
    body = await peer.query(v.FIND_DOCUMENTS, FIND | {"$XDSDocumentEntryStatus": f"('{DELETED}')"})
    (entry,) = body.iter(R + "ExtrinsicObject")
    assert (entry.get("id"), entry.get("status")) == (held, DELETED)


async def test_the_request_is_kept_beside_what_it_withdrew(peer, held):
    await ask(peer, update(held))
    body = await peer.query(v.GET_ASSOCIATIONS, {"$uuid": f"('{held}')"})
    assert {a.get("associationType") for a in body.iter(R + "Association")} == {v.HAS_MEMBER, UPDATE}


async def test_somebody_else_s_document_is_not_withdrawn(peer, held):
    assert await ask(peer, update(held, source="1.2.250.1.999.8")) == ("Failure", ["LocalPolicyRestrictionError"])
    assert await get(peer) == [held]


async def test_a_document_is_not_withdrawn_in_the_name_of_another_patient(peer, held):
    assert await ask(peer, update(held, patient=JULES)) == ("Failure", ["XDSPatientIDReconciliationError"])
    assert await get(peer) == [held]


async def test_what_the_index_does_not_hold_cannot_be_withdrawn(peer, held):
    nobody = "urn:uuid:00000000-0000-4000-8000-00000000dead"
    assert await ask(peer, update(nobody)) == ("Failure", ["UnresolvedReferenceException"])
    body = await peer.query(v.GET_SUBMISSION_SETS, {"$uuid": f"('{held}')"})
    (package,) = ids(body, "RegistryPackage")
    assert await ask(peer, update(package)) == ("Failure", ["UnresolvedReferenceException"])


async def test_withdrawing_twice_is_refused_by_what_is_wrong_and_changes_nothing(peer, held):
    assert await ask(peer, update(held)) == ("Success", [])
    again = await ask(peer, update(held, set_unique_id="2.25.400002"))
    assert again == ("Failure", ["XDSMetadataUpdateError"])
    same = await ask(peer, update(held))
    assert same == ("Failure", ["XDSDuplicateUniqueIdInRegistry", "XDSMetadataUpdateError"])
    assert await get(peer) == []


async def test_two_withdrawals_at_once_have_one_winner(peer, held):
    answers = await asyncio.gather(*(ask(peer, update(held, set_unique_id=f"2.25.40000{n}")) for n in range(4)))
    assert sorted(status for status, _ in answers) == ["Failure", "Failure", "Failure", "Success"]


async def test_ff22_what_was_withdrawn_cannot_be_replaced(peer, held):
    await ask(peer, update(held))
    new = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((RPLC, held),))
    assert await peer.submit(new) == ("Failure", ["XDSRegistryDeprecatedDocumentError"])
    anew = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002")
    assert await peer.submit(anew) == ("Success", [])
    assert len(await get(peer, "2.25.100002")) == 1


async def test_what_was_replaced_cannot_be_withdrawn(peer, held):
    new = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", content=b"second", links=((RPLC, held),))
    await peer.submit(new)
    assert await ask(peer, update(held)) == ("Failure", ["XDSMetadataUpdateError"])
    assert (await peer.entry(UID))[1] == "Deprecated"


async def test_ff21_a_withdrawn_submission_sent_again_is_no_success(tmp_path):
    async with running(tmp_path, resubmission="success") as peer:
        await peer.submit(Draft())
        assert await peer.submit(Draft()) == ("Success", [])
        await ask(peer, update((await peer.entry(UID))[0]))
        assert (await peer.submit(Draft()))[0] == "Failure"
        assert await get(peer) == []


@pytest.mark.parametrize(
    ("bent", "code"),
    [
        ({"new": APPROVED}, "XDSMetadataUpdateError"),
        ({"new": "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"}, "XDSMetadataUpdateError"),
        ({"original": DELETED}, "XDSMetadataUpdateError"),
        ({"kind": "urn:ihe:iti:2010:AssociationType:SubmitAssociation"}, "XDSMetadataUpdateOperationError"),
        ({"patient": "no patient"}, "XDSRegistryMetadataError"),
        ({"source": "no oid"}, "XDSRegistryMetadataError"),
    ],
)
async def test_another_update_than_a_withdrawal_is_refused(peer, held, bent, code):
    assert await ask(peer, update(held, **bent)) == ("Failure", [code])
    assert await get(peer) == [held]


async def test_a_new_document_or_two_operations_at_once_are_no_update(peer, held):
    new = Draft(unique_id="2.25.100003", set_unique_id="2.25.400003")
    assert "XDSMetadataUpdateError" in (await ask(peer, etree.tostring(new.request)))[1]
    assert "XDSMetadataUpdateOperationError" in (await ask(peer, update(held, extra=new._entry())))[1]
    assert await get(peer) == [held]


async def test_a_node_of_another_profile_has_its_own_status(tmp_path):
    async with running(tmp_path, deleted_status="urn:other:Removed") as peer:
        await peer.submit(Draft())
        target = (await peer.entry(UID))[0]
        assert await ask(peer, update(target)) == ("Failure", ["XDSMetadataUpdateError"])
        assert await ask(peer, update(target, new="urn:other:Removed")) == ("Success", [])
        assert await get(peer) == []


async def test_a_restart_forgets_no_withdrawal(tmp_path):
    async with running(tmp_path) as peer:
        await peer.submit(Draft())
        await ask(peer, update((await peer.entry(UID))[0]))
    async with running(tmp_path) as peer:
        assert await get(peer) == []


async def test_the_repository_s_address_takes_no_update(peer, held):
    with pytest.raises(AssertionError):
        await peer.ask(v.ITI_57, update(held), path="/xds/repository")
    assert await get(peer) == [held]


@pytest.mark.corpus
async def test_the_answers_are_valid_by_the_schemas_of_the_standard(peer, held, schema):  # noqa: F811
    for body in (update(held), update(held)):  # Success, then Failure
        schema.assertValid(plain(await peer.ask(v.ITI_57, body, path="/xds/registry")))


@pytest.mark.corpus
async def test_a_foreign_sample_of_a_metadata_update_is_refused_as_one(peer):
    from tests.corpus import corpus

    body = etree.tostring(etree.parse(corpus("ihe", "xds-xml", "ipf-iti57-update.xml")).getroot())
    status, codes = await ask(peer, body)
    assert status == "Failure"
    assert "XDSMetadataUpdateOperationError" in codes
