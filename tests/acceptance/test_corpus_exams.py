"""The national exams E, F, J, K, Q, U and W through a whole site: seven reports in, each by ORU and by MDM, in either
order; eight manifests in the index.

The reports are the national messages as they are, only their placeholders filled. The images are public files put
under the identifiers that the reports state. What the index and its repository hold is asked in hand-written SOAP.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import http.client
import json
import ssl
import uuid
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio
from pydicom import Dataset, dcmread

from gateway.hl7.mllp import MllpClient
from gateway.lab import raw_query
from gateway.lab.exams import demo_exams
from gateway.lab.site import REPOSITORY, TENANT, Site
from indexer.manifest import derived_uid
from tests.corpus import corpus
from tests.support.pacs import need_orthanc

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.orthanc,
    pytest.mark.asyncio(loop_scope="module"),
]

PATIENT = "279035121518989^^^&1.2.250.1.213.1.4.10&ISO^NH"
STUDY = "1.2.250.1.213.4.5.2.1."
ACCESSION = "urn:ihe:iti:xds:2013:accession"
OLD, NEW = "1.2.250.1.213.4.5.2.5", "1.2.250.1.925.994044785528.27"  # accession issuers of the two vintages
ORDER = "1.2.250.1.213.4.5.2.6&ISO^urn:ihe:iti:xds:2013:order"
SITE_STUDY = "1.2.250.1.999.1.1.1&ISO^urn:ihe:iti:xds:2016:studyInstanceUID"
HEAD, LEG = "774007", "61685007"
PATIENT_ONLY = ["N", "INVISIBLE_PATIENT"]
PATIENT_AND_GUARDIANS = ["N", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"]

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
RETRIEVE = "urn:ihe:iti:2007:RetrieveDocumentSet"
QUERY = "urn:ihe:iti:2007:RegistryStoredQuery"
XDSB = "{urn:ihe:iti:xds-b:2007}"
XOP = "{http://www.w3.org/2004/08/xop/include}"


@dataclass(frozen=True, slots=True, kw_only=True)
class National:
    """One study of the national exams and what the index must show of it. ``arc``: last arc of its UID;
    ``images``: patterns below data/dicom; ``series``: how many instances each of its series has, in any order."""

    letter: str
    arc: str
    images: tuple[str, ...]
    series: tuple[int, ...]
    accession_issuer: str
    order: str
    region: str
    modality: str
    confidentiality: list[str] = field(default_factory=lambda: PATIENT_AND_GUARDIANS)

    @property
    def uid(self) -> str:
        return STUDY + self.arc


_EPI = "mr-series/axial_epi_fmri_interleaved_i_to_s-000"
EXAMS = (
    National(
        letter="E", arc="105", images=("wg04-transfer-syntaxes/NM1_*",), series=(1, 6), accession_issuer=OLD,
        order="OPN105", region=HEAD, modality="NM", confidentiality=PATIENT_ONLY,
    ),
    National(
        letter="F", arc="106", images=(f"{_EPI}0[1-9].dcm", f"{_EPI}1[0-2].dcm"), series=(12,), accession_issuer=NEW,
        order="OPN107", region=LEG, modality="MR",
    ),
    National(
        letter="F", arc="107", images=("mr-series/epi_pe_*.dcm",), series=(2, 2, 2, 2), accession_issuer=NEW,
        order="OPN107", region=LEG, modality="MR",
    ),
    National(
        letter="J", arc="111", images=("ct-series/00[1-4].dcm", "ct-series/IM-0001-000[1235].dcm"), series=(4, 4),
        accession_issuer=OLD, order="OPN111", region=HEAD, modality="CT",
    ),
    National(
        letter="K", arc="112", images=("ct-series/IM-0001-00*-0001.dcm",), series=(4,), accession_issuer=OLD,
        order="OPN112", region=HEAD, modality="CT",
    ),
    National(
        letter="Q", arc="118", images=("wg04-transfer-syntaxes/MR1_*",), series=(1, 6), accession_issuer=NEW,
        order="OPN118", region=LEG, modality="MR",
    ),
    National(
        letter="U", arc="122", images=("ct-series/001_IM-*.dcm", "ct-series/IM-0001-0004.dcm"), series=(4,),
        accession_issuer=OLD, order="OPN122", region=HEAD, modality="CT",
    ),
    National(
        letter="W", arc="124", images=("wg04-transfer-syntaxes/CT1_*", "ct-series/ct.0.dcm"), series=(1, 1, 5),
        accession_issuer=NEW, order="OPN124", region=HEAD, modality="CT",
    ),
)  # fmt: skip
BY_STUDY = [pytest.param(exam, id=f"{exam.letter}-{exam.arc}") for exam in EXAMS]

Evidence = set[tuple[str, str, str]]  # series, SOP class, SOP instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """The site after the seven reports, each in both envelopes. ``acks``: by letter and envelope; ``held``: what was
    put into the PACS, by study UID."""

    site: Site
    acks: dict[tuple[str, str], bytes]
    held: dict[str, Evidence]


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[("ORU", "MDM"), ("MDM", "ORU")], ids=["ORU-then-MDM", "MDM-then-ORU"]
)
async def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    need_orthanc()
    first, second = request.param
    async with Site(tmp_path_factory.mktemp("corpus-site")) as site:
        assert await site.start_pacs() == "Orthanc"
        held: dict[str, Evidence] = {}
        for exam in EXAMS:
            images = _images(exam)
            held[exam.uid] = {(i.SeriesInstanceUID, i.SOPClassUID, i.SOPInstanceUID) for i in images}
            assert len(held[exam.uid]) == len(images)
            await site.load([_bytes(image) for image in images])
        await site.start_index()
        await site.start_gateway()
        acks = {(letter, first): await site.report(_message(letter, first)) for letter in "EFJKQUW"}
        acks[("K", second)] = await site.report(_message("K", second))  # one before its exam is out, the rest after
        await _settled(site, EXAMS)
        acks |= {(letter, second): await site.report(_message(letter, second)) for letter in "EFJQUW"}
        await _idle(site)
        yield Played(site=site, acks=acks, held=held)


# -- the sources -------------------------------------------------------------------------------------------------


def _message(letter: str, envelope: str) -> bytes:
    """A national report message, its placeholders filled as its sender would; segments stay ended by LF."""
    text = corpus("drim-m", "hl7", f"CR_{letter}-{envelope}.hl7").read_bytes()
    assert b"\r" not in text
    sent, control_id = text.split(b"\n", 1)[0].split(b"|")[6], f"{envelope}-{letter}".encode()
    assert sent == b"{{idMessage}}"
    text = text.replace(b"|{{idMessage}}|", b"|20260108112000+0100|", 1).replace(b"{{idMessage}}", control_id)
    for role in (b"Supplier", b"Receiver"):
        text = text.replace(b"{{application%s}}" % role, b"APP-" + role.upper())
        text = text.replace(b"{{facility%s}}" % role, b"SITE-" + role.upper())
    assert b"{{" not in text
    return text


def _images(exam: National) -> list[Dataset]:
    """The public files of ``exam`` under the exam's identifiers, every other UID derived from study and old UID."""
    files = [file for pattern in exam.images for file in sorted(corpus("dicom").glob(pattern))]
    return [_renamed(file, exam) for file in files]


