"""How an XDM archive is laid out (drim-m §7): names, and CR.TXT, which ties an exam to its reports.

``KA<yyyymm>/{INDEX.HTM, README.TXT, IHE_XDM/SS<6 digits>/{METADATA.XML, KOS_<i>_<j>.DCM, SIGN_<i>.XML, CR.TXT}}``

Invariants:

* what is written is exactly this; the month is that of the manifest's making, sets are numbered from 1 within it;
* read is what other boxes make of it: any case, any folder around ``IHE_XDM``, the URI of a document from the set's
  own folder (ITI TF-2 3.32.4.1.2) or, as the national sample has it, from ``IHE_XDM``.

Decision: an exam with several reports has a line for each, every line but the last one closed by a semicolon, so that
a reader that knows one report only still finds its six fields clean.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.report import DocumentId
from security.errors import BadInput

INDEX, README, ROOT = "INDEX.HTM", "README.TXT", "IHE_XDM"
METADATA, REPORTS = "METADATA.XML", "CR.TXT"
_FIELDS = 6
_REPORTS_MAX = 64
_ID = re.compile(r"[0-9A-Za-z.-]{1,128}", re.ASCII)
_EXTENSION = re.compile(r"[^;\x00-\x1f\x7f]{0,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One line of CR.TXT: a report of the exam and its patient. "" for what it does not state."""

    report: DocumentId
    matricule: str = ""
    ins_oid: str = ""
    local_id: str = ""
    local_issuer: str = ""

    def __repr__(self) -> str:
        return f"Link({self.report})"


def month(made_at: datetime) -> str:
    """The folder of a month."""
    return f"KA{made_at:%Y%m}"


def set_name(number: int) -> str:
    """The folder of a submission set."""
    return f"SS{number:06}"


def manifest_name(number: int, serial: int = 1) -> str:
    return f"KOS_{number}_{serial}.DCM"


def signature_name(number: int) -> str:
    return f"SIGN_{number}.XML"


def sets_of(names: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """Name of every file of each set by what it is called there, folded; the sets by their folder, as they stand.

    A set is a folder under ``IHE_XDM`` that holds a METADATA.XML.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        folder, _, file = name.rpartition("/")
        if ROOT.casefold() in folder.casefold().split("/")[:-1]:
            found[folder][file.casefold()] = name
    return {folder: files for folder, files in found.items() if METADATA.casefold() in files}


def file_of(uri: str, folder: str) -> str:
    """The folded name of the file that a URI means, inside its own set and nowhere else.

    Raises:
        BadInput: ``xdm-uri``.
    """
    *above, file = uri.strip().replace("\\", "/").split("/")
    own = folder.rpartition("/")[2].casefold()
    if not file or file in {".", ".."} or [part.casefold() for part in above] not in ([], [own], ["."], [".", own]):
        raise BadInput(
            "the URI of a document leads out of its submission set",
            code="xdm-uri",
            hint="the box that made the archive must name files of the set's own folder",
        )
    return file.casefold()


def told(links: Sequence[Link]) -> bytes:
    """CR.TXT.

    Raises:
        BadInput: ``xdm-links`` a value holds what separates values.
    """
    lines: list[str] = []
    for link in links:
        report = link.report
        fields = [report.root, report.extension, link.matricule, link.ins_oid, link.local_id, link.local_issuer]
        if not all(_EXTENSION.fullmatch(field) for field in fields):
            raise _unreadable("an identifier of a report or patient holds a semicolon or a control character")
        lines.append(";".join(fields))
    return ";\r\n".join(lines).encode()


def links(data: bytes) -> tuple[Link, ...]:
    """The lines of a CR.TXT; none of an empty one.

    Raises:
        BadInput: ``xdm-links``.
    """
    if len(data) > _REPORTS_MAX * 1024:
        raise _unreadable("the file is larger than any list of reports")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    found = dict.fromkeys(_link(line.strip()) for line in text.splitlines() if line.strip())
    if len({link.report for link in found}) != len(found):
        raise _unreadable("one report is listed for two patients")
    return tuple(found)


def _link(line: str) -> Link:
    fields = [field.strip() for field in line.removesuffix(";").split(";")]
    fields += [""] * (_FIELDS - len(fields))
    root, extension, matricule, ins_oid, local_id, local_issuer, *more = fields
    if more or not _ID.fullmatch(root) or not all(_EXTENSION.fullmatch(field) for field in fields):
        raise _unreadable("a line is not <root>;<extension>;<INS>;<INS OID>;<IPP>;<IPP OID>")
    return Link(
        report=DocumentId(root=root, extension=extension),
        matricule=matricule,
        ins_oid=ins_oid,
        local_id=local_id,
        local_issuer=local_issuer,
    )


def _unreadable(why: str) -> BadInput:
    return BadInput(f"CR.TXT: {why}", code="xdm-links", hint="the box that made the archive must write it again")
