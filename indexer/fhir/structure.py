"""Whether a Bundle is built of FHIR R4: elements, types and numbers, by ``fhir.resources``, whose only door this is.

The library has no plain R4; its R4B defines the resources of a manifest as R4 does. It leaves required bindings,
references and profiles unchecked: ``bindings`` and ``profile`` do that.

Invariant: what is said of a fault is where it stands and of what kind it is, never what stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

from indexer.fhir.document import Json
from indexer.reading import Deviation

_ELEMENT = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}", re.ASCII)


def faults(bundle: Json) -> Iterator[Deviation]:
    """Every place where the Bundle is not one of R4, as ``fhir-structure``."""
    try:
        Bundle.model_validate(dict(bundle))
    except ValidationError as cause:
        for fault in cause.errors(include_url=False, include_context=False, include_input=False):
            yield Deviation(rule="fhir-structure", where=_where(fault["loc"]), detail=fault["type"])
    except (KeyError, TypeError):  # how the library says that a resourceType is none; it does not say where
        yield Deviation(rule="fhir-structure", where="Bundle", detail="unknown resourceType")


def _where(location: tuple[str | int, ...]) -> str:
    """A path of elements; a name that no element can have is not repeated."""
    path = "Bundle"
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part if _ELEMENT.fullmatch(part) else '?'}"
    return path