def _renamed(file: Path, exam: National) -> Dataset:
    image = dcmread(file)
    for element in image.iterall():
        if element.VR == "UI" and isinstance(element.value, str) and not element.value.startswith("1.2.840.10008."):
            element.value = derived_uid("national", exam.uid, element.value)
    image.StudyInstanceUID = exam.uid
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.PatientID = "IPP101"
    image.PatientName = "PAT-TROIS^DOMINIQUE"
    image.PatientBirthDate = "19790328"
    image.PatientSex = "F"
    image.AccessionNumber = f"ACN{exam.arc}"
    for keyword in ("IssuerOfPatientID", "OtherPatientIDs", "OtherPatientNames", "PatientAge"):
        if keyword in image:
            delattr(image, keyword)
    return image


def _bytes(image: Dataset) -> bytes:
    out = BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


# -- waiting and asking ------------------------------------------------------------------------------------------


async def _settled(site: Site, exams: tuple[National, ...]) -> None:
    """Wait until every exam is in the index, for the gateway and then for the index itself."""
    async with asyncio.timeout(60):
        for exam in exams:
            while not await site.entries(patient=PATIENT, study=exam.uid):
                await asyncio.sleep(0.2)


async def _idle(site: Site) -> None:
    """Wait until the gateway has nothing left to do."""
    async with asyncio.timeout(30):
        while True:
            code, printed = await site.command("queue", "--json")
            assert code == 0, printed
            if not json.loads(printed)["open"]:
                return
            await asyncio.sleep(0.2)


