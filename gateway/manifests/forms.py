"""The document forms of a manifest behind one face: which form bytes have, how each is read, checked and written,
and what it cannot carry.

A form and a profile make a target: a KOS has three profiles, FHIR is MADO's alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from indexer import fhir, kos
from indexer.manifest import Imprint, StudyManifest
from indexer.reading import CodeSet, Deviation, Form, Profile, Reading
from indexer.rules import Rule, catalogue
from indexer.rules import fhir as fhir_rules
from indexer.rules import kos as kos_rules
from indexer.rules import manifest as manifest_rules
from security.errors import BadInput

RULES: Mapping[str, Rule] = catalogue(manifest_rules.RULES, kos_rules.RULES, fhir_rules.RULES)
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a document is written as. ``codes``: of a KOS of MADO alone."""

    form: Form
    profile: Profile
    codes: CodeSet = "DCM"

    def __str__(self) -> str:
        said = f"{self.form.upper()} {self.profile}"
        return f"{said} ({self.codes})" if (self.form, self.profile) == ("kos", "mado") else said

    @property
    def loses(self) -> Mapping[str, str]:
        """Why, by path below ``StudyManifest``, of everything it cannot carry."""
        return kos.LOSES[self.profile] if self.form == "kos" else fhir.LOSES

    @property
    def narrows(self) -> Mapping[str, str]:
        """How, by path, of what it carries and yet writes otherwise in some cases."""
        return {} if self.form == "kos" else fhir.NARROWS


TARGETS = (
    Target(form="kos", profile="drim-m"),
    Target(form="kos", profile="xds-i"),
    Target(form="kos", profile="mado", codes="99IHE"),
    Target(form="kos", profile="mado"),
    Target(form="fhir", profile="mado"),
)
"""Every document that can be written."""


def form_of(data: bytes) -> Form:
    """Whether these bytes are a DICOM file or JSON.

    Raises:
        BadInput: ``manifest-form`` neither.
    """
    if data[128:132] == b"DICM":
        return "kos"
    if data[:4096].removeprefix(_BOM).lstrip(_BLANK).startswith(b"{"):
        return "fhir"
    raise BadInput(
        "neither a DICOM file nor a JSON object", code=manifest_rules.FORM.id, hint=manifest_rules.FORM.remedy
    )


def read(data: bytes) -> Reading:
    """The document as a manifest.

    Raises:
        BadInput: its code is the id of a rule, or that of a parser (``dicom-…``, ``json-…``).
    """
    return kos.read(data) if form_of(data) == "kos" else fhir.read(data)


def check(data: bytes, *, profile: Profile | None = None) -> tuple[Deviation, ...]:
    """Everything out of rule. ``profile``: the one a KOS is held against, None for its own.

    Raises:
        BadInput: as ``read``.
    """
    return kos.check(data, profile=profile) if form_of(data) == "kos" else fhir.check(data)


def encode(target: Target, manifest: StudyManifest, made: Imprint) -> bytes:
    """The manifest as that document.

    Raises:
        BadInput: its code is the id of the rule that the manifest cannot keep.
    """
    if target.form == "fhir":
        return fhir.encode(manifest, made)
    return kos.encode(manifest, made, profile=target.profile, codes=target.codes)


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """The paths of what differs between two manifests, fields of a list's members under the list's name."""
    if is_dataclass(one) and type(one) is type(other):
        for each in fields(one):
            below = f"{path}.{each.name}" if path else each.name
            yield from differences(getattr(one, each.name), getattr(other, each.name), below)
    elif isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        for left, right in zip(one, other, strict=True):
            yield from differences(left, right, path)
    elif one != other:
        yield path
