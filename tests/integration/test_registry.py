"""The index node on real sockets and a real SQLite file."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3

import pytest
from lxml import etree

from indexer.registry.app import start
from indexer.xds import soap
from indexer.xds import vocabulary as v
from security.errors import Refused
from tests.contract.store_parts.engines import BOTH, fresh
from tests.fixtures.xds_submissions import APND, JULES, MANIFEST, ONDINE, RPLC, Draft, adhoc_query, slot
from tests.integration.registry_lab import REPOSITORY, RIM, ids, outcome, provide, retrieve_set, running
from tests.unit.test_registry_rows import carries_patient_key, tables_of

APPROVED, DEPRECATED = f"('{v.STATUS_APPROVED}')", f"('{v.STATUS_DEPRECATED}')"
FIND = {"$XDSDocumentEntryPatientId": f"'{ONDINE}'", "$XDSDocumentEntryStatus": APPROVED}
SECOND = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", content=b"second manifest")


@pytest.fixture(params=BOTH)
async def peer(request, tmp_path):
    engine = fresh(request.param, request)
    async with running(tmp_path if engine.name == "sqlite" else engine.place) as peer:
        yield peer


async def test_a_submission_is_found_by_query_and_comes_back_byte_for_byte(peer):
    assert await peer.submit(Draft()) == ("Success", [])
    entry_uuid, status = await peer.entry("2.25.100001")
    assert entry_uuid.startswith("urn:uuid:")
    assert status == "Approved"
    assert ids(await peer.query(v.FIND_DOCUMENTS, FIND)) == [entry_uuid]
    assert await peer.retrieve("2.25.100001") == ("Success", [], [MANIFEST])


async def test_the_repository_completes_hash_size_and_its_own_id(peer):
    bare = Draft()
    request = bare.request
    for name in ("hash", "size"):
        found = request.find(f".//{RIM}ExtrinsicObject/{RIM}Slot[@name='{name}']")
        found.getparent().remove(found)
    elements, attachments = soap.document_elements({"Document01": MANIFEST})
    await peer.ask(v.ITI_41, provide(request, elements), attachments)
    body = await peer.query(v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": "'2.25.100001'"})
    stated = {
        s.get("name"): s.findtext(f".//{RIM}Value") for s in body.iterfind(f".//{RIM}ExtrinsicObject/{RIM}Slot")
    }
    assert stated["hash"] == "6f90c2b50d280d03526020e9d19502af8379e8e2"
    assert stated["size"] == "28"
    assert stated["repositoryUniqueId"] == REPOSITORY


async def test_a_document_may_come_as_inline_base64(peer):
    inline = b'<xdsb:Document id="Document01">RElDTSBpbnZlbnRlZCBtYW5pZmVzdCBieXRlcw==</xdsb:Document>'
    assert outcome((await peer.ask(v.ITI_41, provide(Draft().request, inline))).body) == ("Success", [])
    assert (await peer.retrieve("2.25.100001"))[2] == [MANIFEST]


async def test_a_refused_submission_leaves_nothing(peer):
    torn = Draft(content=b"x").request
    elements, attachments = soap.document_elements({"Document01": MANIFEST})
    answer = await peer.ask(v.ITI_41, provide(torn, elements), attachments)
    assert outcome(answer.body) == ("Failure", ["XDSRepositoryMetadataError"] * 2)  # hash and size
    assert ids(await peer.query(v.FIND_DOCUMENTS, FIND)) == []
    assert await peer.retrieve("2.25.100001") == ("Failure", ["XDSDocumentUniqueIdError"], [])


async def test_a_registration_without_bytes_is_found_but_not_retrievable_here(peer):
    draft = Draft(extra_slots=(slot("repositoryUniqueId", "1.2.250.1.999.77"),))
    answer = await peer.ask(v.ITI_42, etree.tostring(draft.request), path="/xds/registry")
    assert outcome(answer.body) == ("Success", [])
    assert (await peer.entry("2.25.100001"))[1] == "Approved"
    assert (await peer.retrieve("2.25.100001"))[:2] == ("Failure", ["XDSDocumentUniqueIdError"])


async def test_ff21_the_same_submission_again_is_a_duplicate_and_changes_nothing(peer):
    await peer.submit(Draft())
    first = await peer.entry("2.25.100001")
    assert await peer.submit(Draft()) == ("Failure", ["XDSDuplicateUniqueIdInRegistry"] * 2)  # entry and set
    assert await peer.entry("2.25.100001") == first


async def test_ff21_the_same_submission_again_succeeds_where_the_site_says_so(tmp_path):
    async with running(tmp_path, resubmission="success") as peer:
        await peer.submit(Draft())
        first = await peer.entry("2.25.100001")
        assert await peer.submit(Draft()) == ("Success", [])
        assert await peer.entry("2.25.100001") == first
        other_bytes = Draft(content=MANIFEST[::-1])
        assert "XDSNonIdenticalHash" in (await peer.submit(other_bytes))[1]


async def test_ff21_other_bytes_under_a_known_unique_id_are_refused(peer):
    await peer.submit(Draft())
    codes = (await peer.submit(Draft(set_unique_id="2.25.200009", content=b"something else")))[1]
    assert codes == ["XDSNonIdenticalHash", "XDSNonIdenticalSize"]
    assert (await peer.retrieve("2.25.100001"))[2] == [MANIFEST]


async def test_ff22_a_replacement_deprecates_its_target_in_the_same_moment(peer):
    await peer.submit(Draft())
    old = (await peer.entry("2.25.100001"))[0]
    new = Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", content=b"second", links=((RPLC, old),))
    assert await peer.submit(new) == ("Success", [])
    assert (await peer.entry("2.25.100001"))[1] == "Deprecated"
    newest = (await peer.entry("2.25.100002"))[0]
    assert ids(await peer.query(v.FIND_DOCUMENTS, FIND)) == [newest]
    assert ids(await peer.query(v.FIND_DOCUMENTS, FIND | {"$XDSDocumentEntryStatus": DEPRECATED})) == [old]
    assert (await peer.retrieve("2.25.100001"))[0] == "Success"  # history stays readable


async def test_ff22_a_deprecated_document_cannot_be_replaced_again(peer):
    await peer.submit(Draft())
    old = (await peer.entry("2.25.100001"))[0]
    await peer.submit(Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((RPLC, old),)))
    third = Draft(unique_id="2.25.100003", set_unique_id="2.25.200003", links=((RPLC, old),))
    assert await peer.submit(third) == ("Failure", ["XDSRegistryDeprecatedDocumentError"])
    assert (await peer.entry("2.25.100002"))[1] == "Approved"


async def test_ff22_a_replacement_of_what_never_was_indexed_is_refused(peer):
    lost = Draft(links=((RPLC, "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001"),))
    assert await peer.submit(lost) == ("Failure", ["UnresolvedReferenceException"])


async def test_ff22_a_replacement_takes_what_was_appended_with_it(peer):
    await peer.submit(Draft())
    old = (await peer.entry("2.25.100001"))[0]
    await peer.submit(Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((APND, old),)))
    await peer.submit(Draft(unique_id="2.25.100003", set_unique_id="2.25.200003", links=((RPLC, old),)))
    assert [(await peer.entry(f"2.25.10000{n}"))[1] for n in (1, 2, 3)] == ["Deprecated", "Deprecated", "Approved"]


async def test_ff22_of_two_replacements_at_once_one_wins(peer):
    await peer.submit(Draft())
    old = (await peer.entry("2.25.100001"))[0]
    rivals = [Draft(unique_id=f"2.25.10010{n}", set_unique_id=f"2.25.20010{n}", links=((RPLC, old),)) for n in (1, 2)]
    answers = await asyncio.gather(*map(peer.submit, rivals))
    assert sorted(answers) == [("Failure", ["XDSRegistryDeprecatedDocumentError"]), ("Success", [])]


async def test_twenty_submissions_at_once_are_all_kept(peer):
    drafts = [Draft(unique_id=f"2.25.4{n:02}", set_unique_id=f"2.25.5{n:02}", content=b"%d" % n) for n in range(20)]
    assert await asyncio.gather(*map(peer.submit, drafts)) == [("Success", [])] * 20
    assert len(ids(await peer.query(v.FIND_DOCUMENTS, FIND))) == 20
    assert (await peer.retrieve(*(d.unique_id for d in drafts)))[2] == [d.content for d in drafts]


async def test_the_same_submission_twice_at_once_is_kept_once(peer):
    answers = await asyncio.gather(*[peer.submit(Draft()) for _ in range(5)])
    assert sorted(status for status, _ in answers) == ["Failure"] * 4 + ["Success"]
    assert len(ids(await peer.query(v.FIND_DOCUMENTS, FIND))) == 1


async def test_two_patients_are_never_mixed(peer):
    await peer.submit(Draft())
    await peer.submit(Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", patient=JULES, content=b"his"))
    hers, his = (await peer.entry("2.25.100001"))[0], (await peer.entry("2.25.100002"))[0]
    assert ids(await peer.query(v.FIND_DOCUMENTS, FIND)) == [hers]
    assert ids(await peer.query(v.FIND_DOCUMENTS, FIND | {"$XDSDocumentEntryPatientId": f"'{JULES}'"})) == [his]
    both = {"$XDSDocumentEntryEntryUUID": f"('{hers}','{his}')"}
    assert outcome(await peer.query(v.GET_DOCUMENTS, both)) == ("Failure", ["XDSResultNotSinglePatient"])
    assert ids(await peer.query(v.GET_DOCUMENTS, both, "ObjectRef"), "ObjectRef") == [hers, his]
    crossed = Draft(unique_id="2.25.100003", set_unique_id="2.25.200003", patient=JULES, links=((RPLC, hers),))
    assert await peer.submit(crossed) == ("Failure", ["XDSPatientIdDoesNotMatch"])


async def test_a_patient_is_found_with_and_without_the_type_of_the_identifier(peer):
    await peer.submit(Draft())
    without = FIND | {"$XDSDocumentEntryPatientId": f"'{ONDINE.removesuffix('^NH')}'"}
    assert len(ids(await peer.query(v.FIND_DOCUMENTS, without))) == 1


@pytest.mark.parametrize(
    "hostile",
    [
        "nobody^^^&1.2.250.1.213.1.4.10&ISO'' OR 1=1 --",
        "'' UNION SELECT content FROM registry_document --^^^&1.2.3&ISO",
        "%^^^&1.2.250.1.213.1.4.10&ISO",
    ],
)
async def test_an_injected_value_is_only_text(peer, hostile):
    await peer.submit(Draft())
    body = await peer.query(v.FIND_DOCUMENTS, FIND | {"$XDSDocumentEntryPatientId": f"'{hostile}'"})
    assert ids(body) == []
    assert outcome(body) in [("Success", []), ("Failure", ["XDSRegistryError"])]
    assert ids(await peer.query(v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": f"'{hostile}'"})) == []
    assert len(ids(await peer.query(v.FIND_DOCUMENTS, FIND))) == 1


async def test_an_exam_is_found_by_its_study(peer):
    await peer.submit(Draft())
    await peer.submit(Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", study="2.25.300002"))
    wanted = "2.25.300002^^^&1.2.250.1.999.7.3&ISO^urn:ihe:iti:xds:2016:studyInstanceUID"
    body = await peer.query(
        v.FIND_DOCUMENTS_BY_REFERENCE_ID, FIND | {"$XDSDocumentEntryReferenceIdList": f"('{wanted}')"}
    )
    assert ids(body) == [(await peer.entry("2.25.100002"))[0]]


async def test_sets_associations_and_relatives_are_found(peer):
    await peer.submit(Draft())
    old = (await peer.entry("2.25.100001"))[0]
    await peer.submit(Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((RPLC, old),)))
    new = (await peer.entry("2.25.100002"))[0]
    sets = {"$XDSSubmissionSetPatientId": f"'{ONDINE}'", "$XDSSubmissionSetStatus": APPROVED}
    first_set, second_set = ids(await peer.query(v.FIND_SUBMISSION_SETS, sets), "RegistryPackage")

    links = await peer.query(v.GET_ASSOCIATIONS, {"$uuid": f"('{old}')"})
    assert sorted((a.get("sourceObject"), a.get("targetObject")) for a in links.iter(RIM + "Association")) == sorted(
        [(first_set, old), (new, old)]
    )
    both = await peer.query(v.GET_DOCUMENTS_AND_ASSOCIATIONS, {"$XDSDocumentEntryEntryUUID": f"'{new}'"})
    assert (ids(both), len(ids(both, "Association"))) == ([new], 2)
    holding = await peer.query(v.GET_SUBMISSION_SETS, {"$uuid": f"('{new}')"})
    assert (ids(holding, "RegistryPackage"), len(ids(holding, "Association"))) == ([second_set], 1)
    whole = await peer.query(v.GET_SUBMISSION_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": "'2.25.200001'"})
    assert (ids(whole, "RegistryPackage"), ids(whole), len(ids(whole, "Association"))) == ([first_set], [old], 1)
    related = await peer.query(
        v.GET_RELATED_DOCUMENTS, {"$XDSDocumentEntryEntryUUID": f"'{old}'", "$AssociationTypes": f"('{RPLC}')"}
    )
    assert (sorted(ids(related)), len(ids(related, "Association"))) == (sorted([old, new]), 1)


async def test_more_than_an_answer_may_hold_is_an_error_never_a_shortened_list(tmp_path):
    async with running(tmp_path, objects_max=2) as peer:
        for n in range(3):
            await peer.submit(Draft(unique_id=f"2.25.4{n}", set_unique_id=f"2.25.5{n}"))
        body = await peer.query(v.FIND_DOCUMENTS, FIND)
        assert (outcome(body), ids(body)) == (("Failure", ["XDSTooManyResults"]), [])


async def test_a_retrieval_answers_for_each_document(peer):
    await peer.submit(Draft())
    assert await peer.retrieve("2.25.100001", "2.25.9") == (
        "PartialSuccess",
        ["XDSDocumentUniqueIdError"],
        [MANIFEST],
    )
    assert await peer.retrieve("2.25.100001", repository="1.2.3") == ("Failure", ["XDSUnknownRepositoryId"], [])


async def test_a_document_named_many_times_is_answered_once(tmp_path):
    async with running(tmp_path, home="urn:oid:1.2.250.1.999.1") as peer:
        await peer.submit(Draft())
        assert await peer.retrieve(*["2.25.100001"] * 64) == ("Success", [], [MANIFEST])
        at_home = b"<x:HomeCommunityId>urn:oid:1.2.250.1.999.1</x:HomeCommunityId><x:RepositoryUniqueId>"
        twice = retrieve_set("2.25.100001", "2.25.100001").replace(b"<x:RepositoryUniqueId>", at_home, 1)
        assert len((await peer.ask(v.ITI_43, twice)).attachments) == 1


async def test_documents_that_do_not_fit_into_one_answer_are_named_and_not_opened(tmp_path):
    async with running(tmp_path, answer_bytes_max=42) as peer:
        await peer.submit(Draft())  # 28 bytes
        await peer.submit(SECOND)  # 15 bytes
        await peer.submit(Draft(unique_id="2.25.100003", set_unique_id="2.25.200003", content=b"fourteen bytes"))
        peer.store.statements.clear()
        assert await peer.retrieve("2.25.100001", "2.25.100002", "2.25.100003", "2.25.9") == (
            "PartialSuccess",
            ["XDSRepositoryOutOfResources", "XDSDocumentUniqueIdError"],
            [MANIFEST, b"fourteen bytes"],
        )
        assert sum("FROM registry_document" in sql for sql in peer.store.statements) == 2
        assert await peer.retrieve("2.25.100002") == ("Success", [], [b"second manifest"])


async def test_a_document_alone_is_never_too_large_for_its_answer(tmp_path):
    async with running(tmp_path, answer_bytes_max=10) as peer:
        await peer.submit(Draft())
        await peer.submit(SECOND)
        assert await peer.retrieve("2.25.100001", "2.25.100002") == (
            "PartialSuccess",
            ["XDSRepositoryOutOfResources"],
            [MANIFEST],
        )


async def test_another_community_is_unknown_here(peer):
    await peer.submit(Draft())
    asked = retrieve_set("2.25.100001").replace(
        b"<x:RepositoryUniqueId>", b"<x:HomeCommunityId>urn:oid:1.2</x:HomeCommunityId><x:RepositoryUniqueId>"
    )
    envelope = await peer.ask(v.ITI_43, asked)
    assert outcome(envelope.body[0]) == ("Failure", ["XDSUnknownCommunity"])


async def test_a_restart_keeps_everything(tmp_path):
    async with running(tmp_path) as peer:
        await peer.submit(Draft())
        before = await peer.entry("2.25.100001")
    async with running(tmp_path) as peer:
        assert await peer.entry("2.25.100001") == before
        assert (await peer.retrieve("2.25.100001"))[2] == [MANIFEST]
        assert (await peer.submit(Draft()))[0] == "Failure"


async def test_the_file_holds_no_patient_in_the_clear(tmp_path):
    async with running(tmp_path) as peer:
        await peer.submit(Draft())
    with sqlite3.connect(tmp_path / "index.db") as db:
        dump = "\n".join(db.iterdump()).encode() + (tmp_path / "index.db").read_bytes()
    db.close()
    for value in ("285059999900131", "FANTÔME", "Ondine", "IPP-0007", "manifest bytes", "ACC-1"):
        assert value.encode() not in dump
        assert value.encode().hex().upper().encode() not in dump


async def test_each_change_has_its_audit_row_in_the_same_transaction(peer):
    await peer.submit(Draft())
    old = (await peer.entry("2.25.100001"))[0]
    await peer.submit(Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((RPLC, old),)))
    await peer.submit(Draft())  # refused
    sql = "SELECT zone, event, object_id FROM audit_record WHERE event <> 'index.queried' ORDER BY seq"
    listed = await peer.store.read(lambda tx: tx.rows(sql))
    assert [tuple(row.values()) for row in listed] == [
        ("index", "index.registered", "2.25.100001"),
        ("index", "index.deprecated", old),
        ("index", "index.registered", "2.25.100002"),
    ]


async def test_every_statement_really_run_carries_the_patient_key_or_asks_the_locator(peer):
    await peer.submit(Draft())
    old = (await peer.entry("2.25.100001"))[0]
    await peer.submit(Draft(unique_id="2.25.100002", set_unique_id="2.25.200002", links=((RPLC, old),)))
    await peer.query(v.FIND_DOCUMENTS, FIND)
    await peer.query(v.GET_ASSOCIATIONS, {"$uuid": f"'{old}'"})
    await peer.query(v.GET_SUBMISSION_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": "'2.25.200001'"})
    await peer.retrieve("2.25.100001")
    run = {sql for sql in peer.store.statements if "audit_record" not in sql}
    assert len(run) == 11
    assert all(tables_of(sql) == {"registry_locator"} or carries_patient_key(sql) for sql in run)


BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Body>&b;</soap:Body></soap:Envelope>"""
EXTERNAL = BOMB.replace(b'<!ENTITY a "aaaaaaaaaa">', b'<!ENTITY a SYSTEM "file:///etc/hostname">')
DEEP = b"<x>" * 5000 + b"</x>" * 5000


