"""ITI-57 with a new version of an entry's metadata, at the index node. Real sockets, real SQLite."""

from __future__ import annotations

import asyncio

import pytest

from indexer.xds import vocabulary as v
from tests.fixtures.xds_submissions import (
    APND,
    APPROVED,
    HAS_MEMBER,
    JULES,
    ONDINE,
    RPLC,
    Draft,
    revision,
    update,
)
from tests.integration.registry_lab import REPOSITORY, ids, outcome, running
from tests.integration.registry_lab import RIM as R

UID = "2.25.100001"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
LEVEL = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"


@pytest.fixture
async def peer(tmp_path):
    (tmp_path / "node").mkdir()
    async with running(tmp_path / "node") as peer:
        yield peer


@pytest.fixture
async def held(peer):
    """entryUUID, and logicalId, of a document that the index holds."""
    assert await peer.submit(Draft()) == ("Success", [])
    return (await peer.entry(UID))[0]


def revise(lid: str, **changes) -> bytes:
    return revision(lid, repository=REPOSITORY, **changes)


async def ask(peer, body: bytes) -> tuple[str, list[str]]:
    return outcome((await peer.ask(v.ITI_57, body, path="/xds/registry")).body)


async def found(peer, status: str) -> list:
    parameters = {"$XDSDocumentEntryPatientId": f"'{ONDINE}'", "$XDSDocumentEntryStatus": f"('{status}')"}
    return list((await peer.query(v.FIND_DOCUMENTS, parameters)).iter(R + "ExtrinsicObject"))


def level(entry) -> list[str]:
    return [
        c.get("nodeRepresentation")
        for c in entry.iter(R + "Classification")
        if c.get("classificationScheme") == LEVEL
    ]


async def test_the_new_version_stands_in_the_place_of_the_old_one(peer, held):
    assert await ask(peer, revise(held)) == ("Success", [])
    (new,) = await found(peer, APPROVED)
    assert new.get("id") != held
    assert new.get("lid") == held
    assert new.find(R + "VersionInfo").get("versionName") == "2"
    assert level(new) == ["R"]
    (old,) = await found(peer, DEPRECATED)
    assert (old.get("id"), old.find(R + "VersionInfo").get("versionName"), level(old)) == (held, "1", ["N"])
    assert await peer.entry(UID) == (new.get("id"), "Approved")
    assert (await peer.retrieve(UID))[2] == [Draft().content]


async def test_three_versions_make_a_chain(peer, held):
    for number in (1, 2):
        answer = await ask(peer, revise(held, previous=str(number), set_unique_id=f"2.25.50000{number}"))
        assert answer == ("Success", [])
    (new,) = await found(peer, APPROVED)
    assert (new.get("lid"), new.find(R + "VersionInfo").get("versionName")) == (held, "3")
    assert len(await found(peer, DEPRECATED)) == 2


async def test_a_withdrawal_hides_every_version(peer, held):
    await ask(peer, revise(held))
    newest = (await peer.entry(UID))[0]
    assert await ask(peer, update(held)) == ("Failure", ["XDSMetadataUpdateError"])
    assert await ask(peer, update(newest)) == ("Success", [])
    assert await found(peer, APPROVED) == []
    assert await found(peer, DEPRECATED) == []
    assert (await peer.retrieve(UID))[:2] == ("Failure", ["XDSDocumentUniqueIdError"])
    assert await ask(peer, revise(held, previous="2", set_unique_id="2.25.500009")) == (
        "Failure", ["XDSMetadataUpdateError"],
    )  # fmt: skip