def _ask(site: Site, transaction: str, path: str, body: str) -> tuple[str, bytes]:
    """One SOAP request of the test's own; content type and body of the answer."""
    envelope = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing">'
        f'<s:Header><a:Action s:mustUnderstand="1">{transaction}</a:Action>'
        f"<a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
    tls = ssl.create_default_context(cafile=str(site._authority.certificate))
    tls.load_cert_chain(site._pairs["gateway"].certificate, site._pairs["gateway"].key)
    assert site.index is not None
    connection = http.client.HTTPSConnection(site.index.bound["index"], timeout=10, context=tls)
    try:
        connection.request("POST", path, envelope.encode(), {"Content-Type": "application/soap+xml; charset=UTF-8"})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return answer.headers["Content-Type"], data
    finally:
        connection.close()


async def _patient_entries(site: Site) -> list[dict[str, object]]:
    """FindDocuments (ITI-18): every entry of the patient, approved or deprecated."""
    statuses = "".join(
        f"<r:Value>('urn:oasis:names:tc:ebxml-regrep:StatusType:{status}')</r:Value>"
        for status in ("Approved", "Deprecated")
    )
    body = (
        '<q:AdhocQueryRequest xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"'
        ' xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">'
        '<q:ResponseOption returnType="LeafClass" returnComposedObjects="true"/>'
        f'<r:AdhocQuery id="{FIND_DOCUMENTS}"><r:Slot name="$XDSDocumentEntryPatientId"><r:ValueList>'
        f"<r:Value>'{PATIENT.replace('&', '&amp;')}'</r:Value></r:ValueList></r:Slot>"
        f'<r:Slot name="$XDSDocumentEntryStatus"><r:ValueList>{statuses}</r:ValueList></r:Slot>'
        "</r:AdhocQuery></q:AdhocQueryRequest>"
    )
    _, data = await asyncio.to_thread(_ask, site, QUERY, "/xds/registry", body)
    return raw_query.entries(data)


async def _document(site: Site, unique_id: str) -> bytes:
    """Retrieve Document Set (ITI-43): the one document, out of its MTOM package by the standard library."""
    body = (
        '<x:RetrieveDocumentSetRequest xmlns:x="urn:ihe:iti:xds-b:2007"><x:DocumentRequest>'
        f"<x:RepositoryUniqueId>{REPOSITORY}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{unique_id}</x:DocumentUniqueId></x:DocumentRequest></x:RetrieveDocumentSetRequest>"
    )
    content_type, data = await asyncio.to_thread(_ask, site, RETRIEVE, "/xds/repository", body)
    package = email.message_from_bytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + data, policy=email.policy.HTTP
    )
    parts = {part["Content-ID"].strip("<> "): part.get_payload(decode=True) for part in package.iter_parts()}
    root = next(payload for payload in parts.values() if b"RetrieveDocumentSetResponse" in payload)
    (include,) = ET.fromstring(root).iter(XOP + "Include")
    return parts[include.attrib["href"].removeprefix("cid:")]


# -- what must be so ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", ["ORU", "MDM"])
@pytest.mark.parametrize("letter", list("EFJKQUW"))
async def test_a_national_report_is_acknowledged_in_either_envelope(
    played: Played, letter: str, envelope: str
) -> None:
    ack = played.acks[(letter, envelope)].decode()
    assert f"\rMSA|AA|{envelope}-{letter}\r" in ack
    assert f"|ACK^{'R01' if envelope == 'ORU' else 'T02'}^ACK|" in ack


