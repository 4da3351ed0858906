"""The FHIR door of the index node on a real socket: MHD beside XDS.b, on the same entries."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.mhd.transaction import provide_bundle
from indexer.mhd.vocabulary import FHIR_JSON
from indexer.registry.fhir.search import ENTRY_PARAMETERS, LIST_PARAMETERS
from indexer.xds.metadata import submission
from tests.corpus import corpus
from tests.fixtures.exams import CONTEXT, EDITION, MANIFEST
from tests.fixtures.xds_submissions import ONDINE, Draft
from tests.integration.registry_lab import Peer, running
from tests.unit.test_mhd_mapping import KOS, PUBLISHER, SENT

PATIENT = f"urn:oid:{MANIFEST.patient.ins.oid}|{MANIFEST.patient.ins.matricule}"  # type: ignore[union-attr]
ONDINE_ID, _, ONDINE_OID = ONDINE.partition("^^^&")
DRAFT_PATIENT = f"urn:oid:{ONDINE_OID.split('&')[0]}|{ONDINE_ID}"
STATUSES = "current,superseded"
BUNDLE = provide_bundle(SENT)[0]


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with running(tmp_path) as made:
        yield made


async def call(
    peer: Peer, method: str, path: str, data: bytes | None = None, params: Any = None, **headers: str
) -> tuple[int, Any, bytes]:
    async with peer._session.request(
        method, peer.base + "/fhir" + path, params=params, headers=headers, data=io.BytesIO(data) if data else None
    ) as response:
        body = await response.read()
        is_json = response.headers.get("Content-Type", "").startswith(FHIR_JSON)
        return response.status, json.loads(body) if is_json else None, body


async def provide(peer: Peer, bundle: bytes = BUNDLE) -> tuple[int, Any]:
    status, answer, _ = await call(peer, "POST", "", bundle, **{"Content-Type": FHIR_JSON})
    return status, answer


async def search(peer: Peer, **params: str) -> list[dict[str, Any]]:
    status, answer, _ = await call(peer, "GET", "/DocumentReference", params=params)
    assert status == 200, answer
    return [entry["resource"] for entry in answer.get("entry", [])]


def codes(outcome: Any) -> list[str]:
    return [issue["details"]["coding"][0]["code"] for issue in outcome["issue"]]


async def test_what_came_by_mhd_is_answered_entry_by_entry_and_fetched_by_both_doors(peer: Peer) -> None:
    status, answer = await provide(peer)
    assert (status, answer["type"]) == (200, "transaction-response")
    responses = [one["response"] for one in answer["entry"]]
    assert [one["status"] for one in responses] == ["201 Created"] * 3
    assert [one["location"].split("/")[0] for one in responses] == ["List", "DocumentReference", "Binary"]
    assert (await peer.entry(str(EDITION.unique_id)))[1] == "Approved"
    assert (await peer.retrieve(str(EDITION.unique_id)))[2] == [KOS]
    status, _, body = await call(peer, "GET", "/" + responses[2]["location"])
    assert (status, body) == (200, KOS)


async def test_what_came_by_xds_is_found_and_fetched_by_mhd(peer: Peer) -> None:
    draft = Draft()
    assert await peer.submit(draft) == ("Success", [])
    (found,) = await search(peer, **{"patient.identifier": DRAFT_PATIENT, "status": "current"})
    assert found["masterIdentifier"]["value"] == f"urn:oid:{draft.unique_id}"
    assert found["content"][0]["attachment"]["size"] == len(draft.content)
    url = found["content"][0]["attachment"]["url"].removeprefix(peer.base + "/fhir")
    assert (await call(peer, "GET", url))[2] == draft.content


async def test_both_doors_keep_the_same_metadata(peer: Peer, tmp_path: Path) -> None:
    """The same submission by ITI-41 and by ITI-65, in two indexes, reads the same by ITI-67."""
    other = tmp_path / "other"
    other.mkdir()
    await provide(peer)
    async with running(other) as xds_peer:
        from indexer.xds import soap
        from indexer.xds import vocabulary as v
        from tests.integration.registry_lab import outcome

        body, attachments = soap.provide_and_register_body(SENT)
        assert outcome((await xds_peer.ask(v.ITI_41, body, attachments)).body) == ("Success", [])
        (left,) = await search(peer, **{"patient.identifier": PATIENT, "status": "current"})
        (right,) = await search(xds_peer, **{"patient.identifier": PATIENT, "status": "current"})
    for one in (left, right):
        one["content"][0]["attachment"].pop("url")
        for name in ("date", "meta"):
            one.pop(name)
        one["subject"].pop("reference")
    assert left == right


async def test_ff21_the_same_bundle_again_adds_nothing_and_says_duplicate(peer: Peer) -> None:
    await provide(peer)
    status, answer = await provide(peer)
    assert status == 409
    assert "XDSDuplicateUniqueIdInRegistry" in codes(answer)
    assert len(await search(peer, **{"patient.identifier": PATIENT, "status": STATUSES})) == 1


async def test_ff21_a_node_that_takes_a_resubmission_answers_with_the_ids_it_gave(tmp_path: Path) -> None:
    async with running(tmp_path, resubmission="success") as peer:
        first, second = await provide(peer), await provide(peer)
        assert first == second


async def test_other_bytes_under_one_unique_id_are_refused(peer: Peer) -> None:
    await provide(peer)
    other = submission(MANIFEST, CONTEXT, EDITION, KOS + b"!", PUBLISHER)
    status, answer = await provide(peer, provide_bundle(other)[0])
    assert status == 409
    assert "XDSNonIdenticalHash" in codes(answer)
    assert (await peer.retrieve(str(EDITION.unique_id)))[2] == [KOS]


async def test_bytes_that_do_not_fit_their_hash_are_refused_and_nothing_is_kept(peer: Peer) -> None:
    bundle = json.loads(BUNDLE)
    bundle["entry"][2]["resource"]["data"] = base64.b64encode(KOS[:-1] + b"?").decode()
    status, answer = await provide(peer, json.dumps(bundle).encode())
    assert (status, codes(answer)) == (422, ["XDSRepositoryMetadataError"])
    assert await search(peer, **{"patient.identifier": PATIENT, "status": STATUSES}) == []


async def test_two_patients_in_one_bundle_are_refused(peer: Peer) -> None:
    bundle = json.loads(BUNDLE)
    bundle["entry"][0]["resource"]["subject"]["identifier"]["value"] = "285067599804896"
    status, answer = await provide(peer, json.dumps(bundle).encode())
    assert (status, codes(answer)) == (422, ["XDSPatientIdDoesNotMatch"])


async def test_a_document_of_another_patient_is_not_replaced(peer: Peer) -> None:
    assert await peer.submit(Draft()) == ("Success", [])
    (theirs,) = await search(peer, **{"patient.identifier": DRAFT_PATIENT, "status": "current"})
    ours = replace(EDITION, replaces=f"DocumentReference/{theirs['id']}")
    status, answer = await provide(peer, provide_bundle(submission(MANIFEST, CONTEXT, ours, KOS, PUBLISHER))[0])
    assert (status, codes(answer)) == (422, ["XDSPatientIdDoesNotMatch"])
    assert len(await search(peer, **{"patient.identifier": DRAFT_PATIENT, "status": "current"})) == 1


async def test_two_patients_are_never_mixed_in_a_search(peer: Peer) -> None:
    await provide(peer)
    await peer.submit(Draft())
    for patient in (PATIENT, DRAFT_PATIENT):
        (found,) = await search(peer, **{"patient.identifier": patient, "status": STATUSES})
        named = found["subject"]["identifier"]
        assert f"{named['system']}|{named['value']}" == patient
        by_id = await search(peer, patient=found["subject"]["reference"], status=STATUSES)
        assert [one["id"] for one in by_id] == [found["id"]]


HITS = {
    "patient.identifier": PATIENT,
    "identifier": f"urn:ietf:rfc:3986|urn:oid:{EDITION.unique_id}",
    "status": "current",
    "author.family": "pote",
    "author.given": "pote",
    "category": "urn:oid:1.2.250.1.213.1.1.4.1|31",
    "type": "IMG-KOS",
    "setting": "AMBULATOIRE",
    "facility": "urn:oid:1.2.250.1.71.4.2.4|",
    "security-label": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|N",
    "format": "http://dicom.nema.org/resources/CodeSystem/DICOM_UIDs|1.2.840.10008.5.1.4.1.1.88.59",
    "study-instance-uid": f"urn:oid:{MANIFEST.study}",
    "accession-number": MANIFEST.orders[0].accession_number,
    "related:identifier": f"urn:dicom:uid|urn:oid:{MANIFEST.study}",
    "creation": f"{EDITION.created_at:%Y}",
    "date": "ge2020-01-01",
    "period": "lt2100",
    "event": "http://dicom.nema.org/resources/ontology/DCM|CT",
    "modality": "CT",
    "bodysite": "http://snomed.info/sct|",
    "anatomical-region": "http://snomed.info/sct|",
}
MISSES = {
    "identifier": "urn:ietf:rfc:3986|urn:oid:1.2.3",
    "status": "superseded",
    "creation": "gt2099",
    "date": "lt2020-01-01",
    "period": "sa2099",
    "patient.identifier": "urn:oid:1.2.3|NOBODY",
}
LIST_HITS = {
    "identifier": f"urn:oid:{EDITION.submission_id}",
    "status": "current",
    "code": "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes|submissionset",
    "date": f"{EDITION.created_at:%Y-%m-%d}",
    "designationType": "04",
    "sourceId": f"urn:ietf:rfc:3986|urn:oid:{PUBLISHER.source_id}",
    "source.family": "Poterne",
    "source.given": "Poterne",
    "patient.identifier": PATIENT,
}


async def test_every_parameter_that_the_capability_statement_claims_finds_and_leaves_out(peer: Peer) -> None:
    await provide(peer)
    _, statement, _ = await call(peer, "GET", "/metadata")
    claimed = {
        one["type"]: {parameter["name"] for parameter in one.get("searchParam", [])}
        for one in statement["rest"][0]["resource"]
    }
    assert claimed["DocumentReference"] == set(ENTRY_PARAMETERS) == {*HITS, "patient"}
    assert claimed["List"] == set(LIST_PARAMETERS) == {*LIST_HITS, "patient"}
    assert {one["code"] for one in statement["rest"][0]["interaction"]} == {"transaction"}
    base = {"patient.identifier": PATIENT, "status": "current"}
    for name, value in HITS.items():
        assert len(await search(peer, **{**base, name: value})) == 1, name
        wrong = MISSES.get(name, "urn:oid:9.9|NOTHING")
        assert await search(peer, **{**base, name: wrong}) == [], name
    for name, value in LIST_HITS.items():
        status, answer, _ = await call(peer, "GET", "/List", params={**base, name: value})
        assert (status, answer["total"]) == (200, 1), name


async def test_a_search_is_the_same_by_get_and_by_post(peer: Peer) -> None:
    await provide(peer)
    form = f"patient.identifier={PATIENT.replace('|', '%7C')}&status=current".encode()
    status, answer, _ = await call(
        peer, "POST", "/DocumentReference/_search", form, **{"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (status, answer["total"]) == (200, 1)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "XDSStoredQueryMissingParam"),
        ({"status": "current"}, "XDSStoredQueryMissingParam"),
        ({"patient.identifier": PATIENT}, "XDSStoredQueryMissingParam"),
        ({"patient.identifier": "IPP-1", "status": "current"}, "XDSUnknownPatientId"),
        ({"patient": "Patient/1", "status": "current"}, "XDSUnknownPatientId"),
        ({"patient.identifier": f"{PATIENT},urn:oid:1.2|x", "status": "current"}, "XDSStoredQueryParamNumber"),
        ({"patient.identifier": PATIENT, "status": "all"}, "XDSRegistryError"),
        ({"patient.identifier": PATIENT, "status": "current", "_include": "x"}, "XDSRegistryError"),
        ({"patient.identifier": PATIENT, "status": "current", "date": "yesterday"}, "XDSRegistryError"),
        ({"patient.identifier": PATIENT, "status": "current", "_count": "0"}, "XDSRegistryError"),
        ({"_page": "AAAA"}, "XDSRegistryError"),
    ],
)
async def test_a_search_that_would_ignore_or_list_too_much_is_refused(
    peer: Peer, params: dict[str, str], code: str
) -> None:
    await provide(peer)
    status, answer, _ = await call(peer, "GET", "/DocumentReference", params=params)
    assert status in {400, 422}
    assert codes(answer) == [code]
    assert "285067512300109" not in json.dumps(answer)


async def test_a_list_is_paged_without_a_loss_and_no_link_names_the_patient(peer: Peer) -> None:
    for number in range(7):
        draft = Draft(unique_id=f"2.25.{100 + number}", set_unique_id=f"2.25.{200 + number}")
        assert await peer.submit(draft) == ("Success", [])
    seen: list[str] = []
    path, params = "/DocumentReference", {"patient.identifier": DRAFT_PATIENT, "status": "current", "_count": "3"}
    for _ in range(3):
        status, answer, _ = await call(peer, "GET", path, params=params)
        assert (status, answer["total"]) == (200, 7)
        seen += [entry["resource"]["masterIdentifier"]["value"] for entry in answer["entry"]]
        links = {link["relation"]: link["url"] for link in answer["link"]}
        assert ONDINE_ID not in "".join(links.values())
        path, params = links.get("next", "").removeprefix(peer.base + "/fhir"), {}
    assert path == ""
    assert sorted(seen) == [f"urn:oid:2.25.{100 + n}" for n in range(7)]


async def test_too_many_entries_are_an_error_never_a_shorter_list(tmp_path: Path) -> None:
    async with running(tmp_path, objects_max=2) as peer:
        for number in range(3):
            await peer.submit(Draft(unique_id=f"2.25.{100 + number}", set_unique_id=f"2.25.{200 + number}"))
        params = {"patient.identifier": DRAFT_PATIENT, "status": "current"}
        status, answer, _ = await call(peer, "GET", "/DocumentReference", params=params)
        assert (status, codes(answer)) == (400, ["XDSTooManyResults"])


async def test_a_document_is_given_as_it_is_as_a_resource_or_not_at_all(peer: Peer) -> None:
    _, answer = await provide(peer)
    path = "/" + answer["entry"][2]["response"]["location"]
    assert (await call(peer, "GET", path, Accept="application/dicom"))[2] == KOS
    status, binary, _ = await call(peer, "GET", path, Accept=FHIR_JSON)
    assert (status, base64.b64decode(binary["data"])) == (200, KOS)
    assert (await call(peer, "GET", path, Accept="image/jpeg"))[0] == 406
    assert (await call(peer, "GET", "/Binary/00000000-0000-4000-8000-000000000000"))[0] == 404
    assert (await call(peer, "GET", path.replace("Binary", "Observation")))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("DELETE", "/Binary/00000000-0000-4000-8000-000000000000", (405, "GET")),
        ("PATCH", "/DocumentReference", (405, "GET")),
        ("PUT", "/List/_search", (405, "POST")),
        ("DELETE", "/Observation", (404, None)),
    ],
)
async def test_another_method_at_an_address_is_told_those_that_are_served(
    peer: Peer, method: str, path: str, expected: tuple[int, str | None]
) -> None:
    async with peer._session.request(method, f"{peer.base}/fhir{path}") as answer:
        assert (answer.status, answer.headers.get("Allow")) == expected
        assert (await answer.json(content_type=FHIR_JSON))["resourceType"] == "OperationOutcome"


async def test_what_was_withdrawn_is_gone_by_both_doors(peer: Peer) -> None:
    from indexer.mhd.transaction import withdrawal_bundle
    from indexer.xds import vocabulary as v
    from indexer.xds.metadata import status_change
    from security.identity import Uid

    _, answer = await provide(peer)
    location = answer["entry"][1]["response"]["location"]
    for source, status in (("1.2.3.4", 403), (PUBLISHER.source_id, 200)):
        change = status_change(
            submission(MANIFEST, CONTEXT, EDITION, KOS, replace(PUBLISHER, source_id=source)),
            location,
            unique_id=Uid(f"2.25.9{status}"),
            created_at=EDITION.created_at,
            new_status=v.STATUS_DELETED,
            publisher=PUBLISHER,
        )
        assert (await provide(peer, withdrawal_bundle(change)[0]))[0] == status
    assert await search(peer, **{"patient.identifier": PATIENT, "status": STATUSES}) == []
    assert (await call(peer, "GET", "/" + location))[0] == 410
    assert (await call(peer, "GET", "/" + location.replace("DocumentReference", "Binary")))[0] == 410
    assert (await peer.retrieve(str(EDITION.unique_id)))[2] == []


async def test_xml_is_neither_taken_nor_given(peer: Peer) -> None:
    status, answer, _ = await call(peer, "POST", "", b"<Bundle/>", **{"Content-Type": "application/fhir+xml"})
    assert (status, "XML" in answer["issue"][0]["diagnostics"]) == (415, True)
    status, answer, _ = await call(peer, "GET", "/metadata", Accept="application/fhir+xml")
    assert (status, "XML" in answer["issue"][0]["diagnostics"]) == (406, True)


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"[" * 100_000, {}, 400),
        (b'{"a":1,"a":2}', {}, 400),
        (b'{"a":1e999999}', {}, 400),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415),
        (b"{}", {}, 400),
    ],
)
async def test_t23_t24_a_body_that_is_a_trap_gets_an_outcome(
    peer: Peer, data: bytes, headers: dict[str, str], status: int
) -> None:
    answered, answer, _ = await call(peer, "POST", "", data, **{"Content-Type": FHIR_JSON, **headers})
    assert answered == status
    assert answer["resourceType"] == "OperationOutcome"


async def test_curl_finds_and_fetches(peer: Peer, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    await provide(peer)

    async def run(*arguments: str) -> bytes:
        import asyncio

        process = await asyncio.create_subprocess_exec(curl, "-sS", *arguments, stdout=subprocess.PIPE)
        return (await process.communicate())[0]

    form = ("--data-urlencode", f"patient.identifier={PATIENT}", "--data-urlencode", "status=current")
    found = json.loads(await run(*form, f"{peer.base}/fhir/DocumentReference/_search"))
    assert found["total"] == 1
    assert await run(found["entry"][0]["resource"]["content"][0]["attachment"]["url"]) == KOS


async def test_an_outside_fhir_client_searches_reads_and_fetches(peer: Peer) -> None:
    from fhirpy import AsyncFHIRClient

    await provide(peer)
    client = AsyncFHIRClient(f"{peer.base}/fhir")
    found = (
        await client.resources("DocumentReference")
        .search(**{"patient.identifier": PATIENT, "status": "current"})
        .fetch_all()
    )
    assert [one["status"] for one in found] == ["current"]
    assert (await client.reference("DocumentReference", found[0].id).to_resource())["content"] == found[0]["content"]
    binary = await client.reference("Binary", found[0].id).to_resource()
    assert base64.b64decode(binary["data"]) == KOS


SAMPLES = {  # of IHE: why this index refuses each as published
    "Bundle-ex-comprehensiveProvideDocumentBundleSimple.json": "XDSUnknownPatientId",
    "Bundle-ex-comprehensiveProvideDocumentBundleReplace.json": "XDSUnknownPatientId",
    "Bundle-ex-comprehensiveProvideDocumentBundleMultiple.json": "XDSUnknownPatientId",
    "Bundle-ex-unContainedComprehensiveProvideDocumentBundleComplete.json": "XDSRegistryMetadataError",  # source
    "Bundle-ex-minimalProvideDocumentBundleSimple.json": "XDSUnknownPatientId",
    "Bundle-ex-minimalProvideDocumentBundleSimpleContained.json": "XDSUnknownPatientId",
}


@pytest.mark.corpus
@pytest.mark.parametrize("name", SAMPLES)
async def test_the_published_bundles_are_refused_for_whom_they_do_not_name(peer: Peer, name: str) -> None:
    """Their subject is a reference to a Patient elsewhere, or has no identifier under an OID; one refers to its
    author elsewhere. An index of XDS looks nowhere else."""
    status, answer = await provide(peer, corpus("ihe", "mhd", name).read_bytes())
    assert (status, codes(answer)) == (422, [SAMPLES[name]])


@pytest.mark.corpus
async def test_a_published_bundle_is_taken_once_its_patient_can_be_told(peer: Peer) -> None:
    bundle = json.loads(corpus("ihe", "mhd", "Bundle-ex-comprehensiveProvideDocumentBundleSimple.json").read_bytes())
    identifier = {"system": "urn:oid:1.2.3.4.5", "value": "mrn-1234"}
    for entry in bundle["entry"]:
        if "subject" in entry["resource"]:
            entry["resource"]["subject"] = {"identifier": identifier}
        for contained in entry["resource"].get("contained", []):
            if contained["resourceType"] == "Patient":
                contained["identifier"] = [identifier]
    status, answer = await provide(peer, json.dumps(bundle).encode())
    assert status == 200, answer
    (found,) = await search(peer, **{"patient.identifier": "urn:oid:1.2.3.4.5|mrn-1234", "status": "current"})
    assert found["type"]["coding"][0] == {"system": "http://loinc.org", "code": "60591-5"}
