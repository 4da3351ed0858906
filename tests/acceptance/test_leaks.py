"""Twenty marked patients go through every way in of a running site, and none of them shows where no patient may (T34).

The site is the lab's: PACS, index node and gateway as processes with their logs at ``debug``; a second legal entity
publishes to an index that answers with patients' values. In both processes exceptions are raised that quote what they
were given (``tests/support/sabotage``). Each letter of ``tests.support.marked`` has its own way in, so a hit names it.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import socket
import ssl
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import aiohttp
import pytest
from lxml import etree
from yarl import URL

from gateway.hl7.mllp import MllpClient
from gateway.lab.phantom import LabStudy
from gateway.lab.ris import (
    LabRequest,
    build_adt_consent,
    build_adt_identity,
    build_cda,
    build_mdm,
    build_omi,
    build_oru,
)
from gateway.lab.site import Site
from indexer.xds import soap
from indexer.xds import vocabulary as v
from security.errors import Unavailable
from tests.acceptance.test_commands import poterne
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set, element
from tests.fixtures.xds_submissions import Draft, adhoc_query
from tests.integration.registry_lab import provide, retrieve_set
from tests.support.dimse_raw import RawScu
from tests.support.marked import LETTERS, MARKED, Marked, found
from tests.support.web import say, web_server

SABOTAGE = Path(__file__).resolve().parents[1] / "support/sabotage"
BY = dict(zip(LETTERS, MARKED, strict=True))
SHOWN = {
    "poterne exam": "T",  # what a person wrote as a reason
    "poterne accounts list": "T",  # the person of an account
    "poterne queue refused": "S",  # MSH-3, MSH-4 and MSH-10: how the sender finds the message again (HL7 v2.5 2.9.2)
    "file gateway.db": "ST",  # the same, as the trail keeps it
}
"""Where a letter's mark is what the place is for."""


@dataclass
class Seen:
    """Every place where no patient may show, and what was there."""

    places: dict[str, bytes] = field(default_factory=dict)

    def note(self, place: str, data: bytes | str) -> None:
        octets = data if isinstance(data, bytes) else data.encode()
        self.places[place] = self.places.get(place, b"") + octets + b"\n"

    def hits(self) -> dict[str, list[str]]:
        judged = {place: found(data) - self._shown(place) for place, data in self.places.items()}
        return {place: sorted(marks) for place, marks in judged.items() if marks}

    @staticmethod
    def _shown(place: str) -> set[str]:
        return {
            f"ZQ{letter * 2}Q" for start, letters in SHOWN.items() if place.startswith(start) for letter in letters
        }


