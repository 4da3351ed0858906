"""Each rule of a submission, by bending one sound submission and naming the error that must come."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
from lxml import etree

from indexer.registry.validate import (
    Held,
    HeldObject,
    conflicts,
    document_faults,
    faults,
    is_resubmission,
    moment,
    patient_of,
)
from indexer.xds import vocabulary as v
from indexer.xds.objects import (
    DocumentEntry,
    element,
    read_entry,
    read_submission,
    resolved,
    serialised,
    with_slots,
)
from security.errors import BadInput
from tests.fixtures.xds_submissions import APND, JULES, MANIFEST, ONDINE, RIM, RPLC, Draft, code, external, slot

R = f"{{{RIM}}}"
OLD = "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001"
KEY, OTHER_KEY = bytes(range(32)), b"o" * 32
META = "XDSRegistryMetadataError"


def found(request: etree._Element, *, elsewhere: bool = False, authorities: frozenset[str] = frozenset()):
    submission = read_submission(request)
    return {
        (e.code, e.context)
        for e in faults(submission, patient_authorities=authorities, registered_elsewhere=elsewhere)
    }


def entry_of(request: etree._Element) -> etree._Element:
    return request.find(f".//{R}ExtrinsicObject")


def set_of(request: etree._Element) -> etree._Element:
    return request.find(f".//{R}RegistryPackage")


def drop_slot(name: str) -> Callable[[etree._Element], None]:
    def bend(request: etree._Element) -> None:
        target = request.find(f".//{R}Slot[@name='{name}']")
        target.getparent().remove(target)

    return bend


def set_slot(name: str, *values: str) -> Callable[[etree._Element], None]:
    def bend(request: etree._Element) -> None:
        target = request.find(f".//{R}Slot[@name='{name}']")
        new = etree.fromstring(f'<x xmlns:rim="{RIM}">{slot(name, *values)}</x>')[0]
        target.getparent().replace(target, new)

    return bend


def add_to_entry(xml: str) -> Callable[[etree._Element], None]:
    def bend(request: etree._Element) -> None:
        entry_of(request).append(etree.fromstring(f'<x xmlns:rim="{RIM}">{xml}</x>')[0])

    return bend


def drop(path: str) -> Callable[[etree._Element], None]:
    def bend(request: etree._Element) -> None:
        target = request.find(path)
        target.getparent().remove(target)

    return bend


def put(path: str, attribute: str, value: str) -> Callable[[etree._Element], None]:
    def bend(request: etree._Element) -> None:
        request.find(path).set(attribute, value)

    return bend


def scheme(uuid: str) -> str:
    return f".//{R}ExtrinsicObject/{R}Classification[@classificationScheme='{uuid}']"


def identifier(uuid: str) -> str:
    return f".//{R}ExternalIdentifier[@identificationScheme='{uuid}']"


ENTRY = f".//{R}ExtrinsicObject"
MEMBER = f".//{R}Association"

BENT = {
    "creationTime is required": (drop_slot("creationTime"), META, "Slot creationTime is missing"),
    "creationTime is a DTM": (set_slot("creationTime", "2024-03-11"), META, "Slot creationTime is not YYYY"),
    "creationTime is a day that exists": (set_slot("creationTime", "20240231"), META, "Slot creationTime is not YYYY"),
    "creationTime is stated once": (set_slot("creationTime", "2024", "2025"), META, "holds 2 values"),
    "a slot appears once": (add_to_entry(slot("languageCode", "fr")), META, "Slot languageCode appears 2 times"),
    "a time has no offset": (set_slot("serviceStartTime", "20240311091500+0100"), META, "serviceStartTime is not"),
    "an exam ends after it began": (set_slot("serviceStopTime", "20240310"), META, "serviceStopTime lies before"),
    "languageCode is required": (drop_slot("languageCode"), META, "Slot languageCode is missing"),
    "languageCode is a tag": (set_slot("languageCode", "français"), META, "Slot languageCode is not a language tag"),
    "sourcePatientId is required": (drop_slot("sourcePatientId"), META, "Slot sourcePatientId is missing"),
    "sourcePatientId names its authority": (set_slot("sourcePatientId", "IPP-7"), META, "sourcePatientId is not CX"),
    "sourcePatientInfo says PID-n": (set_slot("sourcePatientInfo", "PID5|X"), META, "sourcePatientInfo is not PID-n"),
    "hash is SHA-1 in hex": (set_slot("hash", "WU2+"), META, "Slot hash is not SHA-1"),
    "size is a number": (set_slot("size", "8 kB"), META, "Slot size is not a number"),
    "a reference names its type": (
        set_slot("urn:ihe:iti:xds:2013:referenceIdList", "ACC-1^^^&1.2.3&ISO"),
        META,
        "referenceIdList is not CXi",
    ),
    "submissionTime is required": (drop_slot("submissionTime"), META, "Slot submissionTime is missing"),
    "classCode is required": (drop(scheme(v.ENTRY_CLASS_CODE)), META, "classCode: 0 Classifications, exactly 1"),
    "typeCode is required": (drop(scheme(v.ENTRY_TYPE_CODE)), META, "typeCode: 0 Classifications, exactly 1"),
    "formatCode is required": (drop(scheme(v.ENTRY_FORMAT_CODE)), META, "formatCode: 0 Classifications, exactly 1"),
    "healthcareFacilityTypeCode is required": (
        drop(scheme(v.ENTRY_FACILITY_TYPE_CODE)),
        META,
        "healthcareFacilityTypeCode: 0 Classifications, exactly 1",
    ),
    "practiceSettingCode is required": (
        drop(scheme(v.ENTRY_PRACTICE_SETTING_CODE)),
        META,
        "practiceSettingCode: 0 Classifications, exactly 1",
    ),
    "confidentialityCode is required": (
        drop(scheme(v.ENTRY_CONFIDENTIALITY_CODE)),
        META,
        "confidentialityCode: 0 Classifications, at least 1",
    ),
    "contentTypeCode is required": (
        drop(f".//{R}RegistryPackage/{R}Classification[@classificationScheme='{v.SET_CONTENT_TYPE_CODE}']"),
        META,
        "contentTypeCode: 0 Classifications, exactly 1",
    ),
    "classCode stands once": (
        add_to_entry(code("41a5887f-8865-4c09-adf7-e362475b143a", "Document01", "11", "1.2", "x")),
        META,
        "classCode: 2 Classifications, exactly 1",
    ),
    "a code names its scheme": (
        drop(f"{scheme(v.ENTRY_TYPE_CODE)}/{R}Slot"),
        META,
        "typeCode without exactly one codingScheme",
    ),
    "a code has a value": (
        put(scheme(v.ENTRY_TYPE_CODE), "nodeRepresentation", ""),
        META,
        "typeCode without @nodeRepresentation",
    ),
    "a code has a display": (drop(f"{scheme(v.ENTRY_TYPE_CODE)}/{R}Name"), META, "typeCode without a Name (display)"),
    "a classification has a known scheme": (
        put(scheme(v.ENTRY_EVENT_CODE_LIST), "classificationScheme", "urn:uuid:00000000-0000-4000-8000-000000000000"),
        META,
        "a Classification of a scheme that ITI TF-3 4.2.5.2 does not list",
    ),
    "a classification classifies its own object": (
        put(scheme(v.ENTRY_TYPE_CODE), "classifiedObject", "Document99"),
        META,
        "a Classification whose classifiedObject is another object",
    ),
    "an identifier identifies its own object": (
        put(identifier(v.ENTRY_UNIQUE_ID), "registryObject", "Document99"),
        META,
        "an ExternalIdentifier whose registryObject is another object",
    ),
    "an author is somebody": (
        drop(f"{scheme(v.ENTRY_AUTHOR)}/{R}Slot"),
        META,
        "an author says neither person nor institution",
    ),
    "a document has a uniqueId": (drop(identifier(v.ENTRY_UNIQUE_ID)), META, "uniqueId: 0 ExternalIdentifiers"),
    "a uniqueId stands once": (
        add_to_entry(external("2e82c1f6-a085-4c72-9da3-8640a32e42ab", "Document01", "1.2.3", "uniqueId")),
        META,
        "uniqueId: 2 ExternalIdentifiers",
    ),
    "a uniqueId is an OID": (
        put(identifier(v.ENTRY_UNIQUE_ID), "value", "document-7"),
        META,
        "uniqueId has not the required syntax",
    ),
    "a patientId names its authority": (
        put(identifier(v.ENTRY_PATIENT_ID), "value", "285059999900131"),
        META,
        "patientId has not the required syntax",
    ),
    "a source is an OID": (
        put(identifier(v.SET_SOURCE_ID), "value", "hospital"),
        META,
        "sourceId has not the required syntax",
    ),
    "mimeType is type/subtype": (put(ENTRY, "mimeType", "dicom"), META, "mimeType is missing or not type/subtype"),
    "a document is a stable one": (
        put(ENTRY, "objectType", v.ON_DEMAND_DOCUMENT),
        META,
        "objectType is not that of a stable document",
    ),
    "set and entries speak of one patient": (
        put(identifier(v.ENTRY_PATIENT_ID), "value", JULES),
        "XDSPatientIdDoesNotMatch",
        "name several patients",
    ),
    "there is a submission set": (
        drop(f".//{R}RegistryPackage"),
        META,
        "exactly one SubmissionSet is needed, 0 found",
    ),
    "a package is a submission set": (
        drop(f".//{R}RegistryPackage/{R}Classification[@classificationNode]"),
        META,
        "this index does not keep: unclassified RegistryPackage",
    ),
    "folders are not kept": (
        put(f".//{R}Classification[@classificationNode]", "classificationNode", v.FOLDER_NODE),
        META,
        "this index does not keep: Folder",
    ),
    "every entry is a member of the set": (drop(MEMBER), META, "no HasMember association from the SubmissionSet"),
    "membership says Original": (set_slot("SubmissionSetStatus", "Reference"), META, "must be Original"),
    "an association has a target": (
        put(MEMBER, "targetObject", "Document02"),
        META,
        "the target is neither in this message nor an entryUUID",
    ),
    "the set has the members": (
        put(MEMBER, "sourceObject", "Document01"),
        META,
        "the source of HasMember is not the SubmissionSet",
    ),
    "an association is of a known type": (
        put(MEMBER, "associationType", "urn:ihe:iti:2010:AssociationType:IsSnapshotOf"),
        META,
        "an association type this index does not keep",
    ),
    "ids are unique": (put(ENTRY, "id", "SubmissionSet01"), META, "two objects share one id"),
    "an id that claims to be a UUID is one": (put(ENTRY, "id", "urn:uuid:1234"), META, "is no urn:uuid: UUID"),
    "uniqueIds differ inside a message": (
        put(identifier(v.ENTRY_UNIQUE_ID), "value", "2.25.200001"),
        "XDSRegistryDuplicateUniqueIdInMessage",
        "2 objects share the uniqueId 2.25.200001",
    ),
}  # fmt: skip


def test_a_sound_submission_has_no_faults():
    assert found(Draft().request) == set()


@pytest.mark.parametrize("rule", BENT)
def test_a_submission_that_breaks_one_rule_is_told_which(rule):
    bend, wanted_code, wanted_context = BENT[rule]
    request = Draft().request
    bend(request)
    assert any(c == wanted_code and wanted_context in context for c, context in found(request)), found(request)


@pytest.mark.parametrize("rule", BENT)
def test_no_error_shows_a_value_of_the_patient(rule):
    bend, _, _ = BENT[rule]
    request = Draft().request
    bend(request)
    shown = " ".join(context for _, context in found(request))
    assert not any(value in shown for value in ("285059", "170129", "FANTÔME", "Ondine", "IPP-7", "19850501"))


@pytest.mark.parametrize("kind", [RPLC, APND])
def test_ff22_a_replacement_may_not_aim_inside_its_own_message(kind):
    assert (META, "the target must be a document the index already holds") in found(
        Draft(links=((kind, "Document01"),)).request
    )


def test_ff22_one_message_replaces_a_document_once():
    assert (META, f"{OLD} is replaced 2 times in one message") in found(
        Draft(links=((RPLC, OLD), (RPLC, OLD))).request
    )


def test_any_authority_is_accepted_unless_some_are_named():
    assert found(Draft().request, authorities=frozenset({"1.2.250.1.213.1.4.10"})) == set()
    assert found(Draft().request, authorities=frozenset({"1.2.250.1.213.1.4.8"})) == {
        ("XDSUnknownPatientId", "the assigning authority of patientId is not one of this index")
    }


@pytest.mark.parametrize("name", ["hash", "size", "repositoryUniqueId"])
def test_a_registration_says_where_the_bytes_are_and_what_they_are(name):
    request = Draft(extra_slots=(slot("repositoryUniqueId", "1.2.250.1.999.9"),)).request
    assert found(request, elsewhere=True) == set()
    drop_slot(name)(request)
    assert found(request, elsewhere=True) == {(META, f"Slot {name} is missing; ITI-42 needs it")}


def test_the_order_of_slots_and_classifications_does_not_matter_for_reading():
    request = Draft().request
    entry = entry_of(request)
    references = entry.find(f"{R}Slot[@name='urn:ihe:iti:xds:2013:referenceIdList']")
    entry.insert(len(entry) - 2, references)  # after the Classifications, as the national samples write it
    moved = read_submission(request).entries[0]
    assert found(request) == set()
    assert moved.values("urn:ihe:iti:xds:2013:referenceIdList") == (
        "ACC-1^^^&1.2.250.1.999.7.2&ISO^urn:ihe:iti:xds:2013:accession",
        "2.25.300001^^^&1.2.250.1.999.7.3&ISO^urn:ihe:iti:xds:2016:studyInstanceUID",
    )


def test_what_is_written_stands_in_the_order_of_the_schema():
    request = Draft().request
    entry = entry_of(request)
    entry.append(entry.find(f"{R}Slot"))
    written = element(read_entry(entry))
    names = [etree.QName(child).localname for child in written]
    assert names == ["Slot"] * 9 + ["Name"] + ["Classification"] * 9 + ["ExternalIdentifier"] * 2


def test_the_classification_of_the_set_may_stand_beside_it():
    request = Draft().request
    package = set_of(request)
    package.getparent().append(package.find(f"{R}Classification[@classificationNode]"))
    assert found(request) == set()


def test_a_classification_of_nothing_is_refused():
    request = Draft().request
    beside = copy.deepcopy(set_of(request).find(f"{R}Classification[@classificationNode]"))
    beside.set("classifiedObject", "SubmissionSet77")
    request[0].append(beside)
    assert found(request) == {(META, "this index does not keep: classification of an absent object")}


def test_writing_and_reading_an_entry_gives_the_same_entry():
    submission = resolved(read_submission(Draft().request), iter(_urns()).__next__)
    entry = replace(
        with_slots(submission.entries[0], {"repositoryUniqueId": "1.2.3"}), version="1", home="urn:oid:1.2"
    )
    again = read_entry(etree.fromstring(serialised(entry)))
    assert again == replace(
        entry,
        classifications=tuple(replace(c, owner=entry.id) for c in entry.classifications),
        identifiers=tuple(replace(i, owner=entry.id) for i in entry.identifiers),
    )


def test_symbolic_ids_become_entry_uuids_everywhere():
    final = resolved(read_submission(Draft(links=((RPLC, OLD),)).request), iter(_urns()).__next__)
    entry, the_set = final.entries[0], final.sets[0]
    member, link = final.associations
    assert entry.id.startswith("urn:uuid:")
    assert entry.logical_id == entry.id
    assert (member.source, member.target) == (the_set.id, entry.id)
    assert (link.source, link.target) == (entry.id, OLD)


def test_given_entry_uuids_are_kept_in_lower_case():
    upper = "urn:uuid:0B0B0B0B-0000-4000-8000-00000000000A"
    final = resolved(read_submission(Draft(entry_id=upper).request), iter(_urns()).__next__)
    assert final.entries[0].id == upper.lower()
    assert final.associations[0].target == upper.lower()


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda r: r.remove(r[0]), "holds no rim:RegistryObjectList"),
        (lambda r: entry_of(r).attrib.pop("id"), "ExtrinsicObject without @id"),
        (lambda r: entry_of(r).find(f".//{R}Value").append(etree.Comment("x")), "rim:Value may hold text only"),
    ],
)
def test_what_has_no_ebrim_shape_is_refused_with_its_line(bend, said):
    request = Draft().request
    bend(request)
    with pytest.raises(BadInput, match=said):
        read_submission(request)


def test_documents_fit_their_metadata():
    submission = read_submission(Draft().request)
    assert document_faults(submission, {"Document01": MANIFEST}) == ()


@pytest.mark.parametrize(
    ("documents", "codes"),
    [
        ({}, ["XDSMissingDocument"]),
        ({"Document01": MANIFEST, "Document02": b"x"}, ["XDSMissingDocumentMetadata"]),
        ({"Document01": MANIFEST[::-1]}, ["XDSRepositoryMetadataError"]),
        ({"Document01": MANIFEST + b"x"}, ["XDSRepositoryMetadataError", "XDSRepositoryMetadataError"]),
    ],
    ids=["no bytes for an entry", "bytes without entry", "another hash", "another hash and size"],
)
def test_documents_that_do_not_fit_are_named(documents, codes):
    submission = read_submission(Draft().request)
    assert [e.code for e in document_faults(submission, documents)] == codes


def held(**changed: object) -> HeldObject:
    facts = {
        "entry_uuid": OLD, "unique_id": "2.25.99", "patient_key": KEY, "is_entry": True, "status": v.STATUS_APPROVED,
        "logical_id": OLD, "version": 1,
        "object_type": v.STABLE_DOCUMENT, "hash": "da39a3ee5e6b4b0d3255bfef95601890afd80709", "size": 0,
    }  # fmt: skip
    return HeldObject(**(facts | changed))


def clash(draft: Draft, objects: dict[str, HeldObject]) -> list[str]:
    submission = read_submission(draft.request)
    return [e.code for e in conflicts(submission, KEY, Held(objects=objects, taken=frozenset(objects)))]


@pytest.mark.parametrize(
    ("target", "codes"),
    [
        (held(), []),
        (held(status=v.STATUS_DEPRECATED), ["XDSRegistryDeprecatedDocumentError"]),
        (held(patient_key=OTHER_KEY), ["XDSPatientIdDoesNotMatch"]),
        (held(object_type=v.ON_DEMAND_DOCUMENT), [META]),
        (held(is_entry=False), ["UnresolvedReferenceException"]),
    ],
    ids=["approved", "deprecated", "another patient's", "another object type", "a set"],
)
def test_ff22_a_replacement_needs_an_approved_document_of_the_same_patient_and_type(target, codes):
    assert clash(Draft(links=((RPLC, OLD),)), {OLD: target}) == codes


def test_ff22_a_replacement_of_what_was_never_indexed_is_refused():
    assert clash(Draft(links=((RPLC, OLD),)), {}) == ["UnresolvedReferenceException"]


SAME = {"hash": "6f90c2b50d280d03526020e9d19502af8379e8e2", "size": 28}  # sha1sum and wc of MANIFEST


@pytest.mark.parametrize(
    ("there", "codes"),
    [
        (held(**SAME), ["XDSDuplicateUniqueIdInRegistry"]),
        (held(size=SAME["size"]), ["XDSNonIdenticalHash"]),
        (held(), ["XDSNonIdenticalHash", "XDSNonIdenticalSize"]),
        (held(is_entry=False), ["XDSDuplicateUniqueIdInRegistry"]),
    ],
    ids=["same bytes", "same size, other bytes", "other bytes", "a set has the id"],
)
def test_ff21_a_unique_id_in_use_is_refused_by_what_differs(there, codes):
    assert clash(Draft(), {"2.25.100001": there}) == codes


def test_ff21_a_submission_set_is_registered_once():
    assert clash(Draft(), {"2.25.200001": held(is_entry=False)}) == ["XDSDuplicateUniqueIdInRegistry"]


def test_an_entry_uuid_in_use_is_refused():
    assert clash(Draft(entry_id=OLD), {OLD: held()}) == [META]


@pytest.mark.parametrize(
    ("entry", "the_set", "same"),
    [
        (held(**SAME), held(is_entry=False), True),
        (held(), held(is_entry=False), False),
        (held(**SAME, patient_key=OTHER_KEY), held(is_entry=False), False),
        (held(**SAME), held(), False),
        (held(**SAME), None, False),
    ],
    ids=["the very same", "other bytes", "another patient", "the set's id is a document", "another set"],
)
def test_ff21_only_the_very_same_submission_counts_as_a_resubmission(entry, the_set, same):
    objects = {"2.25.100001": entry} | ({"2.25.200001": the_set} if the_set else {})
    submission = read_submission(Draft().request)
    assert is_resubmission(submission, KEY, Held(objects=objects, taken=frozenset(objects))) is same


@pytest.mark.parametrize(
    ("cx", "patient"),
    [
        (ONDINE, ("1.2.250.1.213.1.4.10", "285059999900131")),
        ("285059999900131^^^&1.2.250.1.213.1.4.10&ISO", ("1.2.250.1.213.1.4.10", "285059999900131")),
        ("IPP\\S\\7^^^&1.2.3&ISO^PI", ("1.2.3", "IPP\\S\\7")),
        ("285059999900131", None),
        ("285059999900131^^^1.2.250.1.213.1.4.10", None),
        ("^^^&1.2.3&ISO", None),
        ("a^^^&1.02&ISO", None),
    ],
)
def test_a_patient_is_an_identifier_and_its_authority_whatever_the_type_says(cx, patient):
    assert patient_of(cx) == patient


@pytest.mark.parametrize(
    ("dtm", "iso"),
    [
        ("2024", "2024-01-01T00:00:00"),
        ("202403", "2024-03-01T00:00:00"),
        ("20240229", "2024-02-29T00:00:00"),
        ("2024022923", "2024-02-29T23:00:00"),
        ("20240229235959", "2024-02-29T23:59:59"),
    ],
)
def test_a_dtm_stands_for_its_first_second(dtm, iso):
    assert moment(dtm).isoformat() == iso


@pytest.mark.parametrize("text", ["", "20230229", "202413", "20240101240000", "20240101120000.5", "２０２４", "24"])
def test_what_is_no_dtm_is_no_moment(text):
    assert moment(text) is None


def test_the_repr_of_an_entry_shows_its_id_only():
    entry: DocumentEntry = read_submission(Draft().request).entries[0]
    assert repr(entry) == "DocumentEntry(Document01)"


def _urns():
    for number in range(1, 1000):
        yield f"urn:uuid:00000000-0000-4000-8000-{number:012d}"
