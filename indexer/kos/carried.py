"""What each profile of the KOS cannot carry of a manifest: the one list that the reader's law, the conversions and
their warnings are read from.

A path names a field below ``StudyManifest``; a field of a tuple's members is written with the tuple's name, such as
``series.instances.frames``. Text for people is carried as far as its VR holds it (SH 16, LO 64 characters).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

from indexer.manifest import StudyManifest
from indexer.reading import Profile

_ALL = {
    "patient.traits.given_names": "PatientName has the first birth given name alone",
    "patient.ins.status": "no KOS states whether an INS is qualified",
}
_SERIES = {
    "series.body_part": "no attribute for the series of the evidence",
    "series.date": "no attribute for the series of the evidence",
    "series.time": "no attribute for the series of the evidence",
    "series.region": "no attribute for the series of the evidence",
    "series.laterality": "no attribute for the series of the evidence",
    "series.instances.frames": "no attribute for the instances of the evidence",
    "procedures": "no code, a text for people at most",
    "regions": "no attribute",
    "viewer_url": "no attribute",
}
_NATIONAL = {
    "patient.traits.used_name": "OtherPatientNames means the used name in France alone",
    "patient.traits.used_given_name": "OtherPatientNames means the used name in France alone",
    "patient.traits.birthplace": "PatientComments means the birthplace in France alone",
}

LOSES: Mapping[Profile, Mapping[str, str]] = MappingProxyType(
    {
        "xds-i": _ALL
        | _SERIES
        | _NATIONAL
        | {
            "series.modality": "no attribute; a reader concludes it from the SOP class where it can",
            "series.number": "not in the standard's items",
            "series.description": "no attribute for the series of the evidence",
            "series.instances.number": "not in the standard's items",
            "series.instances.note": "a key-image note is listed, what it says is not",
            "institution.identifier": "InstitutionName is a name alone",
            "institution.system": "InstitutionName is a name alone",
        },
        "drim-m": _ALL
        | _SERIES
        | {
            "institution.system": "the identifier in InstitutionName has no authority",
            "address.ae_title": "no attribute of the profile",
            "series.address.ae_title": "no attribute of the profile",
        },
        "mado": _ALL
        | _NATIONAL
        | {
            "series.instances.note.references": "TID 1609 has the note's title and description alone",
            "address.ae_title": "not demanded, not written",
            "series.address.ae_title": "not demanded, not written",
            "series.body_part": "where a coded region stands for it",
        },
    }
)
"""Why, by path, by profile."""


def lost(manifest: StudyManifest, profile: Profile) -> tuple[str, ...]:
    """The paths of what this manifest states and ``profile`` cannot carry, in the order of ``LOSES``."""
    return tuple(path for path in LOSES[profile] if _stated(manifest, path.split(".")))


def _stated(value: Any, path: list[str]) -> bool:
    if isinstance(value, tuple) and path:
        return any(_stated(one, path) for one in value)
    if not path or value is None:
        return value not in (None, "", ())
    return _stated(getattr(value, path[0]), path[1:])


def _paths(kind: Any, prefix: str = "") -> Iterable[str]:
    """The paths of every field below a dataclass that is none itself."""
    for name, hint in get_type_hints(kind).items():
        inner = next((one for one in _within(hint) if is_dataclass(one)), None)
        if inner is None:
            yield prefix + name
        else:
            yield from _paths(inner, f"{prefix}{name}.")


def _within(hint: Any) -> Iterable[Any]:
    yield hint
    for argument in get_args(hint):
        yield from _within(argument)


CARRIES: Mapping[Profile, tuple[str, ...]] = MappingProxyType(
    {
        profile: tuple(
            path for path in _paths(StudyManifest) if not any(f"{path}.".startswith(f"{one}.") for one in losses)
        )
        for profile, losses in LOSES.items()
    }
)
"""Every path that is not lost, by profile."""