@dataclass
class Marks:
    """A running site and what is sent to it."""

    site: Site
    seen: Seen
    dicom: int
    tls: ssl.SSLContext
    sent: int = 0

    @property
    def ops(self) -> str:
        assert self.site.gateway is not None
        return self.site.gateway.bound["ops"]

    @property
    def index(self) -> str:
        assert self.site.index is not None
        return self.site.index.bound["index"]

    async def hl7(self, message: bytes, *, tenant: str = "site") -> str:
        """The acknowledgement but for MSH-3 to MSH-6 and MSA-2, which the standard has echoed (HL7 v2.5 2.9.2)."""
        assert self.site.gateway is not None
        host, _, port = self.site.gateway.bound[f"hl7:{tenant}"].rpartition(":")
        async with await MllpClient.connect(host, int(port)) as client:
            ack = (await client.send(message)).decode()
        header, acknowledged, *rest = ack.split("\r")
        fields = acknowledged.split("|")
        shown = [*header.split("|")[6:], fields[1], *fields[3:], *rest]
        self.seen.note("HL7 acknowledgements", "\n".join(shown))
        return fields[1]

    async def http(self, method: str, url: str, **words: Any) -> int:
        """One request; an answer that is a refusal is noted, headers too."""
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, URL(url, encoded=True), ssl=self.tls, allow_redirects=False, **words) as answer,
        ):
            body = await answer.read()
            if answer.status >= 300:
                head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items() if name != "Location")
                self.seen.note(
                    f"{url.split(':', maxsplit=1)[0]} answers {answer.status}", head.encode() + b"\n" + body
                )
            return answer.status

    async def raw(self, where: str, request: bytes, *, tls: bool = False) -> None:
        """Octets as they are; whatever comes back is noted."""
        host, _, port = where.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=self.tls if tls else None)
        writer.write(request)
        async with asyncio.timeout(10):
            self.seen.note("answers to what is no HTTP", await reader.read(100_000))
        writer.close()

    async def soap(self, action: str, body: bytes, *, path: str = "/xds", kind: str = "", tear: bool = False) -> int:
        made, data = soap.encode_request(
            action=action,
            to=f"https://{self.index}{path}",
            message_id="urn:uuid:7d3f0b6e-0000-4000-8000-000000000034",
            body=body,
            attachments={},
            mtom=action in {v.ITI_41, v.ITI_43},
        )
        data = data[: len(data) * 2 // 3] if tear else data
        return await self.http(
            "POST", f"https://{self.index}{path}", data=data, headers={"Content-Type": kind or made}
        )

    async def command(self, *words: str, expected: tuple[int, ...] = (0, 1), is_noted: bool = True) -> None:
        """``poterne`` as a person runs it, in this process; what it printed is noted."""
        ran = await asyncio.to_thread(poterne, *words, "--conf", str(self.site.conf))
        assert ran.returncode in expected, ran
        if is_noted:
            self.seen.note(f"poterne {' '.join(word for word in words if word[:1] != '/')}", ran.stdout + ran.stderr)


def images(one: Marked, **wrong: str) -> LabStudy:
    stated = {
        "patient_id": one.patient.ipp,
        "name": f"{one.patient.birth_name}^{one.patient.first_given_name}",
        "birth_date": f"{one.patient.birth_date:%Y%m%d}",
        "sex": one.patient.sex,
        "accession": one.exam.orders[0].accession_number,
        "description": one.word,
        "referring_physician": one.word,
    }
    study = LabStudy(study_uid=one.study, **{**stated, **wrong})  # type: ignore[arg-type]
    study.add_series("CT", instances=1, description=one.word)
    return study


def hostile(one: Marked) -> bytes:
    """A SOAP answer that quotes the patient wherever words may stand."""
    words = escape(f"{one.patient.birth_name} {one.patient.matricule} {one.word}")
    return f"""<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:r="{v.NS_RS}"><s:Header/><s:Body>
<r:RegistryResponse status="urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"><r:RegistryErrorList
 highestSeverity="{words}"><r:RegistryError errorCode="XDSRegistryMetadataError" codeContext="{words}" location="{words}"
 severity="urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error">{words}</r:RegistryError></r:RegistryErrorList>
</r:RegistryResponse></s:Body></s:Envelope>""".encode()


def fault(one: Marked) -> bytes:
    words = escape(f"{one.patient.birth_name} {one.patient.matricule} {one.word}")
    return f"""<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code><s:Value>s:Sender
</s:Value><s:Subcode><s:Value>{words}</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="fr">{words}</s:Text>
</s:Reason><s:Detail>{words}</s:Detail></s:Fault></s:Body></s:Envelope>""".encode()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def sections(folder: Path, *, dicom: int, foreign: str) -> dict[str, dict[str, Any]]:
    """The settings beside those of every lab site: a DICOM listener, and a legal entity with the hostile index."""
    return {
        "log": {"format": "json", "level": "debug"},
        "exchanges": {"reveal_users": []},
        "tenants.site.dicom": {
            "listen": f"127.0.0.1:{dicom}",
            "folder": str(folder / "received"),
            "segment": "trusted-lan",
        },
        "tenants.site.dicom.peers.scanner": {"aet": "SCANNER1", "networks": ["127.0.0.1"]},
        "tenants.autre": {"name": "Centre AUTRE", "mode": "live"},
        "tenants.autre.hl7": {"listen": "127.0.0.1:0"},
        "tenants.autre.pacs.main": {},
        "tenants.autre.index": {
            "registry_url": f"{foreign}/registry",
            "repository_url": f"{foreign}/repository",
            "repository_unique_id": "1.2.250.1.999.1.1.9",
        },
        "tenants.autre.publisher": {
            "device_id": "899711256899",
            "institution_name": "Centre AUTRE",
            "institution_id": "101999998",
            "source_id": "1.2.250.1.999.1.1.8",
            "facility_type": "SA08",
            "practice_setting": "AMBULATOIRE",
        },
        "tenants.autre.identity": {"test_identity": "off"},
        "tenants.autre.images": {"retrieve_base": "https://images.autre.example/wado"},
    }


@asynccontextmanager
async def running(folder: Path, foreign: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Marks]:
    port = free_port()
    extra = sections(folder, dicom=port, foreign=foreign)
    async with Site(folder / "site", settings=extra) as site:
        await site.start_pacs(prefer_orthanc=False)
        assert site.pacs is not None
        extra["tenants.autre.pacs.main"] = site.pacs.settings()
        with monkeypatch.context() as planted:
            planted.setenv("PYTHONPATH", str(SABOTAGE), prepend=os.pathsep)
            planted.setenv("POTERNE_SABOTAGE", "T34")
            await site.start_index()
            await site.start_gateway()
        tls = ssl.create_default_context(cafile=site._authority.certificate)
        tls.load_cert_chain(site._pairs["gateway"].certificate, site._pairs["gateway"].key)
        yield Marks(site=site, seen=Seen(), dicom=port, tls=tls)


# -- the ways in ----------------------------------------------------------------------------------------------


async def by_reports(m: Marks) -> None:
    """A: right and published; B: another in the PACS; C: envelope and report differ; G: wrong values everywhere."""
    a, b, c, g = (BY[letter] for letter in "ABCG")
    await m.site.load([one.data for one in images(a).objects])
    await m.site.load([one.data for one in images(b, name=f"{b.word}^{b.word}").objects])
    assert await m.hl7(build_oru(a.exam, control_id="A1")) == "AA"
    assert await m.hl7(build_mdm(b.exam, control_id="B1")) == "AA"
    assert await m.hl7(build_oru(replace(c.exam, envelope_patient=BY["A"].patient), control_id="C1")) == "AE"
    wrong = replace(g.patient, sex=g.word, ins_status=g.word, birthplace=g.word, ins=g.patient.matricule)
    for exam in (
        replace(g.exam, patient=wrong),
        replace(g.exam, patient=replace(g.patient, ins=f"{(g.patient.matricule or '')[:13]}99")),
        replace(g.exam, flags={g.word: g.word, "MASQUE_PS": g.word}),
        replace(g.exam, studies=(g.word,)),
        replace(g.exam, start=g.word, stop=g.word),
        replace(g.exam, modality=g.word, region=(g.word, g.word), procedure=(g.word, g.word)),
        replace(g.exam, replaces=g.word, version_number=2),
    ):
        m.sent += 1
        await m.hl7(build_oru(exam, control_id=f"G{m.sent}"))
        await m.hl7(build_mdm(exam, control_id=f"G{m.sent}", event="T10", parent=g.word, document=g.word))


async def by_broken_messages(m: Marks) -> None:
    """D: what is no message; E: a report that is no XML; F: one that is a trap; S: the header itself."""
    d, e, f, s = (BY[letter] for letter in "DEFS")
    whole, taken = build_oru(d.exam, control_id="D1"), []
    for message in (
        whole.replace(b"MSH|", b"XSH|", 1),
        whole.replace(b"\rPID|", b"PID|", 1),
        whole.replace(b"\rPID|", b"\r" + d.word.encode() + b"|", 1),
        whole.replace(b"PID|1", b"PID" + d.word.encode()),
        whole.split(b"\rPID|")[1],
        whole.replace(b"ZQDDQNOM", b"\xff\xfeZQDDQNOM"),
        whole.replace(b"|P|2.5|", f"|{d.word}|{d.word}|".encode()),
        whole.replace(b"ORU^R01^ORU_R01", f"{d.word}^{d.word}^{d.word}".encode()),
        whole.replace(b"^Base64^", f"^{d.word}^".encode()),
        d.word.encode(),
    ):
        taken.append(await m.hl7(message))
    await m.hl7(whole.replace(b"UNICODE UTF-8", d.word.encode()))  # read right whatever it says (FF-10)
    for cda in (
        build_cda(e.exam).replace(b"</ClinicalDocument>", f"<{e.word}>".encode()),
        build_cda(e.exam).replace(b"<patientRole>", f"<patientRole {e.word}={e.word}>".encode()),
        build_cda(e.exam).replace(b"2.16.840.1.113883.1.3", e.word.encode()),
        build_cda(e.exam).replace(b"<birthTime value=", f"<birthTime {e.word}='' value='{e.word}' x=".encode()),
        build_cda(f.exam).replace(b"<ClinicalDocument", f"<!DOCTYPE {f.word} [<!ENTITY {f.word} '{f.word}'>]><ClinicalDocument".encode()),
        build_cda(f.exam).replace(b"ZQFFQNOM", b"&ZQFFQNOM;"),
    ):  # fmt: skip
        m.sent += 1
        taken.append(await m.hl7(build_oru(e.exam, cda=cda, control_id=f"E{m.sent}")))
    assert len(taken) - taken.count("AA") >= 15, taken
    header = build_oru(s.exam, control_id=s.patient.ipp, version="9.9")
    assert await m.hl7(header.replace(b"RIS-LAB|SITE-LAB", f"{s.word}|{s.word}".encode())) != "AA"


async def by_orders_and_consents(m: Marks) -> None:
    """H: orders; I: consents and corrections of the person."""
    h, i = BY["H"], BY["I"]
    order = LabRequest(placer=h.exam.orders[0].placer_number, accession=h.exam.orders[0].accession_number,
                       study=h.study, reason=h.word, requester=(h.word, h.word))  # fmt: skip
    assert await m.hl7(build_omi(order, patient=h.patient, control_id="H1")) == "AA"
    for wrong in (replace(order, control=h.word), replace(order, study=h.word), replace(order, state=h.word)):
        m.sent += 1
        await m.hl7(build_omi(wrong, patient=h.patient, control_id=f"H{m.sent}"))
    await m.hl7(build_adt_consent(i.patient, control_id="I1"))
    for words in ({"opposition": i.word}, {"at": i.word}, {"record_status": i.word}, {"event": "A99"}):
        m.sent += 1
        await m.hl7(build_adt_consent(i.patient, control_id=f"I{m.sent}", **words))
    prior = replace(i.patient, ipp=f"{i.word}2")
    await m.hl7(build_adt_identity(i.patient, event="A40", prior=prior, control_id="I40"))
    await m.hl7(build_adt_identity(replace(i.patient, ipp=""), event="A40", prior=prior, control_id="I41"))


def by_dicom(m: Marks) -> None:
    """J: a right object; K: broken ones, and identifiers that are words."""
    j, k = BY["J"], BY["K"]
    named = [
        element(0x00080050, "SH", b"ZQJJQACC"),
        element(0x00081030, "LO", j.word.encode()),
        element(0x00080090, "PN", j.word.encode()),
    ]
    with RawScu(m.dicom) as scu:
        assert scu.associate([(CT, [EXPLICIT])], aet="SCANNER1") == {1: 0}
        whole = data_set(study=j.study, before=named).replace(b"PHANTOM^ZOE ", b"ZQJJQNOM^ZOE")
        assert scu.store(1, CT, f"{ROOT}.1.1.1", whole) == 0
        broken = data_set(2).replace(b"PHANTOM^ZOE ", b"ZQKKQNOM^ZOE")
        assert scu.store(1, CT, f"{ROOT}.1.1.2", broken[:-9]) == 0xC210
        scu.store(1, CT, f"{ROOT}.1.1.3", data_set(3, study=k.word).replace(b"PHANTOM^ZOE ", b"ZQKKQNOM^ZOE"))
    for uid in (k.word, f"../{k.word}", f"{k.word}\r\n{k.word}"):
        with RawScu(m.dicom) as scu:
            scu.associate([(CT, [EXPLICIT])], aet="SCANNER1")
            scu.store(1, CT, uid, data_set(4, sop=uid))
    with RawScu(m.dicom) as scu:
        m.seen.note("DICOM rejections", repr(scu.associate([(k.word, [k.word])], aet="SCANNER1")))


async def by_answers(m: Marks) -> None:
    """L: a PACS whose answers are wrong; P: an index that refuses with patients' values."""
    one = BY["L"]
    study = images(one, date=one.word[:8], time=one.word[:8], sex="Z", birth_date=one.word[:8], issuer=one.word)
    await m.site.load([part.data for part in study.objects])
    await m.hl7(build_oru(one.exam, control_id="L1"))
    foreign = BY["P"]
    await m.site.load([part.data for part in images(foreign).objects])
    assert await m.hl7(build_oru(foreign.exam, control_id="P1"), tenant="autre") == "AA"


async def by_the_ops_door(m: Marks) -> None:
    """M: addresses, forms, headers, and what is no HTTP."""
    one = BY["M"]
    word, ipp = one.word, one.patient.ipp
    base = f"http://{m.ops}"
    for method, path in (
        ("GET", f"/{word}"), ("GET", f"/console/exams/site/{word}?patient={ipp}"), ("GET", f"/console/{word}/%5A%51MMQ"),
        ("GET", f"/metrics?{word}={ipp}"), ("DELETE", f"/console/held?{word}"), ("GET", f"/console/static/{word}.css"),
        ("GET", f"/console/held/{word}/{one.study}"), ("POST", f"/pacs/{word}/{word}/nudge"), (word, "/live"),
        ("POST", f"/pacs/site/main/nudge?{word}"), ("GET", f"/console/login?back=/{word}"), ("GET", "/%ff%5A%51MMQ%00"),
    ):  # fmt: skip
        await m.http(method, base + path)
    headers = {"Origin": base, "Cookie": f"__Host-s={word}; {word}={word}", "Authorization": f"Bearer {word}.{word}.{word}",
               "User-Agent": word, "X-Forwarded-For": word, "Accept-Language": word}  # fmt: skip
    for path in ("/console/login", "/console/enrol", "/console/enrol/finish", "/console/logout", f"/console/{word}"):
        form = {"name": word, "password": word, "totp": word, "code": word, "csrf": word, word: ipp}
        await m.http("POST", base + path, data=form, headers=headers)
        await m.http("POST", base + path, data=word.encode() * 9, headers={**headers, "Content-Type": word})
    for request in (
        f"{word} {ipp}\r\n\r\n", f"GET /{word} {word}\r\n\r\n", f"GET / HTTP/1.1\r\n{word}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {word}\r\n\r\n", f"GET /{word * 2000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST /console/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {word}\r\n\r\n{word}",
        f"GET / HTTP/1.1\r\nHost: {word}\r\nContent-Encoding: {word}\r\nConnection: close\r\n\r\n",
        f"GET http://{word}:{word}/{word} HTTP/1.1\r\nHost: {word}:{word}\r\nConnection: close\r\n\r\n",
        f"GET /a HTTP/1.1\r\nHost: x\r\n{word}: \x01{word}\r\n\r\n",
    ):  # fmt: skip
        await m.raw(m.ops, request.encode())


async def by_the_index(m: Marks) -> None:
    """N: SOAP; O: FHIR."""
    n, o = BY["N"], BY["O"]
    word, cx = n.word, f"{n.patient.matricule}^^^&{n.patient.ins_oid}&ISO^NH"
    drafts = (
        Draft(patient=cx, extra_slots=(f"<{word}/>",)), Draft(patient=word), Draft(patient=cx, unique_id=word),
        Draft(patient=cx, start=word), Draft(patient=cx, set_unique_id=word), Draft(patient=cx, study=word),
        Draft(patient=cx, links=((word, word),)), Draft(patient=cx, entry_id=word, modality=word),
    )  # fmt: skip
    for draft in drafts:
        elements, _ = soap.document_elements({})
        body = provide(draft.request, elements + f'<xdsb:Document id="{word}">{word}</xdsb:Document>'.encode())
        m.seen.note("SOAP", str(await m.soap(v.ITI_41, body)))
        await m.soap(v.ITI_41, body, tear=True)
        await m.soap(v.ITI_41, body, kind=f"multipart/related; boundary={word}; start={word}")
        await m.soap(word, body)
    for query, slots in (
        (word, {}), (v.FIND_DOCUMENTS, {"$XDSDocumentEntryPatientId": f"'{word}'"}), (v.FIND_DOCUMENTS, {word: word}),
        (v.FIND_DOCUMENTS, {"$XDSDocumentEntryPatientId": f"'{cx}'", "$XDSDocumentEntryStatus": f"('{word}')"}),
        (v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": f"('{word}'"}),
        (v.FIND_DOCUMENTS, {"$XDSDocumentEntryPatientId": f"'{cx}'", "$XDSDocumentEntryCreationTimeFrom": word}),
    ):  # fmt: skip
        await refused(m, v.ITI_18, adhoc(query, slots), "/xds/registry")
    await refused(m, v.ITI_43, retrieve_set(word, repository=word), "/xds/repository")
    await m.soap(v.ITI_18, f"<{word}>&{word};".encode())
    base, patient = f"https://{m.index}", f"{o.patient.ins_oid}%7C{o.patient.matricule}"
    for path in (
        f"/fhir/DocumentReference?patient.identifier={o.word}", f"/fhir/DocumentReference?{o.word}={patient}",
        f"/fhir/{o.word}", f"/fhir/DocumentReference/{o.word}", f"/fhir/Binary/{o.word}", f"/{o.word}",
        f"/fhir/DocumentReference?patient.identifier={patient}&status={o.word}&date={o.word}",
        f"/fhir/List?patient.identifier={patient}&code={o.word}&_format={o.word}", f"/fhir/Patient?name={o.word}",
        f"/fhir/DocumentReference?patient.identifier={patient}&page={o.word}",
    ):  # fmt: skip
        await m.http("GET", base + path)
    kind = {"Content-Type": "application/fhir+json"}
    for sent in (
        f'{{"{o.word}": {o.word}', f'{{"resourceType": "{o.word}"}}', f'["{o.word}"]',
        f'{{"resourceType": "Bundle", "type": "{o.word}", "{o.word}": 1}}', f'{{"a": 1, "a": "{o.word}"}}',
        f'{{"resourceType": "Bundle", "type": "transaction", "entry": [{{"resource": {{"resourceType": "{o.word}"}}}}]}}',
        (f'{{"resourceType": "Bundle", "type": "transaction", "meta": {{"profile": ["{o.word}"]}}, "entry": '
        f'[{{"fullUrl": "{o.word}", "request": {{"method": "{o.word}", "url": "{o.word}"}}}}]}}'),
    ):  # fmt: skip
        await m.http("POST", f"{base}/fhir", data=sent.encode(), headers=kind)
        await m.http("POST", f"{base}/fhir/List/_search", data=f"code={o.word}&{o.word}=1".encode(),
                     headers={"Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
    await m.raw(m.index, f"{word} {word}\r\n\r\n".encode(), tls=True)


def adhoc(query: str, slots: Mapping[str, str]) -> bytes:
    return etree.tostring(adhoc_query(query, slots, "LeafClass"))


async def refused(m: Marks, action: str, body: bytes, path: str) -> None:
    """A question that the node refuses: its RegistryResponse is an error body under status 200."""
    made, data = soap.encode_request(
        action=action, to=f"https://{m.index}{path}", message_id="urn:uuid:7d3f0b6e-0000-4000-8000-000000000035",
        body=body, attachments={}, mtom=action == v.ITI_43,
    )  # fmt: skip
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"https://{m.index}{path}", data=data, headers={"Content-Type": made}, ssl=m.tls) as answer,
    ):
        m.seen.note(f"refusals of {action.rpartition(':')[2]}", await answer.read())


async def by_defects(m: Marks) -> None:
    """Q: a defect in each door of the gateway and in a job; R: in the index node and in a thread of the store."""
    q, r = BY["Q"], BY["R"]
    await m.site.load([part.data for one in (q, r) for part in images(one).objects])
    with pytest.raises(Unavailable):
        await m.hl7(build_oru(q.exam, control_id="Q1"))
    hidden = replace(r.exam, patient=replace(r.patient, birth_name="FANTÔME", first_given_name="ODETTE",
                     given_names="ODETTE", used_name="", ipp="IPP7117"), orders=BY["A"].exam.orders)  # fmt: skip
    assert await m.hl7(build_oru(hidden, control_id="R1")) == "AA"
    form = {"name": q.word, "password": q.word, "totp": q.word, "code": q.word, "csrf": q.word}
    await m.http("POST", f"http://{m.ops}/console/login", data=form, headers={"Origin": f"http://{m.ops}"})
    cx = f"{r.patient.matricule}^^^&{r.patient.ins_oid}&ISO^NH"
    slots = {"$XDSDocumentEntryPatientId": f"'{cx} {r.word}'", "$XDSDocumentEntryStatus": f"('{v.STATUS_APPROVED}')"}
    assert await m.soap(v.ITI_18, adhoc(v.FIND_DOCUMENTS, slots), path="/xds/registry") == 500
    identifier = f"{r.patient.ins_oid}%7C{r.word}"
    where = f"https://{m.index}/fhir/DocumentReference?patient.identifier={identifier}&status=current"
    assert await m.http("GET", where) == 500

    def store() -> None:
        with RawScu(m.dicom) as scu:
            assert scu.associate([(CT, [EXPLICIT])], aet="SCANNER1") == {1: 0}
            status = scu.store(1, CT, f"{ROOT}.1.1.{7}", data_set(7, study=q.word))
            assert status not in {0, -1}

    await asyncio.to_thread(store)
    await m.command("queue", "pause", "--tenant", "site", "--reason", q.word, expected=(1, 2, 3))


async def by_names(m: Marks, folder: Path) -> None:
    """T: names of files and of persons, and reasons."""
    t = BY["T"]
    reports = folder / "reports"
    reports.mkdir()
    (reports / f"{t.word}.hl7").write_bytes(build_oru(t.exam, control_id="T1").replace(b"\rPID|", b"PID|"))
    (reports / f"{t.patient.ipp}.hl7").write_bytes(t.word.encode())
    days = ("--from", "2026-01-01", "--to", "2026-01-31")
    await m.command("backload", *days, "--tenant", "site", "--reports", str(reports), "--go", is_noted=False)
    await m.command("accounts", "add", "zoe", "--person", t.word, "--role", "operator", is_noted=False)
    await m.command(
        "exam", "withdraw", BY["A"].study, "--reason", f"{t.word} {t.word}", "--tenant", "site", is_noted=False
    )


# -- the places --------------------------------------------------------------------------------------------


async def look(m: Marks, folder: Path) -> None:
    """Everything that people, monitoring and support see without a right to patients."""
    for words in (
        ("doctor",), ("doctor", "--json"), ("check",), ("flows",), ("queue",), ("queue", "--json"),
        ("queue", "refused", "--tenant", "site"), ("queue", "refused", "--tenant", "autre", "--json"),
        ("pacs", "inbox", "--tenant", "site"), ("pacs", "inbox", "--tenant", "site", "--json"),
        ("pacs", "probe", "--tenant", "site"), ("shadow", "--tenant", "site"), ("audit", "verify"),
        ("accounts", "list"),
    ):  # fmt: skip
        await m.command(*words)
    for one in MARKED:
        await m.command("exam", one.study)
        await m.command("exam", one.study, "--exchanges", "--json")
    await m.command("exam", BY["A"].study, "--reveal", expected=(1, 2, 3))
    archive = folder / "bundle.tar.gz"
    await m.command("support-bundle", "--out", str(archive), "--log-file", str(m.site.directory / "gateway.log"))
    m.seen.note("support bundle", gzip.decompress(archive.read_bytes()))
    with tarfile.open(archive) as opened:
        assert len(opened.getnames()) > 5
    async with aiohttp.ClientSession() as http, http.get(f"http://{m.ops}/metrics") as answer:
        page = await answer.read()
        assert b"hl7_messages_total" in page
        m.seen.note("metrics", page)


def left_behind(m: Marks) -> None:
    """The logs, names of files, and whatever the ended processes left in the site's folder."""
    own = [path for path in m.site.directory.rglob("*") if not {"pacs", "images"} & {*path.parts}]
    m.seen.note("names of files", "\n".join(str(path.relative_to(m.site.directory)) for path in own))
    for path in own:
        if path.is_file():
            m.seen.note(f"file {path.name}", path.read_bytes())
    assert not [path.name for path in own if path.name.startswith("core")]


@pytest.mark.timeout(600)
async def test_t34_twenty_marked_patients_show_nowhere_where_no_patient_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [hostile(BY["P"]), fault(BY["P"]), BY["P"].word.encode()]

    def answer(handler: Any) -> None:
        answers.append(answers.pop(0))
        say(200 if b"Registry" in answers[-1] else 500, answers[-1], "application/soap+xml")(handler)

    with web_server(answer) as foreign:
        async with running(tmp_path, foreign, monkeypatch) as m:
            await by_reports(m)
            await by_broken_messages(m)
            await by_orders_and_consents(m)
            await asyncio.to_thread(by_dicom, m)
            await by_answers(m)
            await by_the_ops_door(m)
            await by_the_index(m)
            await by_defects(m)
            await asyncio.sleep(8)
            await by_names(m, tmp_path)
            await look(m, tmp_path)
            assert m.site.gateway is not None
            assert m.site.index is not None
            await m.site.gateway.end(signal.SIGABRT)
            await m.site.index.end()
            left_behind(m)
            log = m.seen.places["file gateway.log"]
            assert log.count(b'"unhandled-error"') > 2
            assert b"unraisable-error" in log
            assert m.seen.hits() == {}
