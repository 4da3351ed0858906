"""What a site may set, section by section: each key with its default, its unit and one line of meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from gateway.settings.certificates import (
    CertificatesSettings,
    LanRevocationSettings,
    RevocationSettings,
    WhiteListSettings,
    without_authorities,
    without_source,
)
from gateway.settings.dicom import DicomSettings
from gateway.settings.feeds import FeedSettings
from gateway.settings.fields import (
    IN_CLEAR_HINT,
    TRUSTED_LAN,
    AeTitle,
    AeTitleOrNone,
    BaseUrl,
    BaseUrlOrNone,
    Charset,
    CrlFile,
    DatabaseFile,
    EmailAddress,
    FacilityType,
    HostName,
    IndexUrl,
    Interface,
    KekFile,
    Listen,
    Matricule,
    Name,
    Network,
    Oid,
    OidOrNone,
    PemFile,
    PracticeSetting,
    RetrieveBase,
    Seconds,
    SecretFile,
    Segment,
    Severity,
    TestAuthority,
    Text,
    UidOrNone,
    WebhookUrl,
    WitnessFile,
    Zone,
    is_open,
    is_this_machine,
)
from gateway.settings.providers import IdentityProviderSettings, providers_apart
from gateway.settings.section import Section
from security.errors import Broken


class PostgresSettings(Section):
    """A PostgreSQL database instead of the SQLite file."""

    together = (("certificate_file", "key_file"),)

    host: Text = Field(description="Host name, address, or the folder of its Unix socket (/var/run/postgresql).")
    port: int = Field(default=5432, ge=1, le=65535, description="Port.")
    database: Text = Field(description="Name of the database; it must exist and belong to the user.")
    user: Text = Field(description="Role under which this gateway connects.")
    password_file: SecretFile | None = Field(
        default=None, description="Its password, in a file of mode 0600 or less."
    )
    ca_file: PemFile | None = Field(
        default=None, description="Authorities of the server; needed beyond this machine."
    )
    certificate_file: PemFile | None = Field(default=None, description="Our certificate towards the server.")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    crl_file: CrlFile | None = Field(
        default=None,
        description="Revocation lists of all authorities of ca_file (PEM); an ended one refuses the server.",
    )
    connect_timeout_s: Seconds = Field(default=10.0, description="Seconds to connect.")

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        if table.get("crl_file") and not table.get("ca_file"):
            yield (
                "crl_file",
                "is of no use without ca_file",
                "name the authorities of the server's certificate in ca_file",
            )
        host = str(table.get("host", "/"))
        if not host.startswith("/") and not is_this_machine(host) and not table.get("ca_file"):
            yield (
                "ca_file",
                "is absent though the database is on another machine",
                "name the authorities of its certificate: patient data never travels in clear",
            )


class StoreSettings(Section):
    """Where the state lies."""

    one_of = (("path", "postgres"),)

    path: DatabaseFile | None = Field(
        default=None, description="SQLite database; created at the first start, its folder must exist."
    )
    postgres: PostgresSettings | None = Field(default=None, description="PostgreSQL instead of a file.")
    kek_file: KekFile = Field(description="Key-encryption key: 32 bytes or 64 hexadecimal digits, mode 0600 or less.")


class OpsSettings(Section):
    """Zone ops: health, metrics, console."""

    together = (("certificate_file", "key_file"),)

    listen: Listen = Field(
        default="", description="host:port of /live, /ready, /metrics and the console; empty = off."
    )
    interface: Interface = ""
    console_key_file: str = Field(
        default="", description="No longer used: the console is opened by accounts (poterne accounts bootstrap)."
    )
    session_idle_s: Seconds = Field(
        default=900.0, description="Seconds without a click after which the console closes."
    )
    names: list[HostName] = Field(
        default_factory=list, description="Host names under which people open the console, beside the address."
    )
    certificate_file: PemFile | None = Field(
        default=None, description="Its certificate (TLS); needed beyond this machine."
    )
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    ca_file: PemFile | None = Field(
        default=None, description="Authorities of people's and services' certificates; none = none is asked for."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        if is_open(table.get("listen")) and not table.get("certificate_file"):
            yield (
                "certificate_file",
                "is absent though other machines reach the console",
                "name certificate_file and key_file, or listen on 127.0.0.1 and use a tunnel",
            )
        if table.get("ca_file") and not table.get("certificate_file"):
            yield "ca_file", "is set though the listener speaks no TLS", "name certificate_file and key_file too"


class AuditSettings(Section):
    """The audit trail; it cannot be switched off."""

    witness_file: WitnessFile | None = Field(
        default=None,
        description="File that signed heads are added to, best on another machine: else no rollback is seen.",
    )
    head_every_s: Seconds = Field(default=60.0, description="Seconds after which waiting records get a head.")
    head_records: int = Field(default=1_000, ge=1, le=10_000, description="Waiting records that get a head at once.")
    retention_years: int = Field(
        default=10, ge=1, le=100, description="Years after which the content of a record is erased; its hash stays."
    )
    feed: dict[Name, FeedSettings] = Field(
        default_factory=dict, description="Audit repositories that the trail is sent to, by name."
    )


class DiskSettings(Section):
    """What the disk of the database must keep free."""

    rising = (("reserve_bytes", "low_bytes"),)

    low_bytes: int = Field(default=2 * 1024**3, ge=0, description="Bytes free under which an alert goes out.")
    reserve_bytes: int = Field(
        default=256 * 1024**2,
        ge=0,
        description="Bytes kept for the queue and the audit trail: below, no report is taken in; given up when full.",
    )


class ClockSettings(Section):
    """How far the clock may be off."""

    offset_max_s: Seconds = Field(default=2.0, description="Seconds of difference with the index before an alert.")


class ExchangeSettings(Section):
    """What is kept of the exchanges with the index, sealed, and who may read them in clear."""

    keep_days: int = Field(default=365, ge=1, le=3650, description="Days an exchange is kept.")
    per_exam_max: int = Field(default=100, ge=1, le=10_000, description="Exchanges kept of one exam, the newest.")
    reveal_users: list[Text] = Field(
        default_factory=list,
        max_length=50,
        description="Users of this machine who may read exchanges in clear by poterne exam --reveal; empty = nobody.",
    )


class DoctorSettings(Section):
    """``poterne doctor``."""

    warnings_fail: bool = Field(default=False, description="Exit code 1 also for warnings.")


class MailSettings(Section):
    """Alerts by e-mail."""

    together = (("username", "password_file"),)

    host: Text = Field(description="Mail relay.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the relay is reached; none only on this machine."
    )
    ca_file: PemFile | None = Field(default=None, description="Authorities of the relay; none = the system's.")
    revocation: LanRevocationSettings = Field(
        default_factory=LanRevocationSettings, description="Whether the server's certificate was revoked."
    )
    username: str = Field(default="", description="User name; empty = no authentication.")
    password_file: SecretFile | None = Field(
        default=None, description="Its password, in a file of mode 0600 or less."
    )
    sender: EmailAddress = Field(description="Address the alerts come from.")
    recipients: list[EmailAddress] = Field(min_length=1, max_length=50, description="Addresses they go to.")

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_authorities(table)
        if table.get("security") == "none" and not is_this_machine(str(table.get("host", ""))):
            yield (
                "security",
                "is none though the relay is on another machine",
                'use "starttls" or "tls"; "none" is for a relay on this machine',
            )


class WebhookSettings(Section):
    """Alerts by HTTP POST of a JSON object."""

    url: WebhookUrl = Field(description="Address that is called.")
    secret_file: SecretFile | None = Field(
        default=None, description="Key of the HMAC-SHA-256 in X-Poterne-Signature; none = unsigned."
    )
    ca_file: PemFile | None = Field(default=None, description="Authorities of that server; none = the system's.")
    revocation: LanRevocationSettings = Field(
        default_factory=LanRevocationSettings, description="Whether the server's certificate was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_authorities(table)


class AlertSettings(Section):
    """What is told to whom. Alerts hold counts and reasons, never a patient."""

    rising = (("every_s", "remind_s"),)

    every_s: Seconds = Field(default=60.0, description="Seconds between two looks at the state.")
    remind_s: float = Field(
        default=86_400.0, gt=0, le=30 * 86_400, description="Seconds after which an open alert is told again."
    )
    language: Literal["fr", "en"] = Field(default="fr", description="Language of the alerts.")
    console_url: BaseUrlOrNone = Field(
        default="", description="Address of the console as people reach it, for the link."
    )
    mail: MailSettings | None = Field(default=None, description="By e-mail.")
    webhook: WebhookSettings | None = Field(default=None, description="By HTTP POST.")


class LogSettings(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity written.")
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="json = one object per line; text = for people; auto = text on a terminal."
    )


class OutboxSettings(Section):
    """The engine that publishes."""

    rising = (("retry_base_s", "retry_cap_s"), ("pacs_retry_base_s", "pacs_retry_cap_s"))

    slots: int = Field(default=8, ge=1, le=64, description="Jobs in hand at once.")
    lease_s: Seconds = Field(
        default=600.0, description="Seconds one job may stay in hand, above every time-out below."
    )
    retry_base_s: Seconds = Field(default=2.0, description="Seconds; first wait when the index is unavailable.")
    retry_cap_s: Seconds = Field(default=900.0, description="Seconds; longest such wait.")
    visibility_s: Seconds = Field(
        default=600.0, description="Seconds an accepted entry may stay invisible before it counts as absent."
    )
    pacs_retry_base_s: Seconds = Field(default=15.0, description="Seconds; first wait when the PACS lacks the study.")
    pacs_retry_cap_s: Seconds = Field(default=900.0, description="Seconds; longest such wait.")
    stop_grace_s: Seconds = Field(default=20.0, description="Seconds that work in hand may take to end at a stop.")


class Hl7Settings(Section):
    """Zone pacs: HL7 v2 over MLLP."""

    listen: Listen = Field(default="", description="host:port of the MLLP listener; empty = off.")
    interface: Interface = ""
    segment: Segment = Field(
        default="",
        description="trusted-lan = MLLP, always in clear, may come from other machines; empty = it may not.",
    )
    networks: list[Network] = Field(
        default_factory=list, description="Networks or addresses that may send; this machine always may."
    )
    message_bytes_max: int = Field(
        default=16 * 1024 * 1024,
        ge=4096,
        le=256 * 1024 * 1024,
        description="Bytes; a larger message gets AR.",
    )
    idle_s: Seconds = Field(default=600.0, description="Seconds without a byte between messages before closing.")
    frame_s: Seconds = Field(default=60.0, description="Seconds from the first to the last byte of one message.")
    connections_max: int = Field(default=50, ge=1, le=1000, description="Connections at once.")
    connections_per_address_max: int = Field(
        default=10, ge=1, le=1000, description="Connections at once from one address."
    )
    fallback_charset: Charset = Field(
        default="cp1252", description="Character set tried when the bytes do not fit what MSH-18 declares."
    )

    rising = (("connections_per_address_max", "connections_max"),)

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        if not is_open(table.get("listen")):
            return
        if table.get("segment") != TRUSTED_LAN:
            yield (
                "segment",
                "is not trusted-lan though reports reach the listener in clear from other machines",
                f'on a network of the site alone write segment = "{TRUSTED_LAN}", or listen on 127.0.0.1',
            )
        if not table.get("networks"):
            yield "networks", "is empty though other machines reach the listener", "name who sends: nobody else may"


class PacsOrthanc(Section):
    """A PACS asked through Orthanc's REST interface."""

    together = (("username", "password_file"),)
    rising = (("timeout_s", "deadline_s"),)
    deadline = "deadline_s"

    kind: Literal["orthanc"]
    url: BaseUrl = Field(description="Base address of the REST interface.")
    username: str = Field(default="", description="User name; empty = no authentication.")
    password_file: SecretFile | None = Field(
        default=None, description="Its password, in a file of mode 0600 or less."
    )
    ca_file: PemFile | None = Field(default=None, description="Authorities of an https address; none = the system's.")
    revocation: LanRevocationSettings = Field(
        default_factory=LanRevocationSettings, description="Whether the server's certificate was revoked."
    )
    control_study: UidOrNone = Field(
        default="",
        description="Study this PACS always holds, asked before an absence counts; empty = none.",
    )
    timeout_s: Seconds = Field(default=30.0, description="Seconds without progress on the connection.")
    deadline_s: Seconds = Field(default=120.0, description="Seconds for one whole question.")
    questions_max: int = Field(default=4, ge=1, le=32, description="Questions at once.")
    changes: bool = Field(default=True, description="Follow /changes: late images are seen without a new report.")
    changes_every_s: Seconds = Field(default=10.0, description="Seconds between two looks at /changes.")

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_authorities(table)