async def test_ff22_a_replacement_names_the_newest_version(peer, held):
    await ask(peer, revise(held))
    newest = (await peer.entry(UID))[0]
    late = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((RPLC, held),))
    assert await peer.submit(late) == ("Failure", ["XDSRegistryDeprecatedDocumentError"])
    right = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((RPLC, newest),))
    assert await peer.submit(right) == ("Success", [])
    assert [e.get("id") for e in await found(peer, APPROVED)] == [(await peer.entry("2.25.100002"))[0]]


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"previous": "2"}, ["XDSMetadataVersionError"]),
        ({"previous": "0"}, ["XDSMetadataVersionError"]),
        ({"previous": "one"}, ["XDSMetadataVersionError"]),
        ({"source": "1.2.250.1.999.8"}, ["LocalPolicyRestrictionError"]),
        ({"draft": Draft(patient=JULES)}, ["XDSPatientIDReconciliationError"]),
        ({"draft": Draft(unique_id="2.25.100077")}, ["XDSMetadataIdentifierError"]),
        ({"draft": Draft(content=b"other bytes")}, ["UnmodifiableMetadataError"]),
        ({"propagation": "perhaps"}, ["XDSMetadataUpdateError"]),
        ({"set_unique_id": "2.25.200001"}, ["XDSDuplicateUniqueIdInRegistry"]),
        (
            {"extra": '<rim:Association id="x" associationType="urn:ihe:iti:2007:AssociationType:RPLC"'
             ' sourceObject="Document01" targetObject="urn:uuid:00000000-0000-4000-8000-00000000dead"/>'},
            ["XDSMetadataUpdateOperationError"],
        ),
    ],
    ids=["newer than it is", "no version", "no number", "another source", "another patient", "another uniqueId",
         "other bytes", "unknown propagation", "a set twice", "two operations"],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_with_its_code_and_changes_nothing(peer, held, changes, codes):
    assert await ask(peer, revise(held, **changes)) == ("Failure", codes)
    assert [(e.get("id"), level(e)) for e in await found(peer, APPROVED)] == [(held, ["N"])]


@pytest.mark.parametrize(
    ("lid", "code"),
    [
        ("urn:uuid:00000000-0000-4000-8000-00000000dead", "UnresolvedReferenceException"),
        ("Document09", "XDSMetadataUpdateError"),
    ],
)
async def test_what_is_no_logical_id_here_is_refused(peer, held, lid, code):
    assert await ask(peer, revise(lid)) == ("Failure", [code])


async def test_an_entry_uuid_of_a_later_version_is_no_logical_id(peer, held):
    await ask(peer, revise(held))
    newest = (await peer.entry(UID))[0]
    answer = await ask(peer, revise(newest, previous="2", set_unique_id="2.25.500002"))
    assert answer == ("Failure", ["UnresolvedReferenceException"])


async def test_of_two_revisions_of_one_version_one_wins(peer, held):
    answers = await asyncio.gather(*(ask(peer, revise(held, set_unique_id=f"2.25.50001{n}")) for n in range(4)))
    assert sorted(status for status, _ in answers) == ["Failure", "Failure", "Failure", "Success"]
    assert {code for _, codes in answers for code in codes} == {"XDSMetadataVersionError"}
    assert len(await found(peer, APPROVED)) == 1


@pytest.mark.parametrize(
    ("propagation", "kept"), [("yes", {HAS_MEMBER, APND}), ("no", {HAS_MEMBER}), ("", {HAS_MEMBER, APND})]
)
async def test_associations_follow_the_new_version_unless_told_otherwise(peer, held, propagation, kept):
    addendum = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((APND, held),))
    assert await peer.submit(addendum) == ("Success", [])
    assert await ask(peer, revise(held, propagation=propagation)) == ("Success", [])
    newest = (await peer.entry(UID))[0]
    body = await peer.query(v.GET_ASSOCIATIONS, {"$uuid": f"('{newest}')"})
    assert {a.get("associationType") for a in body.iter(R + "Association")} == kept


async def test_folders_are_refused_as_what_this_index_does_not_keep(peer, held):
    folder = (
        '<rim:RegistryPackage id="Folder01"><rim:Classification id="c99" classifiedObject="Folder01"'
        ' classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"/></rim:RegistryPackage>'
    )
    assert "XDSRegistryMetadataError" in (await ask(peer, revise(held, extra=folder)))[1]
    assert ids(await peer.query(v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": f"('{UID}')"})) == [held]


async def test_a_restart_forgets_no_version(tmp_path):
    async with running(tmp_path) as peer:
        await peer.submit(Draft())
        lid = (await peer.entry(UID))[0]
        await ask(peer, revise(lid))
        newest = await peer.entry(UID)
    async with running(tmp_path) as peer:
        assert await peer.entry(UID) == newest
        assert (await ask(peer, revise(lid, set_unique_id="2.25.500002")))[1] == ["XDSMetadataVersionError"]
