"""Names of regions of interest: those of a nomenclature stay, what somebody typed is numbered (AAPM TG-263).

A name of the nomenclature is a base name, then optional parts joined by ``_`` or ``^``; targets carry a type, a
number and a dose. The bases are those that a plan usually has; the site adds its own dictionary.
"""

from __future__ import annotations

import re
from importlib.resources import files


def _bases() -> list[str]:
    lines = files("sampler.pseudonym").joinpath("rois.txt").read_text("ascii").splitlines()
    return sorted(
        (name for line in lines if not line.startswith("#") for name in line.split()), key=len, reverse=True
    )


_DOSE = r"(?:High|Mid|Low|Mid\d{2}|\d{2,5}(?:c?Gy)?|\d+x\d+)"
_TARGET = rf"(?:GTV|CTV|ITV|IGTV|ICTV|PTV|CTV!|PTV!)(?:p|n|m|v|vas|par|sb)?\d{{0,2}}(?:_{_DOSE})*(?:-\d{{2}})?"
_SIDE = r"(?:L|R|A|P|I|S|M|D|RUL|RLL|RML|LUL|LLL|Lt|Rt|Wall|PRV\d{0,2}|Eval|Opt|[A-Z]{0,2}\d{1,2})"
_STRUCTURE = rf"(?:{'|'.join(map(re.escape, _bases()))})s?(?:_{_SIDE})*(?:[-+]{_TARGET})?"
_NAME = re.compile(rf"z?_?(?:{_TARGET}|{_STRUCTURE})~?", re.IGNORECASE)


def is_nomenclature(name: str) -> bool:
    """Whether a region's name says a structure or a target and nobody."""
    return _NAME.fullmatch(name.strip()) is not None


def kept_name(name: str, number: str, *, own_names: frozenset[str]) -> str:
    """The name as it may be told: its own, or ``ROI_<number>`` (the map stays at the site)."""
    if is_nomenclature(name) or name.strip() in own_names:
        return name.strip()
    digits = number.strip()
    return f"ROI_{digits}" if re.fullmatch(r"[+-]?\d{1,11}", digits) else "ROI_0"
