"""ITI-57 as we write it: the bytes of a withdrawal, and what the index's answer to it means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from lxml import etree

from indexer.ports import Accepted, Ambiguous, EntryFound, Rejected, Submission
from indexer.xds.answers import AnswerRules, Reply, entry_answer, update_answer
from indexer.xds.metadata import status_change, submission
from security.errors import Broken
from security.identity import Uid
from tests.unit.test_answers import (
    ENTRY_UUID,
    FAILURE,
    HOLD,
    SUCCESS,
    entry,
    errors,
    listed,
    registry_response,
    reply,
)
from tests.unit.test_metadata import CONTEXT, EDITION, KOS, MANIFEST, PUBLISHER, RIM, xdsb_schema

DELETED = "urn:asip:ci-sis:2010:StatusType:Deleted"
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
TARGET = "urn:uuid:94c44c3c-2fc3-5a4d-b0bc-000000000000"
PUBLISHED = submission(MANIFEST, CONTEXT, EDITION, KOS, PUBLISHER)


def change(published: Submission = PUBLISHED, **other: object):
    words = {
        "unique_id": Uid("2.25.77"),
        "created_at": datetime(2026, 3, 3, 8, 0, tzinfo=UTC),
        "new_status": DELETED,
        "publisher": PUBLISHER,
    }
    return status_change(published, TARGET, **{**words, **other})


def identifiers(root: etree._Element) -> dict[str, str]:
    return {
        i.find(f"{RIM}Name/{RIM}LocalizedString").get("value"): i.get("value")
        for i in root.iter(f"{RIM}ExternalIdentifier")
    }


def test_a_withdrawal_is_a_set_and_one_association_that_says_from_where_to_where() -> None:
    made = change()
    (package, association) = etree.fromstring(made.metadata)[0]
    assert (made.unique_id, made.entry_uuid) == (PUBLISHED.unique_id, TARGET)
    assert association.tag == f"{RIM}Association"
    assert association.get("associationType") == "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
    assert association.get("sourceObject") == package.get("id")
    assert association.get("targetObject") == TARGET
    stated = {slot.get("name"): [v.text for v in slot.iter(f"{RIM}Value")] for slot in association}
    assert stated == {"OriginalStatus": [APPROVED], "NewStatus": [DELETED]}


def test_it_speaks_for_the_patient_and_the_source_of_the_published_bytes() -> None:
    published = identifiers(etree.fromstring(PUBLISHED.metadata))
    asked = identifiers(etree.fromstring(change().metadata))
    assert asked == {
        "XDSSubmissionSet.patientId": published["XDSDocumentEntry.patientId"],
        "XDSSubmissionSet.sourceId": published["XDSSubmissionSet.sourceId"],
        "XDSSubmissionSet.uniqueId": "2.25.77",
    }
    renamed = replace(PUBLISHER, source_id="2.25.1")
    assert identifiers(etree.fromstring(change(publisher=renamed).metadata)) == asked


def test_the_same_request_has_the_same_bytes_and_another_one_other_ids() -> None:
    assert change().metadata == change().metadata
    ids = [
        {e.get("id") for e in etree.fromstring(change(unique_id=uid).metadata)[0]}
        for uid in (Uid("2.25.77"), Uid("2.25.78"))
    ]
    assert ids[0].isdisjoint(ids[1])


def test_the_status_is_that_of_the_profile() -> None:
    assert b"<rim:Value>urn:other:Removed</rim:Value>" in change(new_status="urn:other:Removed").metadata


def test_stored_bytes_that_name_nobody_are_a_defect() -> None:
    empty = b'<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>'
    with pytest.raises(Broken) as caught:
        change(Submission(unique_id="2.25.1", metadata=empty, documents={}))
    assert caught.value.code == "published-unreadable"


@pytest.mark.corpus
def test_our_withdrawal_validates_against_the_schemas_of_the_standard() -> None:
    xdsb_schema().assertValid(etree.fromstring(change().metadata))


# -- what the answer means ---------------------------------------------------------------------------------------


def refusal(*codes: str) -> Reply:
    return reply(registry_response(FAILURE, errors(*codes)), mtom=False)


def test_success_is_accepted() -> None:
    assert update_answer(reply(registry_response(SUCCESS), mtom=False), HOLD) == Accepted()


@pytest.mark.parametrize(
    "code",
    [
        "UnresolvedReferenceException",
        "XDSDuplicateUniqueIdInRegistry",
        "XDSMetadataUpdateError",
        "XDSMetadataVersionError",
        "XDSRegistryDeprecatedDocumentError",
    ],
)
def test_i09_an_entry_that_is_no_longer_as_we_saw_it_is_asked_for_before_anything_else(code: str) -> None:
    assert isinstance(update_answer(refusal(code), HOLD), Ambiguous)


@pytest.mark.parametrize(
    "code", ["LocalPolicyRestrictionError", "XDSPatientIDReconciliationError", "XDSMetadataUpdateOperationError"]
)
def test_a_refusal_that_only_a_person_can_change_is_lasting(code: str) -> None:
    answer = update_answer(refusal(code), HOLD)
    assert isinstance(answer, Rejected)
    assert (answer.lasting, answer.known, answer.codes) == (True, True, (code,))


def test_a_busy_registry_may_be_asked_again() -> None:
    answer = update_answer(refusal("XDSRegistryBusy"), HOLD)
    assert isinstance(answer, Rejected)
    assert (answer.lasting, answer.known) == (False, True)


def test_an_entry_that_the_index_still_shows_as_deleted_is_found_as_such() -> None:
    shown = listed(entry().replace(APPROVED, DELETED))
    assert entry_answer(shown, "2.25.1", HOLD) == EntryFound(
        entry_uuid=ENTRY_UUID, unique_id="2.25.1", status="Deleted"
    )
    other = AnswerRules(deleted_status="urn:other:Removed")
    assert not isinstance(entry_answer(shown, "2.25.1", other), EntryFound)