@pytest.mark.parametrize("data", [BOMB, EXTERNAL, DEEP, b"", b"<html>", b"\x00" * 100])
async def test_t20_xml_that_is_a_trap_gets_a_fault(peer, data):
    status, content_type, body = await peer.post(data, "application/soap+xml")
    assert status == 400
    with pytest.raises(soap.SoapFault) as fault:
        soap.decode(content_type, body)
    assert fault.value.fault_code == "Sender"


def _parts(count: int) -> bytes:
    return b"".join(b"--b\r\nContent-ID: <%d@x>\r\n\r\n\r\n" % n for n in range(count)) + b"--b--\r\n"


@pytest.mark.parametrize(
    "data", [_parts(100_000), b"--b\r\n\r\nhalf", b"--b--\r\n"], ids=["many parts", "truncated", "no part"]
)
async def test_t22_a_multipart_trap_gets_a_fault(peer, data):
    status, _, body = await peer.post(data, 'multipart/related; boundary="b"; type="application/xop+xml"')
    assert status == 400
    assert b":Sender<" in body


async def test_t22_a_document_that_names_no_attachment_gets_a_fault(peer):
    elements, attachments = soap.document_elements({"Document01": MANIFEST})
    content_type, data = soap.encode_request(
        action=v.ITI_41,
        to="x",
        message_id="urn:uuid:1",
        body=provide(Draft().request, elements.replace(b"cid:document-1", b"cid:document-2")),
        attachments=attachments,
        mtom=True,
    )
    assert (await peer.post(data, content_type))[0] == 400


