"""Where the audit trail goes, besides this machine: an audit repository, by syslog over TLS or by FHIR (ITI-20)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.settings.certificates import RevocationSettings, without_source
from gateway.settings.fields import IndexUrl, PemFile, Seconds, SecretFile, Text
from gateway.settings.section import Section


class FeedSyslog(Section):
    """An audit repository reached by syslog over TLS (RFC 5425)."""

    rising = (("connect_s", "total_s"),)
    deadline = "total_s"

    kind: Literal["syslog"] = Field(description="RFC 5424 messages over TLS, octets counted.")
    host: Text = Field(description="Host name of the repository, as its certificate has it.")
    port: int = Field(default=6514, ge=1, le=65535, description="Its port.")
    ca_file: PemFile = Field(description="Authorities of its certificate.")
    certificate_file: PemFile = Field(description="Our certificate towards it.")
    key_file: SecretFile = Field(description="Its private key, mode 0600 or less.")
    source_id: Text = Field(description="Name of this node in every message (AuditSourceID).")
    site_id: str = Field(default="", max_length=64, description="Name of the site (AuditEnterpriseSiteID).")
    every_s: Seconds = Field(default=10.0, description="Seconds a record waits for others before it goes out.")
    alert_after_s: Seconds = Field(default=900.0, description="Seconds a record may wait before an alert.")
    connect_s: Seconds = Field(default=10.0, description="Seconds to connect, TLS included.")
    total_s: Seconds = Field(default=60.0, description="Seconds for one whole batch.")
    revocation: RevocationSettings = Field(
        default_factory=RevocationSettings, description="Whether the repository's certificate was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_source(table)


class FeedFhir(Section):
    """An audit repository reached by FHIR (RESTful ATNA)."""

    together = (("ca_file", "certificate_file", "key_file"),)
    rising = (("connect_s", "total_s"),)
    deadline = "total_s"

    kind: Literal["fhir"] = Field(description="AuditEvent resources, several as a batch Bundle.")
    url: IndexUrl = Field(description="FHIR base of the repository; https beyond this machine.")
    ca_file: PemFile | None = Field(default=None, description="Authorities of its certificate.")
    certificate_file: PemFile | None = Field(default=None, description="Our certificate towards it.")
    key_file: SecretFile | None = Field(default=None, description="Its private key, mode 0600 or less.")
    source_id: Text = Field(description="Name of this node in every event (source.observer).")
    site_id: str = Field(default="", max_length=64, description="Name of the site (source.site).")
    every_s: Seconds = Field(default=10.0, description="Seconds a record waits for others before it goes out.")
    alert_after_s: Seconds = Field(default=900.0, description="Seconds a record may wait before an alert.")
    connect_s: Seconds = Field(default=10.0, description="Seconds to connect, TLS included.")
    total_s: Seconds = Field(default=60.0, description="Seconds for one whole batch.")
    revocation: RevocationSettings = Field(
        default_factory=RevocationSettings, description="Whether the repository's certificate was revoked."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_source(table)


FeedSettings = Annotated[FeedSyslog | FeedFhir, Field(discriminator="kind")]
