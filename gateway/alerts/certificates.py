"""When the certificates that a configuration names end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from cryptography import x509

from gateway.settings import Section, Settings


def certificate_ends(settings: Settings) -> dict[str, datetime]:
    """End of each of our own certificates by its key; a file that cannot be read is left to ``poterne check``."""
    ends: dict[str, datetime] = {}
    for key, path in certificate_files(settings):
        try:
            chain = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError):
            continue
        ends[key] = min(certificate.not_valid_after_utc for certificate in chain)
    return ends


def certificate_files(section: Section, at: str = "") -> Iterator[tuple[str, Path]]:
    """Every certificate of ours in the configuration with its dotted key."""
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{at}{name}"
        if name in {"certificate_file", "sign_certificate_file"} and value is not None:
            yield key, value
        elif isinstance(value, Section):
            yield from certificate_files(value, f"{key}.")
        elif isinstance(value, Mapping):
            for inner, table in value.items():
                if isinstance(table, Section):
                    yield from certificate_files(table, f"{key}.{inner}.")
