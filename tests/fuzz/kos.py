"""DICOM files as they come from a PACS, a modality or a person: manifests, rejection notes, anything else (T08 to T13).

``target`` returns, or something is wrong; the first byte chooses who reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.lab.phantom import LabStudy
from indexer.kos.reader import read
from indexer.kos.rejection import read_rejection
from security.errors import BadInput
from security.parse.dicom import charsets, parse_untrusted, text
from tests.fixtures.dicom_objects import DEFLATED, IMPLICIT, ROOT, data_set, nested, part10
from tests.fixtures.kos import written
from tests.fixtures.rejections import note

MANIFEST, NOTE, ANY = range(3)
_SHOWN = (0x00080005, 0x00080020, 0x00080050, 0x00080090, 0x00100010, 0x00100020, 0x00100030, 0x0020000D)


def target(data: bytes) -> None:
    if not data:
        return
    kind, rest = data[0] % 3, data[1:]
    try:
        match kind:
            case 0:
                assert read(rest).form == "kos"
            case 1:
                assert read_rejection(rest).studies
            case _:
                _any(rest)
    except BadInput as refused:
        assert refused.code


def _any(data: bytes) -> None:
    """Every text that the house reads from a data set can be read."""
    found = parse_untrusted(data, what="an object", stop_before_pixels=len(data) % 2 == 0)
    used = charsets(found, default="ISO_IR 6")
    for tag in _SHOWN:
        text(found, tag, charset=used)


def seeds() -> Iterator[bytes]:
    """A manifest of each profile, a note, small images, and structures that mislead."""
    for profile in ("drim-m", "xds-i", "mado"):
        yield bytes([MANIFEST]) + written(profile)
    study = LabStudy(
        study_uid=f"{ROOT}.1", patient_id="IPP1", name="PHANTOM^ZOE", birth_date="19610412", sex="F", accession="A1"
    )
    study.add_series("CT", instances=2)
    yield bytes([NOTE]) + note({f"{ROOT}.1": study.objects}, uid=f"{ROOT}.9")
    for syntax in ("1.2.840.10008.1.2.1", IMPLICIT, DEFLATED):
        yield bytes([ANY]) + part10(data_set(syntax=syntax, pixels=bytes(8)), sop=f"{ROOT}.1.1.1", syntax=syntax)
    yield bytes([ANY]) + part10(data_set(after=[nested(12)], pixels=bytes(8)), sop=f"{ROOT}.1.1.1")
