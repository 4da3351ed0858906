"""A record of the trail as DICOM says it and as FHIR says it: codes, parties, and nothing of a patient."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.feeds.syslog import frame, header
from security.audit import AuditRecord
from security.audit.event import audit_event, batch
from security.audit.message import Source, audit_message
from security.audit.vocabulary import TABLE, row_of
from security.outbox.states import State
from tests.support.audit_events import written

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = etree.RelaxNG(etree.parse(ROOT / "tests/support/audit_message.rng"))
SOURCE = Source(name="poterne-1", site="clinique-fantome")
MARKERS = ("MARQUEUR", "279035121518989", "19790315")
INDEX = "5a" * 32


def record(**fields: object) -> AuditRecord:
    made = AuditRecord(
        tenant="chu", zone="index", at=datetime(2026, 11, 28, 9, 30, 0, 250_000, tzinfo=UTC), event="index.retrieved",
        actor="gateway-peer certificate 0123456789abcdef", outcome=0, object_type="document", object_id="1.2.250.1.7",
        detail="Success", address="192.0.2.7", peer="CN=box-2,O=CHU", purpose="normal", patient=INDEX,
    )  # fmt: skip
    return replace(made, **fields)  # type: ignore[arg-type]


def parsed(made: AuditRecord) -> etree._Element:
    return etree.fromstring(audit_message(made, SOURCE, number=7))


def test_every_event_that_the_source_writes_has_a_row_in_the_table():
    found = written(ROOT)

    assert {"session.opened", "index.queried", "dicom.received", "trial.started", "application.started"} <= set(found)
    assert {name: place for name, place in found.items() if name[-1] not in "*-" and name not in TABLE} == {}
    said = "".join(one.read_text("utf-8") for one in sorted((ROOT / "gateway/dimse").glob("*.py")))
    associations = re.findall(r'(?:_trail|association\.note)\("([a-z-]+)"', said)
    assert len(associations) >= 6
    assert {f"dicom.association-{one}" for one in associations} <= set(TABLE)
    assert {f"job.{state.value.lower()}" for state in State} <= set(TABLE)
    outward = ("sent", "accepted", "published", "unknown", "dead")
    told = {name: [code.value for code in TABLE[f"job.sent.{name}"].types] for name in ("iti-41", "iti-57", "iti-65")}
    assert told == {"iti-41": ["ITI-41"], "iti-57": ["ITI-57"], "iti-65": ["ITI-65"]}
    assert all(TABLE[f"job.{what}.{name}"] == TABLE[f"job.sent.{name}"] for what in outward for name in told)


@pytest.mark.parametrize("event", sorted(TABLE))
def test_every_row_gives_a_message_of_the_schema_and_an_event_of_r4(event):
    made = record(event=event)

    SCHEMA.assertValid(parsed(made))
    AuditEvent.model_validate(audit_event(made, SOURCE, number=7))


def test_a_retrieval_is_an_export_to_who_asked():
    root = parsed(record())

    event = root.find("EventIdentification")
    assert event.get("EventActionCode") == "R"
    assert event.get("EventDateTime") == "2026-11-28T09:30:00.250Z"
    assert event.find("EventID").get("csd-code") == "110106"
    assert [code.get("csd-code") for code in event.findall("EventTypeCode")] == ["ITI-43", "index.retrieved"]
    asker, we = root.findall("ActiveParticipant")
    assert (asker.find("RoleIDCode").get("csd-code"), we.find("RoleIDCode").get("csd-code")) == ("110152", "110153")
    assert (asker.get("NetworkAccessPointID"), asker.get("NetworkAccessPointTypeCode")) == ("192.0.2.7", "2")
    assert asker.get("AlternativeUserID") == "CN=box-2,O=CHU"
    document, patient = root.findall("ParticipantObjectIdentification")
    assert (document.get("ParticipantObjectID"), document.get("ParticipantObjectTypeCodeRole")) == (
        "1.2.250.1.7",
        "3",
    )
    assert (patient.get("ParticipantObjectID"), patient.get("ParticipantObjectTypeCode")) == (INDEX, "1")
    assert patient.get("ParticipantObjectSensitivity") == "blind index"


def test_a_query_is_told_by_its_digest_and_never_by_its_words():
    root = parsed(record(event="index.queried", object_type="query", object_id="ab" * 32))

    asked = root.find("ParticipantObjectIdentification")
    assert (asked.get("ParticipantObjectTypeCodeRole"), asked.get("ParticipantObjectID")) == ("24", "ab" * 32)
    assert root.find("EventIdentification/EventID").get("csd-code") == "110112"


def test_iti_68_claims_the_basic_audit_pattern_of_a_patients_read():
    made = audit_event(record(event="index.document-read"), SOURCE, number=7)

    assert made["meta"] == {
        "profile": ["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"]
    }
    assert (made["type"]["code"], made["subtype"][0]["code"], made["action"]) == ("rest", "read", "R")
    assert [agent["type"]["coding"][0]["code"] for agent in made["agent"]] == ["110152", "110153"]
    assert made["entity"][1]["what"]["identifier"]["value"] == INDEX
    assert made["purposeOfEvent"][0]["coding"][0]["code"] == "normal"


@pytest.mark.parametrize("event", sorted(e for e in TABLE if not TABLE[e].tells_words))
def test_t34_what_a_person_wrote_reaches_no_message(event):
    made = record(event=event, detail=" ".join(MARKERS))

    sent = audit_message(made, SOURCE, number=7) + json.dumps(audit_event(made, SOURCE, number=7)).encode()

    words = [base64.b64decode(one.get("value")).decode() for one in parsed(made).iter("ParticipantObjectDetail")]
    assert not [mark for mark in MARKERS if mark.encode() in sent or mark in " ".join(words)]


def test_the_words_of_persons_are_marked_as_untold():
    """Reasons for a release, a pause or a break of glass are typed by people."""
    for event in ("exam.released", "exam.taken-out", "exam.let-in", "exam.retried", "exam.hurried", "queue.paused",
                  "break-glass.opened", "consent.asked", "audit.read"):  # fmt: skip
        assert not row_of(event).tells_words, event


def test_an_event_without_a_row_is_told_under_its_own_name_rather_than_not_at_all():
    root = parsed(record(event="fan.tome"))

    SCHEMA.assertValid(root)
    assert root.find("EventIdentification/EventID").get("csd-code") == "110100"
    assert root.find("EventIdentification/EventTypeCode").get("csd-code") == "fan.tome"


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=40), event=st.sampled_from(sorted(TABLE)))
def test_whatever_stands_in_a_record_becomes_a_message_of_the_schema(text, event):
    made = record(event=event, actor=text, object_id=text, detail=text, peer=text, purpose=text)

    SCHEMA.assertValid(parsed(made))


def test_a_batch_is_a_bundle_of_posts_in_order():
    events = [audit_event(record(object_id=f"1.2.{n}"), SOURCE, number=n) for n in (1, 2, 3)]

    bundle = batch(events)

    Bundle.model_validate(bundle)
    assert bundle["type"] == "batch"
    assert [one["request"] for one in bundle["entry"]] == [{"method": "POST", "url": "AuditEvent"}] * 3
    assert [one["resource"]["entity"][0]["what"]["identifier"]["value"] for one in bundle["entry"]] == [
        "1.2.1", "1.2.2", "1.2.3"
    ]  # fmt: skip


def test_the_header_is_that_of_rfc_5424_with_the_msgid_of_iti_20():
    at = datetime(2026, 11, 28, 9, 30, 0, 250_000, tzinfo=UTC)

    assert header(at=at, host="poterne 1", process="42", is_failure=False) == (
        b"<85>1 2026-11-28T09:30:00.250Z poterne1 poterne 42 IHE+RFC-3881 - "
    )
    assert header(at=at, host="é", process="", is_failure=True).startswith(
        b"<84>1 2026-11-28T09:30:00.250Z - poterne - "
    )


def test_a_frame_counts_octets_not_characters():
    assert frame("é".encode()) == b"2 \xc3\xa9"
