"""What a validated report says about an exam, whichever message carried it.

A ``Report`` is the content of one CDA R2 report header (drim-m §3) plus the flags of its envelope; the doors
(`gateway.hl7`) build it, the gate and the publication read it. Nothing here knows HL7 or XML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from security.identity import PatientIdentity, Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A coded value: ``code`` in the code system of OID ``system``."""

    code: str
    system: str
    display: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentId:
    """CDA ``id``: ``root`` OID or UUID, ``extension`` possibly empty."""

    root: str
    extension: str = ""

    def __str__(self) -> str:
        return f"{self.root}^{self.extension}" if self.extension else self.root


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A structure: ``identifier`` in the scheme of OID ``system`` (FINESS, SIRET…), its name."""

    identifier: str
    system: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Professional:
    """A professional (RPPS…), with profession and speciality if stated."""

    identifier: str
    system: str
    family: str = ""
    given: str = ""
    profession: Coded | None = None
    organization: Organization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One imaging order the report fulfils (CDA inFulfillmentOf/order). Issuers are OIDs, "" if not stated."""

    accession_number: str
    accession_issuer: str
    placer_number: str
    placer_issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """The visibility flags of drim-m §2, as stated by the envelope. Silence is the default of each field."""

    masked_to_professionals: bool = False  # MASQUE_PS
    invisible_to_patient: bool = False  # INVISIBLE_PATIENT
    invisible_to_guardians: bool = False  # INVISIBLE_REP_LEGAUX
    secret_connection: bool = False  # CONNEXION_SECRETE
    changes_confidentiality: bool = False  # MODIF_CONF_CODE
    for_index: bool = True  # DESTDMP


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One validated report.

    ``patient``: as the CDA states it. ``studies``: every study the report documents, in document order, at
    least one. ``orders``: every order, in document order, at least one. ``modalities`` carry DICOM codes
    (``RM`` already normalised to ``MR``). Times are aware, or None when absent.
    """

    document_id: DocumentId
    set_id: str
    version_number: int | None
    replaces: DocumentId | None
    patient: PatientIdentity
    studies: tuple[Uid, ...]
    orders: tuple[Order, ...]
    authors: tuple[Professional, ...]
    legal_authenticator: Professional | None
    performer: Organization | None
    procedure: Coded | None
    procedures_local: tuple[Coded, ...] = ()  # CCAM
    modalities: tuple[Coded, ...] = ()
    regions: tuple[Coded, ...] = ()
    service_start: datetime | None = None
    service_stop: datetime | None = None
    facility_type: Coded | None = None
    practice_setting: Coded | None = None
    confidentiality: str = "N"
    language: str = "fr-FR"
    title: str = ""
    effective_time: datetime | None = None
    visibility: Visibility = field(default_factory=Visibility)
    sender: Professional | None = None  # PRT-4 SB: person and structure on whose behalf we publish