class PacsDicomWeb(Section):
    """A PACS asked by DICOMweb (QIDO-RS)."""

    together = (("username", "password_file"), ("certificate_file", "key_file"))
    rising = (("timeout_s", "deadline_s"),)
    deadline = "deadline_s"

    kind: Literal["dicomweb"]
    url: BaseUrl = Field(description="Base address of the service, without /studies.")
    username: str = Field(default="", description="User name; empty = no authentication.")
    password_file: SecretFile | None = Field(
        default=None, description="Its password, in a file of mode 0600 or less."
    )
    ca_file: PemFile | None = Field(default=None, description="Authorities of an https address; none = the system's.")
    revocation: LanRevocationSettings = Field(
        default_factory=LanRevocationSettings, description="Whether the server's certificate was revoked."
    )
    certificate_file: PemFile | None = Field(default=None, description="Our certificate towards the PACS.")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    control_study: UidOrNone = Field(
        default="",
        description="Study this PACS always holds, asked before an absence counts; empty = none.",
    )
    timeout_s: Seconds = Field(default=30.0, description="Seconds without progress on the connection.")
    deadline_s: Seconds = Field(default=120.0, description="Seconds for one whole question, whatever keeps arriving.")
    questions_max: int = Field(default=4, ge=1, le=32, description="Questions at once.")

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_authorities(table)


