"""What a site may set, section by section: each key with its default, its unit and one line of meaning."""

from __future__ import annotations

import json
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.settings.fields import (
    AeTitle,
    BaseUrl,
    Charset,
    DatabaseFile,
    FacilityType,
    IndexUrl,
    KekFile,
    Listen,
    Name,
    Oid,
    OidOrNone,
    PemFile,
    PracticeSetting,
    RetrieveBase,
    Seconds,
    SecretFile,
    Severity,
    Text,
    UidOrNone,
    Zone,
)
from security.errors import Broken


class Section(BaseModel):
    """One table of the configuration.

    ``together``: keys that are set all or none. ``rising``: pairs of keys whose values must not fall. ``deadline``:
    the key that bounds one exchange of a job, "" in a section that describes none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    together: ClassVar[tuple[tuple[str, ...], ...]] = ()
    rising: ClassVar[tuple[tuple[str, str], ...]] = ()
    deadline: ClassVar[str] = ""


class StoreSettings(Section):
    """Where the state lies."""

    path: DatabaseFile = Field(description="SQLite database; created at the first start, its folder must exist.")
    kek_file: KekFile = Field(description="Key-encryption key: 32 bytes or 64 hexadecimal digits, mode 0600 or less.")


class OpsSettings(Section):
    """Zone ops: health and metrics."""

    listen: Listen = Field(default="", description="host:port of /live, /ready and /metrics; empty = off.")


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
    control_study: UidOrNone = Field(
        default="",
        description="Study this PACS always holds, asked before an absence counts; empty = none.",
    )
    timeout_s: Seconds = Field(default=30.0, description="Seconds without progress on the connection.")
    deadline_s: Seconds = Field(default=120.0, description="Seconds for one whole question.")


class PacsDimse(Section):
    """A PACS asked by DICOM query (C-FIND)."""

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


PacsSettings = Annotated[PacsOrthanc | PacsDimse, Field(discriminator="kind")]


class IndexSettings(Section):
    """The index that receives the manifests (XDS.b)."""

    together = (("ca_file", "certificate_file", "key_file"),)
    rising = (("connect_timeout_s", "total_timeout_s"),)
    deadline = "total_timeout_s"

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


class TenantSettings(Section):
    """One legal entity."""

    name: Text = Field(description="Name shown to people.")
    profile: Literal["drim-m"] = Field(default="drim-m", description="Rules of the network it publishes to.")
    timezone: Zone = Field(default="Europe/Paris", description="Time zone of times that state none.")
    hl7: Hl7Settings = Field(default_factory=Hl7Settings, description="Where reports arrive.")
    pacs: dict[Name, PacsSettings] = Field(min_length=1, description="The PACS to ask, by name.")
    index: IndexSettings = Field(description="The index to publish to.")
    publisher: PublisherSettings = Field(description="Who publishes.")
    images: ImagesSettings = Field(description="Where the images are fetched.")
    identity: IdentityRules = Field(default_factory=IdentityRules, description="Identity rules a site may weigh.")


class IndexNodeSettings(Section):
    """The embedded index node (``poterne index serve``)."""

    together = (("ca_file", "certificate_file", "key_file"),)

    listen: Listen = Field(min_length=1, description="host:port of the node.")
    store: StoreSettings = Field(description="Its own database and key.")
    repository_unique_id: Oid = Field(description="OID of its repository.")
    tenant: Name = Field(default="index", description="Tenant under which its rows are kept.")
    ca_file: PemFile | None = Field(default=None, description="Authorities that may sign a client's certificate.")
    certificate_file: PemFile | None = Field(default=None, description="Its certificate.")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    resubmission: Literal["success", "duplicate-error"] = Field(
        default="duplicate-error", description="Answer to the same document sent again, byte for byte."
    )


class Settings(Section):
    """Configuration of Poterne."""

    store: StoreSettings | None = Field(
        default=None, description="Database and key of the gateway; required as soon as there is a legal entity."
    )
    ops: OpsSettings = Field(default_factory=OpsSettings, description="Health and metrics.")
    log: LogSettings = Field(default_factory=LogSettings, description="The log.")
    outbox: OutboxSettings = Field(default_factory=OutboxSettings, description="The engine that publishes.")
    tenants: dict[Name, TenantSettings] = Field(default_factory=dict, description="The legal entities, by name.")
    index_node: IndexNodeSettings | None = Field(default=None, description="The embedded index node.")

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
