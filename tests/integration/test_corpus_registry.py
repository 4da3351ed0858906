"""The index node against the standards' own schemas, a SOAP client of other hands, and other people's messages."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections import Counter

import pytest
import zeep
from lxml import etree

from indexer.xds import soap
from indexer.xds import vocabulary as v
from indexer.xds.metadata import submission
from tests.corpus import corpus
from tests.fixtures.xds_submissions import MANIFEST, ONDINE, Draft
from tests.integration.registry_lab import DSB, REPOSITORY, RIM, ids, outcome, provide, retrieve_set, running
from tests.unit.test_metadata import CONTEXT, EDITION, PUBLISHER
from tests.unit.test_metadata import MANIFEST as STUDY

pytestmark = pytest.mark.corpus

RAD_69 = "urn:ihe:rad:2009:RetrieveImagingDocumentSet"
FIND = {
    "$XDSDocumentEntryPatientId": f"'{ONDINE}'",
    "$XDSDocumentEntryStatus": f"('{v.STATUS_APPROVED}')",
}


@pytest.fixture
async def peer(tmp_path):
    (tmp_path / "node").mkdir()
    async with running(tmp_path / "node") as peer:
        yield peer


@pytest.fixture
def wsdl(tmp_path):
    """The WSDLs beside a schema folder that strict loaders take: xcf.xsd and IHEXDSB.xsd share a namespace."""
    folder = tmp_path / "wsdl"
    shutil.copytree(corpus("ihe", "xds-xsd"), folder / "schema")
    for path in (folder / "schema").glob("*.wsdl"):
        path.rename(folder / path.name)
    rim = folder / "schema" / "ebRS30" / "rim.xsd"
    tree = etree.parse(rim)
    for clash in tree.xpath("//*[@schemaLocation='../IHE/xcf.xsd'] | //*[@ref='xdsext:Document']"):
        clash.getparent().remove(clash)
    tree.write(rim)
    return folder


@pytest.fixture
def schema(wsdl):
    return etree.XMLSchema(etree.parse(wsdl / "schema" / "IHE" / "IHEXDSB.xsd"))


def plain(envelope: soap.Envelope) -> etree._Element:
    """The body as its schema sees it: xop:Include replaced by the base64 it stands for (XOP §3.2)."""
    for include in list(envelope.body.iter(f"{{{v.NS_XOP}}}Include")):
        holder = include.getparent()
        content = soap.octets(holder, envelope.attachments)
        holder.remove(include)
        holder.text = base64.b64encode(content).decode()
    return etree.fromstring(etree.tostring(envelope.body))


async def test_every_answer_is_valid_by_the_schemas_of_the_standard(peer, schema):
    elements, attachments = soap.document_elements({"Document01": MANIFEST})
    submission = provide(Draft().request, elements)
    answers = [await peer.ask(v.ITI_41, submission, attachments) for _ in range(2)]  # Success, then Failure
    answers.append(await peer.ask(v.ITI_42, etree.tostring(Draft().request)))
    answers += [await peer.ask(v.ITI_43, retrieve_set(*wanted)) for wanted in (["2.25.100001"], ["1.2"])]
    for answer in answers:
        schema.assertValid(plain(answer))
    for query_id, parameters, returned in (
        (v.FIND_DOCUMENTS, FIND, "LeafClass"),
        (v.FIND_DOCUMENTS, FIND, "ObjectRef"),
        (v.FIND_DOCUMENTS, {}, "LeafClass"),
        (v.GET_SUBMISSION_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": "'2.25.200001'"}, "LeafClass"),
    ):
        schema.assertValid(etree.fromstring(etree.tostring(await peer.query(query_id, parameters, returned))))


async def test_zeep_reads_our_answer_to_a_stored_query(peer, wsdl):
    await peer.submit(Draft())

    def ask():
        settings = zeep.Settings(strict=False)  # zeep knows no substitution groups, on which rim.xsd is built
        with zeep.Client(str(wsdl / "iti18.wsdl"), settings=settings) as client:
            service = client.create_service(
                "{urn:ihe:iti:xds-b:2007}DocumentRegistry_Binding_Soap12", peer.base + "/xds/registry"
            )
            slots = [{"name": name, "ValueList": {"_value_1": [{"Value": value}]}} for name, value in FIND.items()]
            answer = service.DocumentRegistry_RegistryStoredQuery(
                ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
                AdhocQuery={"id": v.FIND_DOCUMENTS, "Slot": slots},
            )
            (raw,) = answer.RegistryObjectList["_raw_elements"]
            return answer.status, client.get_element(RIM + "ExtrinsicObject").parse(raw, client.wsdl.types)

    status, entry = await asyncio.to_thread(ask)
    assert status == v.RESPONSE_SUCCESS
    assert (entry.mimeType, entry.status) == ("application/dicom", v.STATUS_APPROVED)
    assert entry.Name["_value_1"][0]["LocalizedString"].value == "Examen"
    assert {i.identificationScheme: i.value for i in entry.ExternalIdentifier}[v.ENTRY_UNIQUE_ID] == "2.25.100001"


async def test_zeep_reads_our_answer_to_a_retrieval(peer, wsdl):
    await peer.submit(Draft())

    def ask():
        with zeep.Client(str(wsdl / "iti43.wsdl")) as client:
            service = client.create_service(
                "{urn:ihe:iti:xds-b:2007}DocumentRepository_Binding_Soap12", peer.base + "/xds/repository"
            )
            wanted = {"RepositoryUniqueId": REPOSITORY, "DocumentUniqueId": "2.25.100001"}
            return service.DocumentRepository_RetrieveDocumentSet(DocumentRequest=[wanted])

    answer = await asyncio.to_thread(ask)
    assert answer.RegistryResponse.status == v.RESPONSE_SUCCESS
    (document,) = answer.DocumentResponse
    assert (document.mimeType, document.Document) == ("application/dicom", MANIFEST)


def sample(name: str) -> etree._Element:
    return etree.parse(corpus("ihe", "xds-xml", name)).getroot()


async def test_an_injection_sample_is_refused_as_an_unreadable_value(peer):
    body = (await peer.ask(v.ITI_18, etree.tostring(sample("ipf-iti18-injection-value.xml")))).body
    assert outcome(body) == ("Failure", ["XDSRegistryError"])


async def test_a_sample_whose_hash_is_invented_is_refused_for_it(peer):
    body = etree.tostring(sample("ipf-iti41-provideandregister-inline.xml"))
    assert outcome((await peer.ask(v.ITI_41, body)).body) == ("Failure", ["XDSRepositoryMetadataError"] * 2)


async def test_the_same_sample_without_its_invented_hash_and_size_is_kept(peer):
    request = sample("ipf-iti41-provideandregister-inline.xml")
    for name in ("hash", "size"):
        found = request.find(f".//{RIM}Slot[@name='{name}']")
        found.getparent().remove(found)
    assert outcome((await peer.ask(v.ITI_41, etree.tostring(request))).body) == ("Success", [])
    status, _, (content,) = await peer.retrieve("1.3.6.1.4.1.21367.2005.3.9999.32")
    assert (status, content[:17]) == ("Success", b"<ClinicalDocument")


async def test_a_sample_with_a_torn_scheme_and_no_bytes_is_refused_for_what_it_lacks(peer):
    body = (await peer.ask(v.ITI_42, etree.tostring(sample("ipf-submitobjects.xml")))).body
    said = Counter(e.get("codeContext") for e in body.iter(f"{{{v.NS_RS}}}RegistryError"))
    assert outcome(body)[0] == "Failure"
    assert said["patientId: 0 ExternalIdentifiers, exactly 1"] == 2  # entry and set
    assert said["Slot repositoryUniqueId is missing; ITI-42 needs it"] == 1


@pytest.mark.parametrize("name", ["publication_visible.xml", "publication_masked_invisible.xml"])
async def test_a_national_sample_is_kept_once_its_documents_are_there(peer, name):
    request = etree.parse(corpus("drim-m", "xds", name)).getroot()
    for stated in ("hash", "size"):
        for found in request.findall(f".//{RIM}Slot[@name='{stated}']"):
            found.getparent().remove(found)
    elements, attachments = soap.document_elements({"DocumentKOS": b"kos", "Signature01": b"<signature/>"})
    answer = await peer.ask(v.ITI_41, provide(request, elements), attachments)
    assert [e.get("codeContext") for e in answer.body.iter(f"{{{v.NS_RS}}}RegistryError")] == []
    assert outcome(answer.body) == ("Success", [])
    patient = request.find(f".//{RIM}ExternalIdentifier").get("value")
    found = await peer.query(v.FIND_DOCUMENTS, FIND | {"$XDSDocumentEntryPatientId": f"'{patient}'"})
    assert len(ids(found)) == 2
    assert found.find(f".//{DSB}Document") is None


SAMPLES = {  # file → (action under which it is sent, status, what is said of it and why that is right)
    "ipf-iti18-injection-value.xml": (v.ITI_18, "Failure", {"XDSRegistryError"}),  # a value that is no patient
    "ipf-iti41-provideandregister-inline.xml": (v.ITI_41, "Failure", {"XDSRepositoryMetadataError"}),  # hash "1234…"
    "ipf-submitobjects.xml": (v.ITI_42, "Failure", {"XDSRegistryMetadataError"}),  # torn scheme, no bytes anywhere
    "ipf-iti57-update.xml": (  # entry and association changed in one message; a sourcePatientId that is no CX
        v.ITI_57,
        "Failure",
        {"XDSMetadataUpdateOperationError", "XDSRegistryMetadataError"},
    ),
    "toolkit-IDS-DEPT002-a.metadata-ebrim21.xml": (v.ITI_42, "fault", {"xds-body"}),  # another ebRIM than XDS.b's
    "toolkit-ids_4810.rad69-request.xml": (RAD_69, "fault", {"xds-action"}),  # images are asked of the image source
    "toolkit-ids_4811.rad69-request-large.xml": (RAD_69, "fault", {"xds-action"}),
    "toolkit-iig_5400.rad69-request-homecommunity.xml": (RAD_69, "fault", {"xds-action"}),
}


def test_every_sample_has_its_row():
    assert {path.name for path in corpus("ihe", "xds-xml").glob("*.xml")} == SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
async def test_each_sample_of_other_people_is_answered_for_a_stated_reason(peer, name):
    action, status, codes = SAMPLES[name]
    content_type, data = soap.encode_request(
        action=action, to="urn:x", message_id="urn:uuid:1", body=etree.tostring(sample(name)), mtom=False
    )
    http, answered_type, answered = await peer.post(data, content_type)
    if status == "fault":
        assert http == 400
        assert {code for code in codes if code.encode() in answered} == codes
        return
    body = soap.decode(answered_type, answered).body
    assert (outcome(body)[0], set(outcome(body)[1])) == (status, codes)


def test_our_signature_entry_says_what_the_national_sample_says(signer):
    def facts(entry):
        return {
            "mime": entry.get("mimeType"),
            "slots": {s.get("name") for s in entry.iterchildren(RIM + "Slot")}
            - {"submissionTime", "sourcePatientInfo"},
            "language": entry.findtext(f"{RIM}Slot[@name='languageCode']/{RIM}ValueList/{RIM}Value"),
            "title": entry.find(f"{RIM}Name/{RIM}LocalizedString").get("value"),
            "codes": sorted(
                (
                    c.get("classificationScheme"),
                    c.get("nodeRepresentation"),
                    c.findtext(f"{RIM}Slot/{RIM}ValueList/{RIM}Value"),
                    c.find(f"{RIM}Name/{RIM}LocalizedString").get("value"),
                )
                for c in entry.iterchildren(RIM + "Classification")
                if c.get("nodeRepresentation")
            ),
        }

    theirs = etree.parse(corpus("drim-m", "xds", "publication_visible.xml")).getroot()
    ours = etree.fromstring(submission(STUDY, CONTEXT, EDITION, b"kos", PUBLISHER, sign=signer).metadata)
    first, second = ([*root.iter(RIM + "ExtrinsicObject")][1] for root in (theirs, ours))
    assert facts(second) == facts(first)
    shapes = [
        [
            (a.get("associationType"), a.find(f"{RIM}Slot/{RIM}ValueList/{RIM}Value").text)
            for a in root.iter(RIM + "Association")
        ]
        for root in (theirs, ours)
    ]
    assert shapes[0] == shapes[1]