async def test_t24_a_compressed_body_is_not_unpacked(peer):
    packed = gzip.compress(b"\x00" * 1_000_000)
    assert (await peer.post(packed, "application/soap+xml", **{"Content-Encoding": "gzip"}))[0] == 415


async def test_a_body_over_the_cap_is_refused_unread(peer):
    assert (await peer.post(b"x" * (33 * 1024 * 1024), "application/soap+xml"))[0] == 413


@pytest.mark.parametrize(
    ("path", "action"),
    [("/xds/registry", v.ITI_41), ("/xds/repository", v.ITI_18), ("/xds", "urn:ihe:iti:2010:UpdateDocumentSet")],
)
async def test_an_action_this_address_does_not_serve_gets_a_fault(peer, path, action):
    content_type, data = soap.encode_request(
        action=action, to="x", message_id="urn:uuid:77", body=retrieve_set("1.2"), mtom=False
    )
    status, answered_type, body = await peer.post(data, content_type, path)
    assert status == 400
    with pytest.raises(soap.SoapFault) as fault:
        soap.decode(answered_type, body)
    assert (fault.value.fault_code, fault.value.relates_to) == ("Sender", "urn:uuid:77")


@pytest.mark.parametrize("action", [v.ITI_41, v.ITI_42, v.ITI_43])
async def test_a_body_that_is_not_the_actions_gets_a_fault(peer, action):
    other = etree.tostring(adhoc_query(v.FIND_DOCUMENTS, FIND))
    content_type, data = soap.encode_request(action=action, to="x", message_id="urn:uuid:7", body=other, mtom=False)
    assert (await peer.post(data, content_type))[0] == 400


