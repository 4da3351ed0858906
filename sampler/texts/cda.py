"""A CDA R2 report written anew without those it names (peer audit §8.3).

Invariants:

* the header is built from what may stay: nothing of it passes because nobody thought of it;
* of a structured body, titles, texts, codes and measures stay; persons, places, numbers, links, pictures and anything
  encoded go; attributes pass by a list;
* identifiers of documents, studies and objects are mapped by the campaign's key, so that they still meet those of the
  images; times move with the patient's dates;
* a body that is no XML (a PDF) is taken out and handed over, for a person to redact;
* what was written is read again and searched; anything known that is still there stops the case, without being told.

Leaves to others: rules of the text itself (``narrative``), the PDF (``sampler.pages``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from lxml import etree

from sampler.pseudonym.identifiers import Identifiers, day_of
from sampler.pseudonym.keys import Pseudonyms, age_at
from sampler.texts.narrative import Narrative
from sampler.texts.persons import Labels, Person
from security.errors import BadInput, Refused
from security.parse.xml import parse_xml

NS = "urn:hl7-org:v3"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
XSI_TYPE = f"{{{_XSI}}}type"
_IN = {"": NS}
_ROOT = f"{{{NS}}}ClinicalDocument"

_ROLES: tuple[tuple[str, str], ...] = (  # a person's first line here names them
    ("documentationOf/serviceEvent/performer/assignedEntity", "médecin réalisateur"),
    ("legalAuthenticator/assignedEntity", "médecin signataire"),
    ("authenticator/assignedEntity", "médecin signataire"),
    ("author/assignedAuthor", "auteur"),
    ("participant/associatedEntity", "correspondant"),
    ("informationRecipient/intendedRecipient", "destinataire"),
    ("dataEnterer/assignedEntity", "secrétariat"),
    ("informant/assignedEntity", "informateur"),
    ("componentOf/encompassingEncounter/encounterParticipant/assignedEntity", "correspondant"),
    ("componentOf/encompassingEncounter/responsibleParty/assignedEntity", "médecin responsable"),
)
_OTHER_NAMES = (
    "recordTarget/patientRole/patient/name", "recordTarget/patientRole/patient/guardian/guardianPerson/name",
    "informant/relatedEntity//name",
)  # fmt: skip
_ORGANIZATIONS = (
    "representedOrganization", "scopingOrganization", "providerOrganization", "representedCustodianOrganization",
    "receivedOrganization", "serviceProviderOrganization",
)  # fmt: skip
"""Their names are looked for whole: word by word they are the words of every report."""
_CODED = ("code", "codeSystem", "codeSystemName", "displayName", "nullFlavor")
_GONE = frozenset(
    {
        "author", "performer", "participant", "informant", "informationRecipient", "custodian", "authenticator",
        "legalAuthenticator", "dataEnterer", "responsibleParty", "encounterParticipant", "assignedEntity",
        "assignedAuthor", "relatedSubject", "subject", "addr", "telecom", "guardian", "birthTime", "birthplace",
        "location", "linkHtml", "renderMultiMedia", "observationMedia", "nonXMLBody", "externalDocument",
        "accessionNumber", "setId", "reference",
    }
)  # fmt: skip
_STAYING = frozenset(
    {
        "classCode", "moodCode", "typeCode", "determinerCode", "code", "codeSystem", "codeSystemName",
        "displayName", "negationInd", "inversionInd", "contextConductionInd", "independentInd", "nullFlavor",
        "unit", "value", "operator", "inclusive", "mediaType", "language", "ID", "styleCode", "listType",
        "colspan", "rowspan", "align", "border", "width", XSI_TYPE,
    }
)  # fmt: skip
_TIMES = frozenset({"effectiveTime", "time", "low", "high", "center", "availabilityTime"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a report's header tells of those it names.

    Attributes:
        identifiers: every name, number, telephone and street that stands in the header.
        births: days of birth of the patient.
        persons: the professionals, those who performed first.
        age: of the patient on the day of the exam, AS, by the rule of 90 years; None when it is not told.
    """

    identifiers: Identifiers = field(repr=False)
    births: frozenset[date] = field(repr=False)
    persons: tuple[Person, ...]
    age: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A body that is no XML: ``media_type`` as stated, and its bytes."""

    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """``document``: the report anew, UTF-8. ``body``: what was taken out for a person to redact."""

    document: bytes = field(repr=False)
    body: Body | None


def parse(document: bytes) -> etree._Element:
    """The document's root.

    Raises:
        BadInput: ``xml-…`` of ``security.parse.xml``, ``cda-wrong-root``.
    """
    root = parse_xml(document, what="the report")
    if root.tag != _ROOT:
        raise BadInput(
            "the report is not a CDA document", code="cda-wrong-root", hint="give the CDA R2 of the exam's report"
        )
    return root


def header(root: etree._Element) -> Header:
    """Those whom the header names, to be looked for in texts, images and pages."""
    persons = tuple(_person(entity, role) for path, role in _ROLES for entity in root.iterfind(path, _IN))
    patients = root.findall("recordTarget/patientRole", _IN)
    names = [name for person in persons for name in person.names]
    names += [_name(element) for path in _OTHER_NAMES for element in root.iterfind(path, _IN)]
    ids = [_text(one) for tag in _ORGANIZATIONS for one in _named(root, tag)]
    ids += [value for patient in patients for value in _places(patient)]
    head = [child for child in root if isinstance(child.tag, str) and _local(child) != "component"]
    for element in (found for part in head for found in part.iter(f"{{{NS}}}id", f"{{{NS}}}telecom")):
        ids += [value for name in ("extension", "value") if (value := element.get(name, ""))]
    ids += [value.rpartition(":")[2] for value in ids if ":" in value]
    ids += [one.get("extension", "") for one in root.iter("{*}accessionNumber")]
    births = frozenset(
        day for one in root.iterfind(".//birthTime", _IN) if (day := day_of(one.get("value", ""))) is not None
    )
    return Header(
        identifiers=Identifiers.stated(names=names, ids=ids, days=births),
        births=births,
        persons=persons,
        age=_age(root),
    )


def rewritten(root: etree._Element, pseudonyms: Pseudonyms, narrative: Narrative, labels: Labels) -> Rewritten:
    """The report anew.

    Raises:
        BadInput: ``cda-body-encoding`` when the body is not the base64 it says it is.
    """
    writer = _Writer(pseudonyms, narrative, labels)
    document = writer.document(root)
    etree.cleanup_namespaces(document)
    return Rewritten(document=etree.tostring(document, encoding="UTF-8", xml_declaration=True), body=_taken_out(root))


def without_residue(document: bytes, identifiers: Identifiers, labels: Labels) -> None:
    """Search a written report for values of the originals; ``labels`` are our own words.

    Raises:
        Refused: ``case-residue``, with the place and without the value.
    """
    root = parse(document)
    for element in root.iter():
        texts = [element.text or "", element.tail or "", *element.attrib.values()]
        if any(identifiers.found_in(labels.left_out_of(text)) for text in texts):
            raise _residue(root.getroottree().getpath(element))
    whole = " ".join("".join(map(str, root.itertext())).split())
    if identifiers.found_in(labels.left_out_of(whole)):
        raise _residue("a text over several elements")


def _residue(where: str) -> Refused:
    return Refused(
        f"the rewritten report still holds a value of the original at {where}",
        code="case-residue",
        hint="the case stays at the site: have the place looked at, and replace the case if it cannot be mended",
    )


class _Writer:
    """Builds the new document."""

    def __init__(self, pseudonyms: Pseudonyms, narrative: Narrative, labels: Labels) -> None:
        self._pseudonyms = pseudonyms
        self._narrative = narrative
        self._labels = labels

    def document(self, root: etree._Element) -> etree._Element:
        made = etree.Element(
            _ROOT,
            nsmap={None: NS, "xsi": _XSI},  # type: ignore[dict-item]  # its stubs lack the default namespace
        )
        for name in ("realmCode", "typeId", "templateId"):
            for one in root.iterfind(name, _IN):
                _add(made, name, {key: one.get(key, "") for key in ("code", "root", "extension") if one.get(key)})
        self._mapped(made, root, "id")
        self._coded(made, root, "code")
        _add(made, "title").text = self._narrative.redacted(_text(root.find("title", _IN)))
        self._time(made, root.find("effectiveTime", _IN), "effectiveTime")
        self._coded(made, root, "confidentialityCode")
        self._coded(made, root, "languageCode")
        self._mapped(made, root, "setId")
        if (version := root.find("versionNumber", _IN)) is not None and version.get("value", "").isdecimal():
            _add(made, "versionNumber", {"value": version.get("value", "")})
        self._patient(made, root)
        self._persons(made, root)
        self._events(made, root)
        self._component(made, root)
        return made

    def _patient(self, made: etree._Element, root: etree._Element) -> None:
        role = _add(_add(made, "recordTarget"), "patientRole")
        _add(role, "id", {"nullFlavor": "MSK", "extension": self._pseudonyms.patient_id})
        patient = _add(role, "patient")
        _add(_add(patient, "name"), "family").text = self._pseudonyms.patient_name
        source = root.find("recordTarget/patientRole/patient", _IN)
        if source is not None:
            self._coded(patient, source, "administrativeGenderCode")

    def _persons(self, made: etree._Element, root: etree._Element) -> None:
        for tag, role in (("author", "assignedAuthor"), ("legalAuthenticator", "assignedEntity")):
            for source in root.iterfind(tag, _IN):
                written = _add(made, tag)
                self._time(written, source.find("time", _IN), "time")
                if (signature := source.find("signatureCode", _IN)) is not None:
                    _add(written, "signatureCode", {"code": signature.get("code", "")})
                self._entity(written, source.find(role, _IN), role, root)
            if tag == "author":
                organization = _add(
                    _add(_add(made, "custodian"), "assignedCustodian"), "representedCustodianOrganization"
                )
                _add(organization, "id", {"nullFlavor": "MSK"})
        for source in root.iterfind("participant", _IN):
            written = _add(made, "participant", {"typeCode": source.get("typeCode", "")})
            self._entity(written, source.find("associatedEntity", _IN), "associatedEntity", root)

    def _entity(self, above: etree._Element, source: etree._Element | None, tag: str, root: etree._Element) -> None:
        if source is None:
            return
        entity = _add(above, tag, {"classCode": source.get("classCode", "")} if source.get("classCode") else {})
        _add(entity, "id", {"nullFlavor": "MSK"})
        self._coded(entity, source, "code")
        person = _add(entity, "associatedPerson" if tag == "associatedEntity" else "assignedPerson")
        _add(person, "name").text = self._labels.add(_person(source, _role_of(source, root)))

    def _events(self, made: etree._Element, root: etree._Element) -> None:
        for source in root.iterfind("documentationOf/serviceEvent", _IN):
            event = _add(_add(made, "documentationOf"), "serviceEvent", {"classCode": source.get("classCode", "ACT")})
            self._mapped(event, source, "id")
            self._coded(event, source, "code")
            self._time(event, source.find("effectiveTime", _IN), "effectiveTime")
            for performer in source.iterfind("performer", _IN):
                written = _add(event, "performer", {"typeCode": performer.get("typeCode", "PRF")})
                self._entity(written, performer.find("assignedEntity", _IN), "assignedEntity", root)
        for source in root.iterfind("relatedDocument", _IN):
            related = _add(made, "relatedDocument", {"typeCode": source.get("typeCode", "")})
            parent = source.find("parentDocument", _IN)
            if parent is not None:
                self._mapped(_add(related, "parentDocument"), parent, "id")
        encounter = root.find("componentOf/encompassingEncounter", _IN)
        if encounter is not None:
            written = _add(_add(made, "componentOf"), "encompassingEncounter")
            self._time(written, encounter.find("effectiveTime", _IN), "effectiveTime")

    def _component(self, made: etree._Element, root: etree._Element) -> None:
        component = _add(made, "component")
        body = root.find("component/structuredBody", _IN)
        if body is None:
            _add(_add(component, "nonXMLBody"), "text", {"nullFlavor": "MSK"})
            return
        copied = self._copied(body)
        if copied is not None:
            component.append(copied)

    # -- the structured body -------------------------------------------------------------------------------------

    def _copied(self, source: etree._Element) -> etree._Element | None:
        """The element anew with what is below it; None when it may not stay."""
        local = _local(source)
        if local in _GONE or source.get("representation") == "B64" or (local == "name" and not source.get("code")):
            return None
        made = etree.Element(source.tag, nsmap={"xsi": _XSI})
        if local in {"id", "templateId"}:
            kept = self._identifier(source) if local == "id" else _plain(source, ("root", "extension"))
            for key, mapped in kept.items():
                made.set(key, mapped)
            return made
        for name, value in source.attrib.items():
            passed = self._attribute(local, str(name), str(value), source)
            if passed is not None:
                made.set(name, passed)
        made.text = self._narrative.redacted(source.text or "")
        for child in source:
            copied = self._copied(child) if isinstance(child.tag, str) else None
            tail = self._narrative.redacted(child.tail or "")
            if copied is not None:
                copied.tail = tail
                made.append(copied)
            elif len(made):
                made[-1].tail = (made[-1].tail or "") + tail
            else:
                made.text = (made.text or "") + tail
        return made

    def _attribute(self, local: str, name: str, value: str, source: etree._Element) -> str | None:
        if name not in _STAYING:
            return None
        if name == "value" and (local in _TIMES or source.get(XSI_TYPE, "").endswith("TS")):
            return self._pseudonyms.shifted_date_time(value)
        return self._value(name, value)

    def _value(self, name: str, value: str) -> str | None:
        """What people read passes the rules of text, a code only the values known."""
        if name == "displayName":
            return self._narrative.redacted(value)
        return None if self._narrative.tells(value) else value

    # -- parts of both -------------------------------------------------------------------------------------------

    def _identifier(self, source: etree._Element) -> dict[str, str]:
        root, extension = source.get("root", ""), source.get("extension", "")
        if not root or (extension and extension != "studyInstanceUID"):
            return {"nullFlavor": "MSK"} if not root else {"root": self._pseudonyms.uid(f"{root}^{extension}")}
        return {"root": self._pseudonyms.uid(root)}

    def _mapped(self, above: etree._Element, source: etree._Element, name: str) -> None:
        for one in source.iterfind(name, _IN):
            _add(above, name, self._identifier(one))

    def _coded(self, above: etree._Element, source: etree._Element, name: str) -> None:
        """A code with its translations and qualifiers; display names pass the rules of text."""
        for one in source.iterfind(name, _IN):
            self._code(above, one)

    def _code(self, above: etree._Element, source: etree._Element) -> None:
        made = _add(above, _local(source))
        for name in _CODED:
            if source.get(name) and (passed := self._value(name, source.get(name, ""))) is not None:
                made.set(name, passed)
        for below in source:
            if isinstance(below.tag, str) and _local(below) in {"translation", "qualifier", "name", "value"}:
                self._code(made, below)

    def _time(self, above: etree._Element, source: etree._Element | None, name: str) -> None:
        if source is None:
            return
        made = _add(above, name)
        self._moved(made, source)
        for bound in ("low", "high"):
            if (one := source.find(bound, _IN)) is not None:
                self._moved(_add(made, bound), one)

    def _moved(self, made: etree._Element, source: etree._Element) -> None:
        if source.get("value"):
            moved = self._pseudonyms.shifted_date_time(source.get("value", ""))
            made.set(*(("value", moved) if moved else ("nullFlavor", "MSK")))


def _taken_out(root: etree._Element) -> Body | None:
    text = root.find("component/nonXMLBody/text", _IN)
    if text is None:
        return None
    content = "".join(map(str, text.itertext()))
    if text.get("representation") != "B64":
        return Body(media_type=text.get("mediaType", "text/plain"), content=content.encode())
    try:
        decoded = base64.b64decode("".join(content.split()), validate=True)
    except binascii.Error:
        raise BadInput(
            "the report's body says base64 and is not", code="cda-body-encoding", hint="send the report again"
        ) from None
    return Body(media_type=text.get("mediaType", "application/octet-stream"), content=decoded)


def _person(entity: etree._Element, role: str) -> Person:
    ids = [one.get("extension", "") for one in entity.iterfind("id", _IN)]
    names = tuple(name for one in _named(entity, "assignedPerson", "associatedPerson") if (name := _text(one)))
    return Person(role=role, id=next(filter(None, ids), ""), names=names)


def _role_of(entity: etree._Element, root: etree._Element) -> str:
    return next((role for path, role in _ROLES if entity in root.findall(path, _IN)), "personne")


def _named(above: etree._Element, *tags: str) -> Iterator[etree._Element]:
    """Names directly below elements of these tags, titles left out."""
    for tag in tags:
        for holder in above.iter(f"{{{NS}}}{tag}"):
            yield from holder.iterfind("name", _IN)


def _name(element: etree._Element) -> str:
    return _text(element)


def _text(element: etree._Element | None) -> str:
    """Its text; of a name the family and given parts, not the titles."""
    if element is None:
        return ""
    parts = [child for child in element if isinstance(child.tag, str) and _local(child) in {"family", "given"}]
    return " ".join(" ".join("".join(map(str, one.itertext())).split()) for one in parts or [element]).strip()


def _places(patient: etree._Element) -> Iterator[str]:
    """Streets and towns of the patient's addresses."""
    for name in ("streetName", "streetAddressLine", "city", "county", "postalCode"):
        for one in patient.iter(f"{{{NS}}}{name}"):
            yield _text(one)


def _age(root: etree._Element) -> str | None:
    birth = root.find("recordTarget/patientRole/patient/birthTime", _IN)
    event = root.find("documentationOf/serviceEvent/effectiveTime/low", _IN)
    if event is None:
        event = root.find("effectiveTime", _IN)
    if birth is None or event is None:
        return None
    return age_at(birth.get("value", "")[:8], event.get("value", "")[:8])


def _plain(source: etree._Element, names: tuple[str, ...]) -> dict[str, str]:
    return {name: source.get(name, "") for name in names if source.get(name)}


def _add(above: etree._Element, name: str, attributes: dict[str, str] | None = None) -> etree._Element:
    return etree.SubElement(above, f"{{{NS}}}{name}", attributes or {})


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname
