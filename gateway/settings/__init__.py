"""What a site may set: frozen models with their defaults and units, and the loader that names every mistake.

Invariants:

* an unknown key is an error, never ignored; so is a value of the wrong type, range or syntax;
* ``load`` reports every problem at once, each with the file (or environment variable) it came from (FF-47);
  ``read`` also says what is allowed and yet hardly meant;
* a problem never shows the value of a key that could hold a secret (T60);
* secrets are files of mode 0600 or less, read and judged by ``security.secrets``; none stands in the text.

Order, the later wins: the file, ``conf.d/*.toml`` beside it by name, environment variables
``POTERNE_SECTION__KEY``. A relative path is relative to the file that names it, one from the environment to the
working directory. No socket is opened here: what a running peer answers is not a setting.
"""

from __future__ import annotations

from gateway.settings.certificates import (
    CertificatesSettings,
    LanRevocationSettings,
    RevocationSettings,
    WhiteListSettings,
)
from gateway.settings.dicom import DicomPeerSettings, DicomSettings
from gateway.settings.feeds import FeedFhir, FeedSettings, FeedSyslog
from gateway.settings.fields import address
from gateway.settings.loading import ConfigurationError, Problem, Reading, judge, load, read
from gateway.settings.models import (
    AlertSettings,
    AuditSettings,
    ClockSettings,
    DiskSettings,
    DoctorSettings,
    Hl7Settings,
    IdentityRules,
    ImagesSettings,
    IndexMhd,
    IndexNodeSettings,
    IndexSettings,
    IndexXds,
    LogSettings,
    MailSettings,
    OpsSettings,
    OutboxSettings,
    PacsDicomWeb,
    PacsDimse,
    PacsOrthanc,
    PacsSettings,
    PostgresSettings,
    PublisherSettings,
    Settings,
    StoreSettings,
    TenantSettings,
    TrialSettings,
    VihfSettings,
    WebhookSettings,
    schema_text,
)
from gateway.settings.providers import IdentityProviderSettings
from gateway.settings.section import Section

__all__ = [
    "AlertSettings",
    "AuditSettings",
    "CertificatesSettings",
    "ClockSettings",
    "ConfigurationError",
    "DicomPeerSettings",
    "DicomSettings",
    "DiskSettings",
    "DoctorSettings",
    "FeedFhir",
    "FeedSettings",
    "FeedSyslog",
    "Hl7Settings",
    "IdentityProviderSettings",
    "IdentityRules",
    "ImagesSettings",
    "IndexMhd",
    "IndexNodeSettings",
    "IndexSettings",
    "IndexXds",
    "LanRevocationSettings",
    "LogSettings",
    "MailSettings",
    "OpsSettings",
    "OutboxSettings",
    "PacsDicomWeb",
    "PacsDimse",
    "PacsOrthanc",
    "PacsSettings",
    "PostgresSettings",
    "Problem",
    "PublisherSettings",
    "Reading",
    "RevocationSettings",
    "Section",
    "Settings",
    "StoreSettings",
    "TenantSettings",
    "TrialSettings",
    "VihfSettings",
    "WebhookSettings",
    "WhiteListSettings",
    "address",
    "judge",
    "load",
    "read",
    "schema_text",
]
