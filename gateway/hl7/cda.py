"""What a CDA R2 report says about an exam: its header as an ``indexer.report.Report`` (drim-m §3).

The header is the same at level 1 (a PDF inside) and level 3 (structured body), so the body is not read.

Invariants:

* every reason against a document is collected before it is refused, each with the path it stands at and what
  was expected there, never the value found;
* a time that would make the index refuse the exam (a stop before the start) is left out here, nowhere else;
* paths are relative to ``ClinicalDocument``; elements with a ``nullFlavor`` count as absent;
* visibility and sender are the envelope's: they keep their defaults here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, tzinfo

from lxml import etree

from indexer.report import Coded, DocumentId, Order, Organization, Professional, Report
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid
from security.parse.hl7 import Problem, parse_ts
from security.parse.xml import parse_xml

_NS = {"": "urn:hl7-org:v3", "p": "urn:dicom-org:ps3-20"}  # as ElementPath wants them
_STRING = etree.XPath("normalize-space()")
_ROOT = "{urn:hl7-org:v3}ClinicalDocument"

INS_OIDS = frozenset({f"1.2.250.1.213.1.4.{arc}" for arc in (8, 9, 10, 11)})  # drim-m §11
_CCAM_OIDS = frozenset({"1.2.250.1.213.2.5", "1.2.250.1.215.300.1"})
_MODALITY = "121139"  # DCM, qualifier of a modality
_REGION = "39111-0"  # LOINC, qualifier of an anatomic region
_MODALITY_SPELLINGS = {"RM": "MR"}  # seen in national data; PS3.3 C.7.3.1.1.1 says MR
_SEXES = {"M": "M", "F": "F", "UN": "U", "U": "U"}
STUDIES_MAX = 64
ORDERS_MAX = 64
_DOCUMENT_ID_MAX = 255
_LABEL = "studyInstanceUID"  # seen in national data: the extension says what the root is
_TO_THE_HOUR = re.compile(r"\d{10}", re.ASCII)  # how a time begins that is more than a day


class CdaRefused(BadInput):
    """A CDA that cannot be used. ``problems``: every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        codes = ", ".join(dict.fromkeys(problem.code for problem in self.problems))
        super().__init__(
            f"CDA refused for {len(self.problems)} reasons: {codes}",
            code="cda-refused",
            hint="correct the report at its author's system and send it again",
        )


def read_cda(data: bytes, *, timezone: tzinfo) -> Report:
    """The report a CDA document holds; ``timezone`` is that of times without an offset.

    Raises:
        CdaRefused: with every reason.
    """
    try:
        root = parse_xml(data, what="CDA")
    except BadInput as fault:
        raise CdaRefused([Problem(code=fault.code, text=f"{fault.args[0]}. {fault.hint}")]) from None
    if root.tag != _ROOT:
        raise CdaRefused([Problem(code="not-a-cda", text=f"expected the root element {_ROOT}")])
    reader = _Reader(root, timezone)
    report = reader.report()
    if report is None or reader.problems:
        raise CdaRefused(reader.problems)
    return report


