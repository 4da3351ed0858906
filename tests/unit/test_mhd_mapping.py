"""``indexer.mhd``: XDS and FHIR there and back, the Bundle of ITI-65, what a Bundle must not be."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import gate
from indexer.mhd import mapping, values
from indexer.mhd import vocabulary as mhd
from indexer.mhd.transaction import provide_bundle, read_bundle, withdrawal_bundle
from indexer.ports import Submission
from indexer.xds import vocabulary as xds
from indexer.xds.dialect import DIALECTS
from indexer.xds.metadata import status_change, submission
from indexer.xds.objects import DocumentEntry, read_submission
from security.errors import BadInput
from security.identity import Uid
from security.parse.xml import parse_xml
from tests.fixtures.exams import CONTEXT, EDITION, MANIFEST
from tests.support.world import make_policy

PUBLISHER = make_policy(gate.Rules(), 1.0).publisher
KOS = b"\x00" * 128 + b"DICM of nobody"
SENT = submission(MANIFEST, CONTEXT, EDITION, KOS, PUBLISHER)


def stored(sent: Submission) -> DocumentEntry:
    (entry,) = read_submission(parse_xml(sent.metadata, what="test")).entries
    return entry


def said(entry: DocumentEntry) -> dict[str, object]:
    """What an entry says, whatever its ids, its order and the names of its identifiers."""
    return {
        "mime": entry.mime_type,
        "slots": {s.name: s.values for s in entry.slots},
        "title": [t.value for t in entry.name],
        "comments": [t.value for t in entry.description],
        "codes": sorted(
            (c.scheme, c.code, c.slots, c.name[0].value if c.name else "") for c in entry.classifications
        ),
        "ids": {i.scheme: i.value for i in entry.identifiers},
    }


@pytest.mark.parametrize("profile", ["drim-m", "xds-i", "mado"])
def test_an_entry_says_the_same_after_the_way_to_fhir_and_back(profile: str) -> None:
    sent = submission(MANIFEST, CONTEXT, EDITION, KOS, PUBLISHER, dialect=DIALECTS[profile])
    entry = stored(sent)
    written = json.loads(json.dumps(mapping.document_reference(entry, url="urn:uuid:x")))
    assert said(mapping.entry_of(written, entry_id="other")) == said(entry)


def test_the_elements_of_a_document_reference_are_those_of_mhd() -> None:
    made = mapping.document_reference(stored(SENT), url="urn:uuid:x")
    attachment = made["content"][0]["attachment"]
    assert attachment["hash"] == base64.b64encode(hashlib.sha1(KOS).digest()).decode()
    assert attachment["size"] == 142
    assert attachment["contentType"] == "application/dicom"
    assert made["status"] == "current"
    assert made["masterIdentifier"]["value"] == f"urn:oid:{EDITION.unique_id}"
    assert made["masterIdentifier"]["type"]["coding"][0]["code"] == "uniqueId"
    assert made["subject"]["identifier"]["system"] == "urn:oid:1.2.250.1.213.1.4.10"
    assert made["content"][0]["format"]["system"] == "http://dicom.nema.org/resources/ontology/DCMUID"
    assert "docStatus" not in made
    assert "data" not in attachment


def test_ff21_the_same_submission_gives_the_same_bytes() -> None:
    again = submission(MANIFEST, CONTEXT, EDITION, KOS, PUBLISHER)
    assert provide_bundle(SENT) == provide_bundle(again)
    assert provide_bundle(SENT)[1] == 3


def test_what_a_bundle_brings_is_what_was_stored() -> None:
    provided = read_bundle(provide_bundle(SENT)[0])
    (entry,) = provided.objects.entries
    assert said(entry) == said(stored(SENT))
    assert entry.id == stored(SENT).id
    assert provided.documents == {entry.id: KOS}
    assert not provided.withdraws


def test_a_replacement_names_the_old_document_twice() -> None:
    old = "DocumentReference/7ce87567-0e04-53b3-91d5-db2bec028bba"
    sent = submission(MANIFEST, CONTEXT, replace(EDITION, replaces=old), KOS, PUBLISHER)
    bundle = json.loads(provide_bundle(sent)[0])
    (patched,) = [e for e in bundle["entry"] if e["request"]["method"] == "PATCH"]
    assert patched["request"]["url"] == old
    (reference,) = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DocumentReference"]
    assert reference["relatesTo"] == [{"code": "replaces", "target": {"reference": old}}]
    targets = {a.target for a in read_bundle(json.dumps(bundle).encode()).objects.associations if a.type == xds.RPLC}
    assert targets == {"urn:uuid:7ce87567-0e04-53b3-91d5-db2bec028bba"}


@pytest.mark.parametrize("half", ["patch", "relation"])
def test_half_a_replacement_is_refused(half: str) -> None:
    old = "DocumentReference/7ce87567-0e04-53b3-91d5-db2bec028bba"
    sent = submission(MANIFEST, CONTEXT, replace(EDITION, replaces=old), KOS, PUBLISHER)
    bundle = json.loads(provide_bundle(sent)[0])
    if half == "patch":
        for entry in bundle["entry"]:
            entry["resource"].pop("relatesTo", None)
    else:
        bundle["entry"] = [e for e in bundle["entry"] if e["request"]["method"] != "PATCH"]
    with pytest.raises(BadInput) as caught:
        read_bundle(json.dumps(bundle).encode())
    assert caught.value.code == "XDSMetadataUpdateOperationError"


def test_a_withdrawal_is_a_list_and_a_patch() -> None:
    change = status_change(
        SENT,
        "DocumentReference/7ce87567-0e04-53b3-91d5-db2bec028bba",
        unique_id=Uid("2.25.9"),
        created_at=EDITION.created_at,
        new_status=xds.STATUS_DELETED,
        publisher=PUBLISHER,
    )
    data, entries = withdrawal_bundle(change)
    provided = read_bundle(data)
    assert entries == 2
    assert provided.withdraws
    (moved,) = provided.objects.associations
    assert moved.type == xds.UPDATE_AVAILABILITY_STATUS
    assert moved.values("NewStatus") == (xds.STATUS_DELETED,)
    assert provided.objects.sets[0].identifier(xds.SET_SOURCE_ID) == PUBLISHER.source_id


@pytest.mark.parametrize("form", ["bundle", "binary"])
def test_a_fhir_manifest_travels_as_itself_or_in_a_binary_and_arrives_byte_for_byte(form: str) -> None:
    document = '{"resourceType":"Bundle","type":"document","entry":[],"note":"é"}'.encode()
    sent = submission(MANIFEST, CONTEXT, EDITION, document, PUBLISHER, dialect=DIALECTS["mado"], form="fhir")
    data, _ = provide_bundle(sent, fhir_documents=form)  # type: ignore[arg-type]
    kinds = [e["resource"]["resourceType"] for e in json.loads(data)["entry"]]
    assert kinds[-1] == ("Bundle" if form == "bundle" else "Binary")
    assert list(read_bundle(data).documents.values()) == [document]


def changed(**how: object) -> bytes:
    """The request of SENT with one thing changed."""
    bundle = json.loads(provide_bundle(SENT)[0])
    for name, value in how.items():
        copy.deepcopy(WRONG[name])(bundle, value)  # type: ignore[operator]
    return json.dumps(bundle).encode()


def resource(bundle: dict, kind: str) -> dict:
    return next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind)


WRONG = {
    "type": lambda b, v: b.update(type=v),
    "profile": lambda b, v: b["meta"].update(profile=[v]),
    "alien": lambda b, v: b["entry"].append(
        {"fullUrl": "urn:uuid:a", "resource": {"resourceType": v}, "request": {"method": "POST", "url": v}}
    ),
    "folder": lambda b, v: b["entry"].append(
        {
            "fullUrl": "urn:uuid:a",
            "resource": {
                "resourceType": "List",
                "code": {"coding": [{"system": mhd.LIST_TYPES, "code": "folder"}]},
            },
            "request": {"method": "POST", "url": "List"},
        }
    ),
    "method": lambda b, v: b["entry"][1]["request"].update(method=v),
    "hash": lambda b, v: resource(b, "DocumentReference")["content"][0]["attachment"].update(hash=v),
    "data": lambda b, v: resource(b, "DocumentReference")["content"][0]["attachment"].update(data=v),
    "url": lambda b, v: resource(b, "DocumentReference")["content"][0]["attachment"].update(url=v),
    "status": lambda b, v: resource(b, "DocumentReference").update(status=v),
    "subject": lambda b, v: resource(b, "DocumentReference").update(subject=v),
    "members": lambda b, v: resource(b, "List").update(entry=v),
    "twice": lambda b, _: b["entry"].append(b["entry"][2]),
    "creation": lambda b, v: resource(b, "DocumentReference")["content"][0]["attachment"].update(creation=v),
    "delayed": lambda b, v: resource(b, "DocumentReference")["content"][0]["attachment"].update(size=0, hash=v),
}


@pytest.mark.parametrize(
    ("how", "value", "code"),
    [
        ("type", "batch", "mhd-structure"),
        ("profile", "http://example.org/p", "mhd-structure"),
        ("alien", "Observation", "mhd-structure"),
        ("folder", "", "XDSRegistryMetadataError"),
        ("method", "PUT", "mhd-structure"),
        ("hash", "not base64!", "XDSRepositoryMetadataError"),
        ("data", "AAAA", "mhd-structure"),
        ("url", "http://169.254.169.254/", "XDSMissingDocument"),
        ("status", "entered-in-error", "XDSRegistryMetadataError"),
        ("subject", {"reference": "Patient/1"}, "XDSUnknownPatientId"),
        ("subject", {"identifier": {"system": "http://example.org", "value": "1"}}, "XDSUnknownPatientId"),
        ("subject", {"identifier": {"system": "urn:oid:1.2.3"}}, "XDSUnknownPatientId"),
        ("members", [], "mhd-structure"),
        ("twice", "", "mhd-structure"),
        ("creation", "2026-01-08T10:25:00", "XDSRegistryMetadataError"),
        ("delayed", mhd.DELAYED_ASSEMBLY_HASH, "XDSRegistryMetadataError"),
    ],
)
def test_a_bundle_that_breaks_a_rule_is_told_which_and_shows_no_value(how: str, value: object, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_bundle(changed(**{how: value}))
    assert caught.value.code == code
    for secret in ("FANTÔME", "LÉA", "285067512300109", "IPP-1"):
        assert secret not in str(caught.value)


def test_t23_a_request_that_is_no_json_of_this_shape_is_bad_input() -> None:
    for data in (b"", b"[", b"[]", b'{"resourceType":"Bundle"}', b"[" * 100_000, b'{"type":1,"type":2}'):
        with pytest.raises(BadInput):
            read_bundle(data)


@given(st.text(alphabet="a^&|~\\éE T", max_size=12))
def test_hl7_escapes_are_undone_and_made_again(value: str) -> None:
    assert values.unescaped(values.escaped(value)) == value


@pytest.mark.parametrize(
    ("dtm", "moment"),
    [
        ("2026", "2026"),
        ("202601", "2026-01"),
        ("20260108", "2026-01-08"),
        ("20260108102500", "2026-01-08T10:25:00Z"),
    ],
)
def test_a_time_is_utc_in_both(dtm: str, moment: str) -> None:
    assert values.moment_of_dtm(dtm) == moment
    assert values.dtm_of_moment(moment, "x") == dtm


def test_an_offset_is_turned_into_utc() -> None:
    assert values.dtm_of_moment("2020-02-02T23:50:50-05:00", "x") == "20200203045050"


def test_hexadecimal_and_base64_are_one_hash() -> None:
    digest = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"  # SHA-1 of "The quick brown fox jumps over the lazy dog"
    assert values.base64_of_hex(digest) == "L9ThxnotKPzthJ7hu3bnORuT6xI="
    assert values.hex_of_base64("L9ThxnotKPzthJ7hu3bnORuT6xI=", "x") == digest
