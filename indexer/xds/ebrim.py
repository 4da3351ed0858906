"""ebRIM elements and HL7 values as we write them: what every request to an XDS index is made of (ITI TF-3 4.2.3).

Invariants:

* children stand in the order of rim.xsd: every Slot before Name, every Classification before ExternalIdentifier
  (the national samples break this, and a validating registry refuses them);
* a value that HL7 would read as structure is escaped (HL7 v2.5 §2.7);
* times are UTC.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

from lxml import etree

from indexer.report import Coded, Professional
from indexer.xds import vocabulary as xds

_NAMESPACE = uuid.UUID("0b1c8f0e-9d2a-5a57-8a3e-6c1d0f4e7b92")  # of every entry id made here; never change it
_HL7_ESCAPES = str.maketrans({"\\": "\\E\\", "^": "\\S\\", "&": "\\T\\", "|": "\\F\\", "~": "\\R\\"})
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


# -- values ------------------------------------------------------------------------------------------------------


def person(professional: Professional) -> str:
    """XCN of a professional (HL7 v2.5 §2.A.88) with the national identifier type."""
    parts = [professional.identifier, professional.family, professional.given]
    return f"{'^'.join(map(hl7, parts))}^^^^^^&{hl7(professional.system)}&ISO^D^^^IDNPS"


def cx(value: str, authority: str, kind: str) -> str:
    """CX, or CXi when ``kind`` is a URN: ``value^^^&authority&ISO^kind``; no last component when ``kind`` is ""."""
    issued = f"&{hl7(authority)}&ISO" if authority else ""
    return f"{hl7(value)}^^^{issued}" + (f"^{kind}" if kind else "")


def hl7(text: str) -> str:
    """The text with every delimiter escaped."""
    return text.translate(_HL7_ESCAPES)


def dtm(moment: datetime) -> str:
    """DTM in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def derived(unique_id: str, *role: str) -> str:
    """The ``urn:uuid:`` of the object that plays ``role`` for the document or set of that uniqueId."""
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps([unique_id, *role]))}"


# -- elements ----------------------------------------------------------------------------------------------------


def submit_objects() -> tuple[etree._Element, etree._Element]:
    """An empty ``lcm:SubmitObjectsRequest`` and the list that takes its objects."""
    request = etree.Element(f"{{{xds.NS_LCM}}}SubmitObjectsRequest", nsmap={"lcm": xds.NS_LCM, "rim": xds.NS_RIM})
    return request, etree.SubElement(request, rim("RegistryObjectList"))


def association(
    association_id: str, kind: str, source: str, target: str, slots: tuple[tuple[str, str], ...] = ()
) -> etree._Element:
    """``source`` does ``kind`` to ``target``."""
    made = etree.Element(
        rim("Association"), id=association_id, associationType=kind, sourceObject=source, targetObject=target
    )
    made.extend(slot(name, value) for name, value in slots)
    return made


class Parts:
    """Appends classifications, then external identifiers, to one registry object, numbering their ids."""

    def __init__(self, owner: etree._Element, prefix: str) -> None:
        self._owner = owner
        self._owner_id = owner.get("id", "")
        self._prefix = prefix
        self._count = 0

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:02}"

    def classification(self, **attributes: str) -> etree._Element:
        fixed = {"id": self._next_id(), "classifiedObject": self._owner_id}
        return etree.SubElement(self._owner, rim("Classification"), fixed | attributes)

    def coded(self, scheme: str, *values: Coded) -> None:
        for value in values:
            element = self.classification(classificationScheme=scheme, nodeRepresentation=value.code)
            element.append(slot("codingScheme", value.system))
            element.append(text("Name", value.display or value.code))

    def author(self, scheme: str, *, author_person: str, institution: str) -> None:
        element = self.classification(classificationScheme=scheme, nodeRepresentation="")
        element.append(slot("authorPerson", author_person))
        element.append(slot("authorInstitution", institution))

    def identifier(self, name: str, scheme: str, value: str) -> None:
        element = etree.SubElement(
            self._owner,
            rim("ExternalIdentifier"),
            id=self._next_id(),
            registryObject=self._owner_id,
            identificationScheme=scheme,
            value=value,
        )
        element.append(text("Name", name))


def slot(name: str, *values: str) -> etree._Element:
    """A rim:Slot with its values in order."""
    made = etree.Element(rim("Slot"), name=name)
    value_list = etree.SubElement(made, rim("ValueList"))
    for value in values:
        etree.SubElement(value_list, rim("Value")).text = value
    return made


def text(name: str, value: str) -> etree._Element:
    """A rim:Name or rim:Description."""
    element = etree.Element(rim(name))
    etree.SubElement(element, rim("LocalizedString"), {_XML_LANG: "FR", "value": value})
    return element


def rim(name: str) -> str:
    """The tag of an ebRIM element."""
    return f"{{{xds.NS_RIM}}}{name}"


def serialised(element: etree._Element) -> bytes:
    """The bytes that are stored and sent."""
    etree.cleanup_namespaces(element)
    return etree.tostring(element, encoding="UTF-8", xml_declaration=False)