class _Reader:
    """One document under reading: where it looks, and what it found wrong."""

    def __init__(self, root: etree._Element, timezone: tzinfo) -> None:
        self._root = root
        self._timezone = timezone
        self.problems: list[Problem] = []

    def report(self) -> Report | None:
        """The whole header; None when something without which there is no report is missing."""
        document_id = self._document_id(self._root, "id", required=True)
        procedure_codes = self._all("documentationOf/serviceEvent/code")
        translations = [t for code in procedure_codes for t in _elements(code, "translation")]
        patient = self._patient()
        studies = self._studies()
        orders = self._orders()
        set_id = self._document_id(self._root, "setId")
        performers = self._all("documentationOf/serviceEvent/performer/assignedEntity/representedOrganization")
        service_start, service_stop = self._service_times()
        signer = self._first("legalAuthenticator/assignedEntity")
        version = self._version()
        effective_time = self._time(self._root, "effectiveTime/@value")
        confidentiality = _attribute(self._root, "confidentialityCode/@code")
        if not confidentiality:
            self._add("missing-field", "confidentialityCode/@code: expected a code, N when nothing is restricted")
        replaces = self._document_id(self._root, "relatedDocument[@typeCode='RPLC']/parentDocument/id")
        if document_id is None:
            return None
        return Report(
            document_id=document_id,
            set_id=str(set_id) if set_id is not None else "",
            version_number=version,
            replaces=replaces,
            patient=patient,
            studies=studies,
            orders=orders,
            authors=tuple(_professional(author) for author in self._all("author/assignedAuthor[assignedPerson]")),
            legal_authenticator=_professional(signer) if signer is not None else None,
            performer=next((o for e in performers if (o := _organization(e)) is not None), None),
            procedure=next((c for e in procedure_codes if (c := _coded(e)) is not None), None),
            procedures_local=_codes(t for t in translations if t.get("codeSystem") in _CCAM_OIDS),
            modalities=_codes((t for t in translations if _qualified(t, _MODALITY)), _MODALITY_SPELLINGS),
            regions=_codes(t for t in translations if _qualified(t, _REGION)),
            service_start=service_start,
            service_stop=service_stop,
            facility_type=self._code("componentOf/encompassingEncounter/location/healthCareFacility/code"),
            practice_setting=self._code(
                "documentationOf/serviceEvent/performer/assignedEntity/representedOrganization"
                "/standardIndustryClassCode"
            ),
            confidentiality=confidentiality,
            language=_attribute(self._root, "languageCode/@code") or "fr-FR",
            title=_text(self._root, "title"),
            effective_time=effective_time,
        )

    def _patient(self) -> PatientIdentity:
        """recordTarget: INS and local identifiers, traits by the qualifiers BR (birth) and CL (used)."""
        roles = self._all("recordTarget/patientRole")
        if len(roles) > 1:
            self._add("several-values", "recordTarget/patientRole: expected one patient")
        role = next(iter(roles), None)
        if role is None:
            self._add("missing-field", "recordTarget/patientRole: expected the patient")
            return PatientIdentity(traits=Traits(birth_name="", first_given_name=""))
        name = "patient/name"
        birth_name = _named(role, f"{name}/family", "BR") or _named(role, f"{name}/family", "")
        unqualified = _named(role, f"{name}/given", "")
        first_given = _named(role, f"{name}/given", "BR") or unqualified
        for value, part in ((birth_name, "family"), (first_given, "given")):
            if not value:
                self._add(
                    "missing-field", f"recordTarget/patientRole/{name}/{part}[@qualifier='BR']: expected a name"
                )
        ids = [(_value(e, "root"), _value(e, "extension")) for e in _elements(role, "id")]
        matricules = [(root, extension) for root, extension in ids if root in INS_OIDS and extension]
        if len(set(matricules)) > 1:
            self._add("several-ins", "recordTarget/patientRole/id: expected one INS, found different ones")
        return PatientIdentity(
            traits=Traits(
                birth_name=birth_name,
                first_given_name=first_given,
                given_names=unqualified,
                used_name=_named(role, f"{name}/family", "CL"),
                used_given_name=_named(role, f"{name}/given", "CL"),
                sex=_SEXES.get(_attribute(role, "patient/administrativeGenderCode/@code"), ""),
                birth_date=self._birth_date(role),
                birthplace=_text(role, "patient/birthplace/place/addr/county"),
            ),
            ins=Ins(matricule=matricules[0][1], oid=matricules[0][0], status="") if matricules else None,
            local_ids=tuple(LocalId(value=e, issuer=r) for r, e in ids if e and r not in INS_OIDS),
        )

    def _birth_date(self, role: etree._Element) -> date | None:
        text = _attribute(role, "patient/birthTime/@value")
        moment = self._time(role, "patient/birthTime/@value")
        if moment is not None and not re.match(r"\d{8}", text):  # a year alone, or with an offset
            self._add(
                "bad-value", "recordTarget/patientRole/patient/birthTime/@value: expected a full date, YYYYMMDD"
            )
            return None
        return moment.date() if moment is not None else None

    def _studies(self) -> tuple[Uid, ...]:
        """documentationOf/serviceEvent/id@root, each once, in document order.

        An id with an extension is the identifier of something else, ignored beside ids without.
        """
        path = "documentationOf/serviceEvent/id"
        found = list(enumerate(self._all(path), start=1))
        numbers: dict[str, int] = {}  # root → where it stands first
        for number, element in found:
            if _value(element, "extension") in {"", _LABEL}:
                numbers.setdefault(_value(element, "root"), number)
        if len(numbers) > STUDIES_MAX:
            self._add("too-many", f"{path}: expected at most {STUDIES_MAX} studies in one report")
            return ()
        if not found:
            self._add("no-study-uid", f"{path}/@root: expected the Study Instance UID of each documented exam")
        elif not numbers:
            self._add("bad-study-uid", f"{path}: expected a DICOM Study Instance UID in @root, without @extension")
        studies: list[Uid] = []
        for root, number in numbers.items():
            try:
                studies.append(Uid(root))
            except BadInput:
                self._add("bad-study-uid", f"{path}[{number}]/@root: expected a DICOM Study Instance UID")
        return tuple(studies)

    def _orders(self) -> tuple[Order, ...]:
        """inFulfillmentOf/order: both numbers are mandatory in each (CI-SIS imaging report schematron)."""
        path = "inFulfillmentOf/order"
        found = self._all(path)
        if len(found) > ORDERS_MAX:
            self._add("too-many", f"{path}: expected at most {ORDERS_MAX} orders in one report")
            return ()
        orders: list[Order] = []
        for number, element in enumerate(found, start=1):
            accession = next(iter(_elements(element, "p:accessionNumber")), None)
            placer = next(iter(_elements(element, "id")), None)
            order = Order(
                accession_number=_value(accession, "extension") if accession is not None else "",
                accession_issuer=_value(accession, "root") if accession is not None else "",
                placer_number=_value(placer, "extension") if placer is not None else "",
                placer_issuer=_value(placer, "root") if placer is not None else "",
            )
            if not order.accession_number:
                self._add("no-accession", f"{path}[{number}]/ps3-20:accessionNumber/@extension: expected a number")
            if not order.placer_number:
                self._add("no-placer-order", f"{path}[{number}]/id/@extension: expected the placer order number")
            orders.append(order)
        if not found:
            self._add("no-order", f"{path}: expected the imaging order with its accession number")
        return tuple(dict.fromkeys(orders))

    def _document_id(self, start: etree._Element, path: str, *, required: bool = False) -> DocumentId | None:
        element = next(iter(_elements(start, path)), None)
        if element is not None and element.get("root"):
            found = DocumentId(root=_value(element, "root"), extension=_value(element, "extension"))
            if len(str(found)) > _DOCUMENT_ID_MAX or not str(found).isprintable():
                self._add("bad-value", f"{path}: expected at most {_DOCUMENT_ID_MAX} characters that can be printed")
            return found
        if required or element is not None:
            self._add("missing-field", f"{path}/@root: expected an identifier")
        return None

    def _version(self) -> int | None:
        text = _attribute(self._root, "versionNumber/@value")
        if text.isascii() and text.isdigit() and len(text) <= 9:
            return int(text)
        if text:
            self._add("bad-value", "versionNumber/@value: expected a whole number")
        return None

    def _service_times(self) -> tuple[datetime | None, datetime | None]:
        """The earliest start and the latest stop of the documented exams.

        A stop known to the day only is no moment: the first instant of that day would stand before the exam. A
        stop before the start (the two reversed, or a night of clock change without offsets) is not stated either.
        """
        events = self._all("documentationOf/serviceEvent")
        low, high = "effectiveTime/low/@value", "effectiveTime/high/@value"
        starts = [moment for event in events if (moment := self._time(event, low)) is not None]
        stops = [
            moment
            for event in events
            if (moment := self._time(event, high)) is not None and _TO_THE_HOUR.match(_attribute(event, high))
        ]
        start, stop = min(starts, key=_utc, default=None), max(stops, key=_utc, default=None)
        if start is not None and stop is not None and _utc(stop) < _utc(start):
            stop = None
        return start, stop

    def _time(self, start: etree._Element, path: str) -> datetime | None:
        text = _attribute(start, path)
        if not text:
            return None
        try:
            return parse_ts(text, self._timezone)
        except BadInput as fault:
            self._add("bad-value", f"{_path_of(start)}{path}: {fault.hint}")
            return None

    def _code(self, path: str) -> Coded | None:
        return next((c for e in self._all(path) if (c := _coded(e)) is not None), None)

    def _all(self, path: str) -> list[etree._Element]:
        return _elements(self._root, path)

    def _first(self, path: str) -> etree._Element | None:
        return next(iter(self._all(path)), None)

    def _add(self, code: str, text: str) -> None:
        self.problems.append(Problem(code=code, text=f"CDA {text}"))


def _elements(start: etree._Element, path: str) -> list[etree._Element]:
    """Elements at ``path`` that hold something, in document order."""
    return [element for element in start.iterfind(path, _NS) if element.get("nullFlavor") is None]


def _text(start: etree._Element, path: str) -> str:
    """The first text at ``path``, blanks normalised, comments left out; "" when absent."""
    return next((str(_STRING(element)) for element in _elements(start, path)), "")


def _attribute(start: etree._Element, path: str) -> str:
    """The attribute at ``path/@name`` of the first element there, trimmed; "" when absent."""
    parent, _, name = path.rpartition("/@")
    return next((_value(element, name) for element in _elements(start, parent)), "")


def _utc(moment: datetime) -> datetime:
    """For comparison: Python compares two times of one zone by their digits, whatever the clocks did between."""
    return moment.astimezone(UTC)


def _value(element: etree._Element, name: str) -> str:
    return element.get(name, "").strip()


def _named(role: etree._Element, path: str, qualifier: str) -> str:
    """The first name part with that qualifier, "" for one without any."""
    for element in _elements(role, path):
        qualifiers = (element.get("qualifier") or "").split()
        if qualifier in qualifiers or (not qualifier and not qualifiers):
            return str(_STRING(element))
    return ""


def _path_of(element: etree._Element) -> str:
    """Where an element stands below the document, for a message."""
    names = [etree.QName(e).localname for e in (*reversed(list(element.iterancestors())), element)][1:]
    return "".join(f"{name}/" for name in names)


def _coded(element: etree._Element, spellings: dict[str, str] | None = None) -> Coded | None:
    code = _value(element, "code")
    if not code:
        return None
    return Coded(
        code=(spellings or {}).get(code, code),
        system=_value(element, "codeSystem"),
        display=_value(element, "displayName"),
    )


def _codes(elements: Iterable[etree._Element], spellings: dict[str, str] | None = None) -> tuple[Coded, ...]:
    """Their codes, each once, in order."""
    return tuple(dict.fromkeys(c for element in elements if (c := _coded(element, spellings)) is not None))


def _qualified(translation: etree._Element, name: str) -> bool:
    return any(element.get("code") == name for element in _elements(translation, "qualifier/name"))


def _organization(element: etree._Element) -> Organization | None:
    """An organisation with an identifier, else None."""
    identifier = next((e for e in _elements(element, "id") if e.get("extension")), None)
    if identifier is None:
        return None
    return Organization(
        identifier=_value(identifier, "extension"), system=_value(identifier, "root"), name=_text(element, "name")
    )


def _professional(element: etree._Element) -> Professional:
    """The person an assignedAuthor or assignedEntity names."""
    identifier = next((e for e in _elements(element, "id") if e.get("extension")), None)
    organization = next(iter(_elements(element, "representedOrganization")), None)
    profession = next(iter(_elements(element, "code")), None)
    return Professional(
        identifier=_value(identifier, "extension") if identifier is not None else "",
        system=_value(identifier, "root") if identifier is not None else "",
        family=_text(element, "assignedPerson/name/family"),
        given=_text(element, "assignedPerson/name/given"),
        profession=_coded(profession) if profession is not None else None,
        organization=_organization(organization) if organization is not None else None,
    )
