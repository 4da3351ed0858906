"""Ask an index what it holds for one study, with nothing but the standard library.

Run as a script in its own interpreter (``python -I -S raw_query.py …``): it imports none of our packages, so what
it prints is the word of the index alone. It sends FindDocumentsByReferenceId (ITI-18) as hand-written SOAP 1.2
and prints one JSON line per document entry.
"""

import argparse
import http.client
import json
import ssl
import sys
import urllib.parse
import uuid
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
QUERY = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
EVENT_CODES = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
CONFIDENTIALITY = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
REFERENCES = "urn:ihe:iti:xds:2013:referenceIdList"

REQUEST = """<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing">
<s:Header><a:Action s:mustUnderstand="1">urn:ihe:iti:2007:RegistryStoredQuery</a:Action>
<a:MessageID>urn:uuid:{message_id}</a:MessageID><a:To>{url}</a:To></s:Header>
<s:Body><q:AdhocQueryRequest xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
 xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">
<q:ResponseOption returnType="LeafClass" returnComposedObjects="true"/>
<AdhocQuery id="{query}">
<Slot name="$XDSDocumentEntryPatientId"><ValueList><Value>'{patient}'</Value></ValueList></Slot>
<Slot name="$XDSDocumentEntryReferenceIdList"><ValueList><Value>('{reference}')</Value></ValueList></Slot>
<Slot name="$XDSDocumentEntryStatus"><ValueList>
<Value>('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')</Value></ValueList></Slot>
</AdhocQuery></q:AdhocQueryRequest></s:Body></s:Envelope>"""


def post(url: str, body: bytes, tls: ssl.SSLContext | None) -> bytes:
    """One POST on its own connection; the body of a 200 answer, SystemExit otherwise."""
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=10, context=tls)
        if tls
        else http.client.HTTPConnection(host, port, timeout=10)
    )
    try:
        connection.request("POST", parts.path or "/", body, {"Content-Type": "application/soap+xml; charset=UTF-8"})
        answer = connection.getresponse()
        data = answer.read(10_000_000)
    except OSError as error:
        sys.exit(f"the index at {url} does not answer: {error}")
    finally:
        connection.close()
    if answer.status != 200:
        sys.exit(f"the index at {url} answered HTTP {answer.status}")
    return data


def entries(answer: bytes) -> list[dict[str, object]]:
    """The document entries of an AdhocQueryResponse."""
    return [
        {
            "entry_uuid": entry.get("id"),
            "status": str(entry.get("status")).rpartition(":")[2],
            "unique_id": next(
                (
                    e.get("value")
                    for e in entry.iter(RIM + "ExternalIdentifier")
                    if e.get("identificationScheme") == UNIQUE_ID
                ),
                None,
            ),
            "event_codes": codes(entry, EVENT_CODES),
            "confidentiality_codes": codes(entry, CONFIDENTIALITY),
            "references": slot(entry, REFERENCES),
        }
        for entry in ET.fromstring(answer).iter(RIM + "ExtrinsicObject")  # noqa: S314  # the lab's own index
    ]


def codes(entry: ET.Element, scheme: str) -> list[str]:
    """Codes of one classification scheme, in document order."""
    return [
        str(c.get("nodeRepresentation"))
        for c in entry.iter(RIM + "Classification")
        if c.get("classificationScheme") == scheme
    ]


def slot(entry: ET.Element, name: str) -> list[str]:
    """Values of one slot of the entry itself, in document order."""
    return [
        str(value.text)
        for one in entry.findall(RIM + "Slot")
        if one.get("name") == name
        for value in one.iter(RIM + "Value")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--patient", required=True, help="CX of the patient: id^^^&OID&ISO^NH")
    parser.add_argument("--reference", required=True, help="CXi: id^^^&OID&ISO^type")
    parser.add_argument("--ca")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    asked = parser.parse_args()
    tls = None
    if asked.ca:
        tls = ssl.create_default_context(cafile=asked.ca)
        tls.load_cert_chain(asked.certificate, asked.key)

    def literal(value: str) -> str:
        return escape(value.replace("'", "''"))

    request = REQUEST.format(
        message_id=uuid.uuid4(),
        url=escape(asked.url),
        query=QUERY,
        patient=literal(asked.patient),
        reference=literal(asked.reference),
    )
    for entry in entries(post(asked.url, request.encode(), tls)):
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
