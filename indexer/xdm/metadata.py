"""METADATA.XML: the request of a submission as it was sent, and for each document where it stands in the archive.

Invariants:

* what was sent stands unchanged between what is added: a Slot ``URI``, an external identifier with the entryUUID that
  the index gave (scheme ``1.2.3``, as the national sample has it), the availabilityStatus as last shown, and for our
  own reading the content hash; ``bare`` takes exactly these away again;
* one thing is never as it was sent where the index shows otherwise: whom the exam is hidden from (ITI-57 since, by us
  or by others). An archive must not show to its reader what the index hides;
* children stand in the order of rim.xsd;
* read is also what other boxes write: a SOAP envelope around the request, no namespaces at all, a prefix that nobody
  declared, slots behind classifications.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lxml import etree

from indexer import hiding
from indexer.hiding import Marks
from indexer.report import Visibility
from indexer.xds import vocabulary as xds
from indexer.xds.ebrim import rim, slot
from indexer.xds.ebrim import text as named
from indexer.xds.objects import Submission, read_submission
from indexer.xds.update import reclassify
from security.errors import BadInput
from security.parse.xml import parse_xml

ENTRY_UUID_SCHEME = "1.2.3"
SLOT_URI = "URI"
SLOT_CONTENT = "urn:poterne:content-hash"
SIZE_MAX = 4 * 1024 * 1024
_ENTRY_UUID = "XDSDocumentEntry.EntryUUID"
_ROOT = re.compile(rb"<((?P<prefix>[A-Za-z_][\w.-]{0,30}):)?SubmitObjectsRequest(?P<rest>[^<>]*)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What is added to one entry. ``entry_uuid``, ``content_hash``: "" for none; ``revised_hash``: of the content as
    its metadata stand now, "" where they are those that came with the document; ``hidden``: whom the index hides the
    exam from where that is not what was sent."""

    uri: str
    entry_uuid: str = ""
    status: str = ""
    content_hash: str = ""
    revised_hash: str = ""
    hidden: Marks | None = None


def stamped(sent: bytes, stamps: Mapping[str, Stamp]) -> bytes:
    """METADATA.XML of a submission. ``stamps``: by id of the entry in ``sent``, one for each document there is."""
    request = parse_xml(bare(sent), what="stored submission")
    for entry in request.iter(rim("ExtrinsicObject")):
        stamp = stamps.get(entry.get("id", ""))
        if stamp is None:
            continue
        if stamp.status:
            entry.set("status", stamp.status)
        slots = [slot(SLOT_URI, stamp.uri)]
        if stamp.content_hash:
            slots.append(slot(SLOT_CONTENT, *filter(None, (stamp.content_hash, stamp.revised_hash))))
        if stamp.hidden is not None:
            reclassify(entry, hiding.level_of(stamp.hidden), hiding.visibility_of(stamp.hidden, Visibility()))
        at = len(entry.findall(rim("Slot")))
        for made in reversed(slots):
            entry.insert(at, made)
        if stamp.entry_uuid:
            identifier = etree.SubElement(
                entry,
                rim("ExternalIdentifier"),
                id=f"{entry.get('id')}-entry-uuid",
                registryObject=entry.get("id", ""),
                identificationScheme=ENTRY_UUID_SCHEME,
                value=stamp.entry_uuid.removeprefix("urn:uuid:"),
            )
            identifier.append(named("Name", _ENTRY_UUID))
    return etree.tostring(request, encoding="UTF-8", xml_declaration=True)


def bare(data: bytes) -> bytes:
    """The request without what ``stamped`` adds: what a re-export starts from and what a withdrawal reads."""
    request = parse_xml(data, what="stored submission", limit=SIZE_MAX)
    for entry in request.iter(rim("ExtrinsicObject")):
        for child in list(entry):
            is_slot = child.tag == rim("Slot") and child.get("name") in {SLOT_URI, SLOT_CONTENT}
            is_uuid = (
                child.tag == rim("ExternalIdentifier") and child.get("identificationScheme") == ENTRY_UUID_SCHEME
            )
            if is_slot or is_uuid:
                entry.remove(child)
        if "status" in entry.attrib:
            del entry.attrib["status"]
    return etree.tostring(request, encoding="UTF-8", xml_declaration=False)


def about(request: bytes, others: frozenset[str]) -> bytes:
    """The request without these entries and what is said of them: a set may hold several exams, kept one by one."""
    if not others:
        return request
    root = parse_xml(request, what="stored submission", limit=SIZE_MAX)
    for element in [*root.iter(rim("ExtrinsicObject")), *root.iter(rim("Association"))]:
        named_ids = {element.get(one, "") for one in ("id", "sourceObject", "targetObject")}
        parent = element.getparent()
        if parent is not None and not others.isdisjoint(named_ids):
            parent.remove(element)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=False)


def read(data: bytes) -> tuple[Submission, bytes]:
    """The objects of a METADATA.XML, and the request alone, in its namespaces, as it can be stored.

    Raises:
        BadInput: as ``parse_xml`` and ``read_submission``; ``xdm-metadata`` it holds not one request.
    """
    root = parse_xml(_declared(data), what="METADATA.XML", limit=SIZE_MAX)
    found = [one for one in root.iter(etree.Element) if etree.QName(one).localname == "SubmitObjectsRequest"]
    if len(found) != 1:
        raise BadInput(
            f"METADATA.XML holds {len(found)} SubmitObjectsRequest, not one",
            code="xdm-metadata",
            hint="the box that made the archive must write one request for each submission set",
        )
    request = found[0]
    for element in request.iter(etree.Element):
        if not etree.QName(element).namespace:
            element.tag = rim(str(element.tag))
    request.tag = f"{{{xds.NS_LCM}}}SubmitObjectsRequest"
    alone = etree.fromstring(etree.tostring(request, with_tail=False))
    etree.cleanup_namespaces(alone)
    return read_submission(alone), etree.tostring(alone, encoding="UTF-8", xml_declaration=False)


def _declared(data: bytes) -> bytes:
    """The document with the prefix of its request declared, where nobody did: the national sample is a piece cut out
    of an envelope."""
    root = _ROOT.search(data)
    if root is None or not root["prefix"] or b"xmlns:" + root["prefix"] in data:
        return data
    at = root.end("prefix") + len(":SubmitObjectsRequest")
    return data[:at] + b" xmlns:" + root["prefix"] + b'="' + xds.NS_LCM.encode() + b'"' + data[at:]