async def test_the_log_holds_no_value(peer, caplog):
    caplog.set_level("DEBUG")
    await peer.submit(Draft())
    await peer.submit(Draft())
    await peer.query(v.FIND_DOCUMENTS, FIND)
    await peer.post(b"<x>285059999900131</x", "application/soap+xml")
    said = " ".join(str(vars(record)) for record in caplog.records)
    assert "XDSDuplicateUniqueIdInRegistry" in said
    assert not any(value in said for value in ("285059", "FANTÔME", "Ondine", "2.25.100001"))


async def test_health_says_live_and_ready(peer):
    async with peer._session.get(peer.base + "/live") as live, peer._session.get(peer.base + "/ready") as ready:
        assert (live.status, ready.status) == (200, 200)


async def test_a_node_without_its_store_is_not_ready(peer):
    await peer.store.close()
    async with peer._session.get(peer.base + "/ready") as ready:
        assert ready.status == 503
    content_type, data = soap.encode_request(
        action=v.ITI_43, to="x", message_id="urn:uuid:7", body=retrieve_set("1.2"), mtom=False
    )
    status, _, body = await peer.post(data, content_type)
    assert status in {500, 503}
    assert b":Receiver<" in body


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "index.example.org", ""])
async def test_the_node_listens_on_loopback_only(host):
    with pytest.raises(Refused, match="index-not-loopback"):
        await start(object(), host=host, port=0)


async def test_a_document_of_megabytes_goes_in_and_out(peer):
    large = bytes(range(256)) * 12_000
    assert await peer.submit(Draft(content=large)) == ("Success", [])
    assert (await peer.retrieve("2.25.100001"))[2] == [large]
