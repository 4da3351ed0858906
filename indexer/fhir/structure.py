"""Whether a Bundle is built of FHIR R4: elements, types and numbers, by ``fhir.resources``, whose only door this is.

The library has no plain R4; its R4B defines the resources of a manifest as R4 does. It leaves required bindings,
references and profiles unchecked: ``bindings`` and ``profile`` do that.

Invariant: what is said of a fault is where it stands and of what kind it is, never what stands there.
"""

from __future__ import annotations

import re

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

from indexer.fhir.document import Json
from indexer.reading import Deviation

_ELEMENT = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}", re.ASCII)


def faults(bundle: Json) -> list[Deviation]:
    """Every place where the Bundle is not one of R4, as ``fhir-structure``.

    On some values (an unknown resourceType, a url that is no text) the library fails instead of answering: then each
    entry is tried alone, so that one such value hides nothing elsewhere."""
    said = _said(bundle)
    if said is not None:
        return said
    listed = bundle.get("entry")
    entries = listed if isinstance(listed, list) else []
    outside = _said({name: value for name, value in bundle.items() if name != "entry"})
    found = [_failed("Bundle")] if outside is None else outside
    for place, entry in enumerate(entries):
        alone = _said({"resourceType": "Bundle", "type": "collection", "entry": [entry]}, first=place)
        found += [_failed(f"Bundle.entry[{place}]")] if alone is None else alone
    return found


def _said(bundle: Json, *, first: int = 0) -> list[Deviation] | None:
    """What the library says of a Bundle, None when it fails. ``first``: the true place of its first entry."""
    try:
        Bundle.model_validate(dict(bundle))
    except ValidationError as cause:
        told = cause.errors(include_url=False, include_context=False, include_input=False)
        return [
            Deviation(rule="fhir-structure", where=_where(one["loc"], first=first), detail=one["type"])
            for one in told
        ]
    except (AttributeError, KeyError, TypeError):
        return None
    return []


def _failed(where: str) -> Deviation:
    return Deviation(rule="fhir-structure", where=where, detail="a value of no type that R4 has here")


def _where(location: tuple[str | int, ...], *, first: int) -> str:
    """A path of elements; a name that no element can have is not repeated."""
    path = "Bundle"
    for part in location:
        if isinstance(part, int):
            path += f"[{part + first}]" if path == "Bundle.entry" else f"[{part}]"
        else:
            path += f".{part if _ELEMENT.fullmatch(part) else '?'}"
    return path
