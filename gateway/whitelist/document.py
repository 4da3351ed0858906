"""What a white list says, from the element that was signed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from lxml import etree

from security.errors import BadInput

NAMESPACE = "https://github.com/ansforge/DRIM-M_DATA"
VERSION = "1.0.0"
ENTRIES_MAX = 50_000
_N = f"{{{NAMESPACE}}}"
_FIELDS = ("Identifiant", "db", "vi", "Denomination", "DNCertificatOperateur", "SupportContact", "DateMAJ")
_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")
_TEXT_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One entry. ``api_host``: db, where images are served; ``viewer_host``: vi; ``certificate_dn``: name of the
    operator's certificate (RFC 4514)."""

    identifier: str
    api_host: str
    viewer_host: str
    name: str
    certificate_dn: str
    support: str
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteList:
    """The list. ``boxes``: by identifier."""

    generated_at: datetime
    boxes: Mapping[str, Box]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What one list has that another has not; ``changed``: before and after."""

    added: tuple[Box, ...]
    removed: tuple[Box, ...]
    changed: tuple[tuple[Box, Box], ...]


def white_list(root: etree._Element) -> WhiteList:
    """The list in the signed element.

    Raises:
        BadInput: ``white-list-version``, ``white-list-shape``, ``white-list-duplicate``.
    """
    if root.tag != _N + "ListeBlancheDRIM-M" or root.get("versionFormat") != VERSION:
        raise _bad("version", f"no ListeBlancheDRIM-M of format {VERSION}")
    children = list(root)
    if [child.tag for child in children] != [_N + "DateDeGeneration", _N + "ListeDomaines"]:
        raise _bad("shape", "it holds something else than a date and the boxes")
    entries = list(children[1])
    if not 0 < len(entries) <= ENTRIES_MAX or any(entry.tag != _N + "Domaine" for entry in entries):
        raise _bad("shape", f"{len(entries)} entries, from 1 to {ENTRIES_MAX} of the kind Domaine are wanted")
    boxes = [_box(entry) for entry in entries]
    for what in ("identifier", "api_host"):
        if len({getattr(box, what) for box in boxes}) != len(boxes):
            raise _bad("duplicate", f"two boxes have the same {what}")
    return WhiteList(generated_at=_moment(children[0]), boxes={box.identifier: box for box in boxes})


def difference(before: WhiteList | None, after: WhiteList) -> Difference:
    """What changed from one list to the next."""
    old = before.boxes if before else {}
    return Difference(
        added=tuple(box for key, box in after.boxes.items() if key not in old),
        removed=tuple(box for key, box in old.items() if key not in after.boxes),
        changed=tuple((old[key], box) for key, box in after.boxes.items() if key in old and old[key] != box),
    )


def _box(entry: etree._Element) -> Box:
    children = list(entry)
    if [child.tag for child in children] != [_N + name for name in _FIELDS]:
        raise _bad("shape", f"an entry at line {entry.sourceline} has not the fields it must have")
    identifier, api, viewer, name, subject, support, _ = map(_text, children)
    for host in (api, viewer):
        if not _HOST.fullmatch(host):
            raise _bad("shape", f"an entry at line {entry.sourceline} has no usable host name")
    try:
        x509.Name.from_rfc4514_string(subject)
    except ValueError:
        raise _bad("shape", f"an entry at line {entry.sourceline} has no usable name of a certificate") from None
    return Box(
        identifier=identifier,
        api_host=api,
        viewer_host=viewer,
        name=name,
        certificate_dn=subject,
        support=support,
        changed_at=_moment(children[-1]),
    )


def _text(element: etree._Element) -> str:
    text = (element.text or "").strip()
    if len(element) or not text or len(text) > _TEXT_MAX or not text.isprintable():
        raise _bad("shape", f"a value at line {element.sourceline} is empty, too long or not a text")
    return text


def _moment(element: etree._Element) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(element))
    except ValueError:
        raise _bad("shape", f"a moment at line {element.sourceline} cannot be read") from None
    if moment.tzinfo is None:
        raise _bad("shape", f"a moment at line {element.sourceline} has no zone")
    return moment


def _bad(code: str, message: str) -> BadInput:
    return BadInput(f"white list: {message}", code=f"white-list-{code}", hint="tell whoever publishes the list")