class PacsDimse(Section):
    """A PACS asked by DICOM query (C-FIND)."""

    together = (("ca_file", "certificate_file", "key_file"),)
    rising = (("timeout_s", "deadline_s"),)
    deadline = "deadline_s"

    kind: Literal["dimse"]
    host: Text = Field(description="Host name or address of the PACS.")
    port: int = Field(ge=1, le=65535, description="DICOM port of the PACS.")
    called_aet: AeTitle = Field(description="AE title of the PACS.")
    calling_aet: AeTitle = Field(description="AE title under which the PACS knows this gateway.")
    default_charset: Literal[
        "ISO_IR 6", "ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 144", "ISO_IR 127", "ISO_IR 126",
        "ISO_IR 138", "ISO_IR 148", "ISO_IR 166", "ISO_IR 203", "ISO_IR 13", "ISO_IR 192", "GB18030", "GBK",
    ] = Field(default="ISO_IR 100", description="Character set of answers that state none.")  # fmt: skip
    control_study: UidOrNone = Field(
        default="",
        description="Study this PACS always holds, asked before an absence counts; empty = none.",
    )
    timeout_s: Seconds = Field(default=30.0, description="Seconds without progress on the association.")
    deadline_s: Seconds = Field(default=120.0, description="Seconds for one whole question, whatever keeps arriving.")
    questions_max: int = Field(default=4, ge=1, le=32, description="Associations at once.")
    segment: Segment = Field(
        default="",
        description="trusted-lan = the PACS is on a network where DICOM may travel in clear; empty = it is not.",
    )
    ca_file: PemFile | None = Field(default=None, description="Authorities of the PACS's certificate (TLS).")
    certificate_file: PemFile | None = Field(default=None, description="Our certificate towards the PACS (TLS).")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    revocation: LanRevocationSettings = Field(
        default_factory=LanRevocationSettings, description="Whether the PACS's certificate was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        in_clear = not table.get("certificate_file") and table.get("segment") != TRUSTED_LAN
        if in_clear and not is_this_machine(str(table.get("host", "localhost"))):
            yield (
                "segment",
                "is not trusted-lan though DICOM would go to another machine in clear",
                IN_CLEAR_HINT,
            )


PacsSettings = Annotated[PacsOrthanc | PacsDicomWeb | PacsDimse, Field(discriminator="kind")]


class VihfSettings(Section):
    """The assertion (VIHF) that says who asks, beside every request to the index."""

    version: Literal["3.0", "4.0"] = Field(default="4.0", description="VIHF_Version.")
    lps_id: Text = Field(description="LPS_ID: identifier of this software at the index.")
    homologation: str = Field(
        default="", max_length=256, description="LPS_ID_HOMOLOGATION_DMP; empty = leave it out."
    )


class IndexXds(Section):
    """An index reached by XDS.b (SOAP)."""

    together = (("ca_file", "certificate_file", "key_file"), ("sign_certificate_file", "sign_key_file"))
    rising = (("connect_timeout_s", "total_timeout_s"),)
    deadline = "total_timeout_s"

    kind: Literal["xds"] = Field(default="xds", description="XDS.b: ITI-41, ITI-18, ITI-43, ITI-57.")
    registry_url: IndexUrl = Field(description="Address of the registry (ITI-18).")
    repository_url: IndexUrl = Field(description="Address of the repository (ITI-41, ITI-43).")
    repository_unique_id: Oid = Field(description="OID of the repository.")
    ca_file: PemFile | None = Field(default=None, description="Authorities that may sign the index's certificate.")
    certificate_file: PemFile | None = Field(default=None, description="Our certificate towards the index.")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    connect_timeout_s: Seconds = Field(default=10.0, description="Seconds to connect, TLS included.")
    total_timeout_s: Seconds = Field(default=60.0, description="Seconds for one whole exchange.")
    response_bytes_max: int = Field(
        default=16 * 1024 * 1024,
        ge=4096,
        le=256 * 1024 * 1024,
        description="Bytes of one answer; more is refused.",
    )
    sign_certificate_file: PemFile | None = Field(
        default=None, description="Certificate (SIGN) of what we sign; none = nothing is signed."
    )
    sign_key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    sign_digest: Literal["sha256", "sha1"] = Field(
        default="sha256", description="Digest of signatures; sha1 only for an index that knows nothing better."
    )
    sign_sets: bool = Field(
        default=True, description="Add a signature document to every submission when there is a SIGN certificate."
    )
    metadata_update: bool = Field(
        default=True,
        description="Change whom an exam is hidden from by new metadata (ITI-57); false = by a new manifest.",
    )
    vihf: VihfSettings | None = Field(default=None, description="Assertion beside every request; none = without.")
    revocation: RevocationSettings = Field(
        default_factory=RevocationSettings, description="Whether the index's certificate was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_source(table)
        if table.get("vihf") and not table.get("sign_certificate_file"):
            yield (
                "sign_certificate_file",
                "is absent though an assertion (vihf) is asked for",
                "name the SIGN certificate and its key: an assertion is signed",
            )

    @property
    def address(self) -> str:
        """Where it is asked."""
        return self.registry_url


class IndexMhd(Section):
    """An index reached by MHD (FHIR)."""

    together = (("ca_file", "certificate_file", "key_file"),)
    rising = (("connect_timeout_s", "total_timeout_s"),)
    deadline = "total_timeout_s"

    kind: Literal["mhd"] = Field(description="MHD: ITI-65, ITI-67, ITI-68.")
    base_url: IndexUrl = Field(description="FHIR base of the index.")
    fhir_documents: Literal["bundle", "binary"] = Field(
        default="binary", description="A FHIR manifest travels as itself, or serialised in a Binary."
    )
    ca_file: PemFile | None = Field(default=None, description="Authorities that may sign the index's certificate.")
    certificate_file: PemFile | None = Field(default=None, description="Our certificate towards the index.")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    connect_timeout_s: Seconds = Field(default=10.0, description="Seconds to connect, TLS included.")
    total_timeout_s: Seconds = Field(default=60.0, description="Seconds for one whole exchange.")
    response_bytes_max: int = Field(
        default=16 * 1024 * 1024,
        ge=4096,
        le=256 * 1024 * 1024,
        description="Bytes of one answer; more is refused.",
    )
    revocation: RevocationSettings = Field(
        default_factory=RevocationSettings, description="Whether the index's certificate was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_source(table)

    @property
    def address(self) -> str:
        """Where it is asked."""
        return self.base_url


def _door(value: Any) -> str:
    """The kind of an index section; a section that states none is of XDS.b."""
    return str(value.get("kind", "xds")) if isinstance(value, Mapping) else str(getattr(value, "kind", "xds"))


IndexSettings = Annotated[Annotated[IndexXds, Tag("xds")] | Annotated[IndexMhd, Tag("mhd")], Discriminator(_door)]


class PublisherSettings(Section):
    """Who publishes: author and submission metadata (drim-m §5)."""

    device_id: Text = Field(description="Identifier of this gateway as authoring device.")
    device_name: Text = Field(default="Poterne", description="Name of that device.")
    manufacturer: Text = Field(default="Poterne", description="Manufacturer written into the manifests.")
    institution_name: Text = Field(description="Name of the establishment.")
    institution_id: Text = Field(description="Its identifier (FINESS, SIRET …).")
    institution_system: Oid = Field(default="1.2.250.1.71.4.2.2", description="OID of that identifier's scheme.")
    source_id: Oid = Field(description="OID of this source (XDSSubmissionSet.sourceId).")
    content_type_code: Text = Field(default="04", description="XDSSubmissionSet.contentTypeCode.")
    content_type_system: Oid = Field(default="1.2.250.1.213.2.2", description="OID of its code system.")
    content_type_display: Text = Field(default="Hospitalisation de jour", description="Its display name.")
    facility_type: FacilityType = Field(description="Facility type (SA01 …) of exams whose report states none.")
    practice_setting: PracticeSetting = Field(
        description="Practice setting (AMBULATOIRE …) of exams whose report states none."
    )


class ImagesSettings(Section):
    """Where others fetch the images that a manifest announces."""

    retrieve_base: RetrieveBase = Field(description="WADO-RS base address, without /studies.")
    retrieve_location: OidOrNone = Field(default="", description="OID of the image source; empty = none.")
    retrieve_aet: AeTitleOrNone = Field(default="", description="AE title of the image source; empty = none.")


class IdentityRules(Section):
    """What the identity gate does about conflicts a site may weigh (indexer.gate.Rules); the others always hold."""

    nir_digits: Severity = Field(default="hold", description="Matricule's digits against sex and birth date.")
    birthplace_history: Severity = Field(default="warn", description="Another birthplace than the one already held.")
    pacs_name: Severity = Field(default="hold", description="Name in the PACS against the report.")
    pacs_birth_date: Severity = Field(default="hold", description="Birth date in the PACS against the report.")
    pacs_sex: Severity = Field(default="hold", description="Sex in the PACS against the report.")
    test_identity: Severity = Field(
        default="hold", description="Matricule of a test or demonstration authority; off on test platforms."
    )


class TrialSettings(Section):
    """The test patient of the trial exam: one that the index gave for tests, never a real person."""

    together = (("matricule", "ins_oid"),)
    one_of = (("matricule", "patient_id"),)

    matricule: Matricule | None = Field(default=None, description="INS matricule, with its key (profile drim-m).")
    ins_oid: TestAuthority | None = Field(
        default=None, description="OID of its authority, such as 1.2.250.1.213.1.4.10 (test NIR)."
    )
    patient_id: Text | None = Field(
        default=None, description="Identifier in patient_domain that the index reserves for tests (other profiles)."
    )
    birth_name: Text = Field(description="Birth name.")
    first_given_name: Text = Field(description="First given name.")
    sex: Literal["M", "F", "U"] = Field(description="Sex.")
    birth_date: str = Field(pattern=r"^[0-9]{8}$", description="Date of birth, YYYYMMDD.")
    birthplace: str = Field(
        default="", pattern=r"^([0-9][0-9AB][0-9]{3})?$", description="INSEE code of the birthplace."
    )


class ReconciliationSettings(Section):
    """The comparison of PACS, database and index. Never in shadow mode: the index must hear nothing then."""

    hour: int = Field(
        default=3, ge=-1, le=23, description="Hour of the night at which it runs, in the tenant's time; -1 = never."
    )
    days: int = Field(default=7, ge=1, le=3650, description="Days of exams that a nightly run looks back.")
    every_days: int = Field(
        default=30,
        ge=1,
        le=3650,
        description="Days after which a nightly run looks at an exam again, however old it is.",
    )
    withdrawals_max: int = Field(
        default=20, ge=0, description="Withdrawals one run may ask for; more, and a person is asked."
    )
    withdrawals_share_max: float = Field(
        default=0.01, ge=0, le=1, description="Their greatest share of the exams looked at, from three on."
    )
    kept_days: int = Field(default=400, ge=1, le=3650, description="Days for which what a run found is kept.")
    kept_runs: int = Field(default=100, ge=1, le=10_000, description="Runs of which what they found is kept.")


class CompletenessSettings(Section):
    """When the images of an exam count as complete."""

    rising = (("idle_s", "ceiling_s"), ("apart_s", "ceiling_s"))

    by: Literal["profile", "report", "evidence"] = Field(
        default="profile",
        description="What publishes: report = a validated report alone; evidence = the images must be complete too;"
        " profile = report in drim-m, evidence elsewhere.",
    )
    apart_s: Seconds = Field(default=300.0, description="Seconds between two looks that find the same images.")
    idle_s: Seconds = Field(
        default=600.0, description="Seconds without new images before they are complete, late images too."
    )
    ceiling_s: Seconds = Field(
        default=2700.0, description="Seconds after which an exam goes out with the images that are there."
    )


class ContinuitySettings(Section):
    """What may be lost and how long it may take: declared here, measured all the time."""

    rpo_s: float = Field(
        default=172_800.0,
        gt=0,
        le=366 * 86_400,
        description="Seconds of work that may be lost with the machine (RPO).",
    )
    rto_s: float = Field(
        default=900.0, gt=0, le=366 * 86_400, description="Seconds in which the service must be back (RTO)."
    )


class TenantSettings(Section):
    """One legal entity."""

    name: Text = Field(description="Name shown to people.")
    mode: Literal["shadow", "live"] = Field(
        description="shadow = everything but the sending, to look at first; live = publish."
    )
    profile: Literal["drim-m", "xds-i", "mado"] = Field(
        default="drim-m", description="Rules of the network it publishes to."
    )
    form: Literal["kos", "fhir"] = Field(
        default="kos", description="In which the manifest is written; fhir is MADO's and drim-m knows none."
    )
    patient_domain: OidOrNone = Field(
        default="",
        description="OID of the register whose identifier names the patient in the index; not in profile drim-m.",
    )
    timezone: Zone = Field(default="Europe/Paris", description="Time zone of times that state none.")
    hl7: Hl7Settings = Field(default_factory=Hl7Settings, description="Where reports arrive.")
    dicom: DicomSettings = Field(default_factory=DicomSettings, description="Where DICOM objects arrive.")
    pacs: dict[Name, PacsSettings] = Field(min_length=1, description="The PACS to ask, by name.")
    index: IndexSettings = Field(description="The index to publish to.")
    publisher: PublisherSettings = Field(description="Who publishes.")
    images: ImagesSettings = Field(description="Where the images are fetched.")
    identity: IdentityRules = Field(default_factory=IdentityRules, description="Identity rules a site may weigh.")
    reconciliation: ReconciliationSettings = Field(
        default_factory=ReconciliationSettings, description="Comparison of PACS, database and index."
    )
    completeness: CompletenessSettings = Field(
        default_factory=CompletenessSettings, description="When the images of an exam are complete."
    )
    continuity: ContinuitySettings = Field(
        default_factory=ContinuitySettings, description="What may be lost, how long it may take."
    )
    trial: TrialSettings | None = Field(default=None, description="The test patient of the trial exam.")

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        profile, form = table.get("profile", "drim-m"), table.get("form", "kos")
        trial = table.get("trial")
        stated = trial if isinstance(trial, Mapping) else {}
        if profile == "drim-m":
            if form == "fhir":
                yield "form", "is fhir though profile drim-m knows the KOS alone", 'write "kos", or profile "mado"'
            if table.get("patient_domain"):
                reason = "is set though profile drim-m names patients by their INS"
                yield "patient_domain", reason, "leave it out, or choose another profile"
            if stated.get("patient_id"):
                reason = "is set though profile drim-m names patients by their INS"
                yield "trial.patient_id", reason, "give matricule and ins_oid"
        if profile not in {"xds-i", "mado"}:
            return
        if profile == "xds-i" and form == "fhir":
            yield "form", "is fhir though profile xds-i knows the KOS alone", 'write "kos", or profile "mado"'
        images = table.get("images")
        source = "retrieve_location" if profile == "mado" else "retrieve_aet"
        if isinstance(images, Mapping) and not images.get(source):
            yield f"images.{source}", f"is absent though profile {profile} wants it in every manifest", "name it"
        if not table.get("patient_domain"):
            yield "patient_domain", f"is absent though profile {profile} names patients by it", "name its OID"
        if stated.get("matricule"):
            reason = f"is set though profile {profile} names patients in patient_domain"
            yield "trial.matricule", reason, "give patient_id"


class IndexNodeSettings(Section):
    """The embedded index node (``poterne index serve``)."""

    together = (("ca_file", "certificate_file", "key_file"),)

    listen: Listen = Field(min_length=1, description="host:port of the node.")
    interface: Interface = ""
    store: StoreSettings = Field(description="Its own database and key.")
    repository_unique_id: Oid = Field(description="OID of its repository.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="Its audit trail.")
    tenant: Name = Field(default="index", description="Tenant under which its rows are kept.")
    ca_file: PemFile | None = Field(default=None, description="Authorities that may sign a client's certificate.")
    certificate_file: PemFile | None = Field(default=None, description="Its certificate.")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    assertion_certificates_file: PemFile | None = Field(
        default=None,
        description="Certificates whose assertions (VIHF) are believed; none = none is asked for.",
    )
    assertion_sha1: bool = Field(default=False, description="Believe assertions signed with SHA-1 too.")
    resubmission: Literal["success", "duplicate-error"] = Field(
        default="duplicate-error", description="Answer to the same document sent again, byte for byte."
    )
    revocation: RevocationSettings = Field(
        default_factory=RevocationSettings, description="Whether a client's certificate was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        if is_open(table.get("listen")) and not table.get("certificate_file"):
            yield (
                "certificate_file",
                "is absent though other machines reach the node",
                "name ca_file, certificate_file and key_file: every client shows its certificate",
            )
        yield from without_source(table)


class Settings(Section):
    """Configuration of Poterne."""

    store: StoreSettings | None = Field(
        default=None, description="Database and key of the gateway; required as soon as there is a legal entity."
    )
    ops: OpsSettings = Field(default_factory=OpsSettings, description="Health and metrics.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="The audit trail.")
    disk: DiskSettings = Field(default_factory=DiskSettings, description="Free space.")
    clock: ClockSettings = Field(default_factory=ClockSettings, description="The clock.")
    doctor: DoctorSettings = Field(default_factory=DoctorSettings, description="poterne doctor.")
    alerts: AlertSettings = Field(default_factory=AlertSettings, description="Who is told of what.")
    log: LogSettings = Field(default_factory=LogSettings, description="The log.")
    outbox: OutboxSettings = Field(default_factory=OutboxSettings, description="The engine that publishes.")
    exchanges: ExchangeSettings = Field(
        default_factory=ExchangeSettings, description="What was said between us and the index."
    )
    tenants: dict[Name, TenantSettings] = Field(default_factory=dict, description="The legal entities, by name.")
    index_node: IndexNodeSettings | None = Field(default=None, description="The embedded index node.")
    certificates: CertificatesSettings = Field(
        default_factory=CertificatesSettings, description="Certificates and what is known of their revocation."
    )
    white_list: WhiteListSettings | None = Field(default=None, description="The signed list of the network's boxes.")
    identity_providers: dict[Name, IdentityProviderSettings] = Field(
        default_factory=dict, description="Whose tokens are believed and where people sign in, by name."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from providers_apart(table)

    def gateway_store(self) -> StoreSettings:
        """Database and key of the gateway.

        Raises:
            Broken: ``no-gateway-store`` this configuration describes an index node alone.
        """
        if self.store is None:
            raise Broken(
                "this configuration has no [store]: it describes an index node, not a gateway",
                code="no-gateway-store",
                hint="run: poterne index serve, or describe the gateway in [store] and [tenants.<name>]",
            )
        return self.store


def schema_text() -> str:
    """The JSON Schema of the file, as stored in ``conf/poterne.schema.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Settings.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