@pytest.mark.parametrize("exam", BY_STUDY)
async def test_a_national_exam_stands_once_in_the_index_with_its_orders_and_codes(
    played: Played, exam: National
) -> None:
    (entry,) = await played.site.entries(patient=PATIENT, study=exam.uid)
    assert entry["status"] == "Approved"
    assert entry["references"] == [
        f"ACN{exam.arc}^^^&{exam.accession_issuer}&ISO^{ACCESSION}",
        f"{exam.uid}^^^&{SITE_STUDY}",
        f"{exam.order}^^^&{ORDER}",
    ]
    assert entry["confidentiality_codes"] == exam.confidentiality
    assert entry["event_codes"] == [exam.region, exam.modality]


async def test_the_patient_has_exactly_eight_entries_all_approved(played: Played) -> None:
    entries = await _patient_entries(played.site)
    assert [entry["status"] for entry in entries] == ["Approved"] * 8
    assert len({entry["unique_id"] for entry in entries}) == 8


@pytest.mark.parametrize("exam", BY_STUDY)
async def test_the_manifest_of_a_national_exam_lists_exactly_what_the_pacs_was_given(
    played: Played, exam: National
) -> None:
    (entry,) = await played.site.entries(patient=PATIENT, study=exam.uid)
    kos = dcmread(BytesIO(await _document(played.site, entry["unique_id"])))
    (study,) = kos.CurrentRequestedProcedureEvidenceSequence
    listed = [
        (series.SeriesInstanceUID, item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert (kos.SOPInstanceUID, kos.StudyInstanceUID, study.StudyInstanceUID) == (
        entry["unique_id"], exam.uid, exam.uid,
    )  # fmt: skip
    assert (str(kos.PatientName), kos.PatientID) == ("PAT-TROIS^DOMINIQUE", "279035121518989")
    assert set(listed) == played.held[exam.uid]
    assert sorted(len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence) == list(exam.series)
    assert len(listed) == sum(exam.series)
    (request,) = kos.ReferencedRequestSequence
    assert (request.AccessionNumber, request.PlacerOrderNumberImagingServiceRequest) == (
        f"ACN{exam.arc}", exam.order,
    )  # fmt: skip


async def test_the_order_that_cancels_a_national_exam_is_noted_on_it(played: Played) -> None:
    order = corpus("drim-m", "hl7", "CR_W_Suppression-OMI.hl7").read_bytes()
    assert b"\rMSA|AA|001\r" in await played.site.report(order)
    _, printed = await played.site.command("exam", STUDY + "124", "--json")
    assert "exam-cancelled-in-ris" in [step["what"] for step in json.loads(printed)["steps"]]
    assert len(await _patient_entries(played.site)) == 8


async def test_a_malformed_message_is_refused_with_its_reasons_and_disturbs_nobody(played: Played) -> None:
    site, other = played.site, demo_exams()[1]
    await site.load(other.images())
    before = await _patient_entries(site)
    assert site.gateway is not None
    host, _, port = site.gateway.bound[f"hl7:{TENANT}"].rpartition(":")
    async with await MllpClient.connect(
        host, int(port)
    ) as client:  # one connection: the next message must not suffer
        refusal = (await client.send(corpus("drim-m", "hl7", "demonstrator_patient1.hl7").read_bytes())).decode()
        ack = (await client.send(other.message)).decode()
    assert refusal.split("\r")[1] == "MSA|AR|104"
    assert [line.split("|")[7] for line in refusal.split("\r") if line.startswith("ERR|")] == [
        "broken-line", "unsupported-version", "missing-segment", "missing-segment", "unknown-value", "unknown-value",
        "unknown-value", "unknown-value", "empty-report",
    ]  # fmt: skip
    assert "\rMSA|AA|DEMO-2\r" in ack
    async with asyncio.timeout(30):
        while not (entries := await site.entries(patient=other.patient_cx, study=other.study)):
            await asyncio.sleep(0.2)
    assert [entry["status"] for entry in entries] == ["Approved"]
    after = await _patient_entries(site)
    assert len(after) == 8
    assert after == before
