"""The walk over real objects of many makers, and the table against the published one (§11.4 of the audit's rules)."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from sampler.pseudonym import classes, codestream, masks, profile
from sampler.pseudonym.identifiers import Identifiers, registered
from sampler.pseudonym.keys import CampaignKeys, Subject
from sampler.pseudonym.masks import Mask
from sampler.pseudonym.objects import SYNTAXES, Case, Made, Seen, originals
from sampler.pseudonym.reading import level_of, text_of
from security.errors import Fault
from security.parse import pixels as codecs
from security.parse.dicom import parse_untrusted, quiet
from tests.corpus import corpus
from tests.fixtures.pseudonym_objects import MARKER, MASTER, plant

pytestmark = pytest.mark.corpus

DEFLATED = "1.2.840.10008.1.2.1.99"
OPTIONS = {
    "rtnUIDsOpt": "uids", "cleanDescOpt": "descriptors", "cleanStructContOpt": "structured", "cleanGraphOpt": "graphics",
    "rtnSafePrivOpt": "private", "rtnPatCharsOpt": "patient", "rtnDevIdOpt": "device", "rtnInstIdOpt": "institution",
}  # fmt: skip
USUAL = {"descriptors": "C", "structured": "C", "graphics": "C", "private": "C"}  # the others retain: K


def test_every_row_of_the_table_is_as_published():
    published = json.loads(corpus("audit", "ps315-e1-1.json").read_text("utf-8"))["rows"]
    ours = dict(profile.table())
    for row in published:
        tag = row["tag"].lower()
        key = "odd" if "odd" in tag else tag if "x" in tag else int(tag, 16)
        found = ours.pop(key)
        assert found.vr == (row.get("vr") or ""), tag
        assert {found.basic} == {row[edition] for edition in ("basic_2024e", "basic_2026c") if row.get(edition)}, tag
        options = dict(row.get("options", {}))
        dates = options.pop("rtnLongFullDatesOpt", None), options.pop("rtnLongModifDatesOpt", None)
        expected = {
            OPTIONS[name] + ("" if how == USUAL.get(OPTIONS[name], "K") else f":{how}")
            for name, how in options.items()
        }
        assert dates in {(None, None), ("K", "C")}, tag
        assert found.options == expected | ({"dates"} if dates[0] else set()), tag
    assert ours == {}
    assert Counter(row["basic_2024e"] for row in published if row.get("basic_2024e"))["X"] == 384


def test_the_table_in_the_repository_is_sorted_and_says_each_tag_once():
    path = Path(profile.__file__).with_name("attributes.csv")
    tags = [row["tag"] for row in csv.DictReader(path.read_text("ascii").splitlines())]
    assert tags == sorted(set(tags))


class File(NamedTuple):
    path: Path
    sop_class: str
    syntax: str
    subject: Subject
    series: str


@cache
def readable() -> tuple[File, ...]:
    """Files that the door reads."""
    found = []
    series = sorted(corpus("dicom", "mr-series").glob("*.dcm"))[10:]  # of one volume, all alike
    for path in sorted(set(corpus("dicom").rglob("*")) - set(series)):
        if not path.is_file() or path.suffix == ".md":
            continue
        try:
            data_set = parse_untrusted(path, what=path.name)
        except Fault:
            continue
        level = level_of(data_set)
        held = level.held.get(0x00100020)
        patient = text_of(held, level.charset).value if held is not None else ""
        syntax, subject = str(data_set.file_meta.TransferSyntaxUID), Subject(authority="a", id=patient or "-")
        found.append(File(path, level.raw_text(0x00080016), syntax, subject, level.raw_text(0x0020000E)))
    assert len(found) > 215
    return tuple(found)


def makeable() -> Iterator[File]:
    return (file for file in readable() if file.sop_class in classes.KINDS and file.syntax in SYNTAXES)


def made(source: Path | bytes, subject: Subject, known: Identifiers | None = None) -> Made:
    case = Case(CampaignKeys.derive(MASTER, "corpus"), subject, known or Identifiers())
    return case.made(source, what="an object", seen=Seen())


def pixels(data_set: Dataset) -> object:
    """Pixel data as it is; of compressed frames what is left once their comments are out."""
    if "PixelData" not in data_set or not data_set.file_meta.TransferSyntaxUID.is_compressed:
        return data_set.get("PixelData")
    if data_set.file_meta.TransferSyntaxUID.is_deflated or "RLE" in data_set.file_meta.TransferSyntaxUID.name:
        return data_set.PixelData
    frames = generate_frames(data_set.PixelData, number_of_frames=int(data_set.get("NumberOfFrames") or 1))
    return [codestream.without_comments(frame, what="a frame").rstrip(b"\0") for frame in frames]


def test_every_object_of_an_allowed_class_comes_out_with_its_pixels_or_is_refused_by_name():
    refused: Counter[str] = Counter()
    count = 0
    for path, _, syntax, subject, _ in makeable():
        try:
            result = made(path, subject)
        except Fault as fault:
            refused[fault.code] += 1
            continue
        count += 1
        with quiet():
            before, after = dcmread(path, force=True), dcmread(BytesIO(result.data))
            assert after.file_meta.TransferSyntaxUID == syntax, path.name
            own = pixels(after)
            assert own == (pixels(before)[: len(own)] if isinstance(own, bytes) else pixels(before)), path.name
            assert after.PatientIdentityRemoved == "YES"
    assert count > 200
    assert set(refused) == {"dicom-malformed", "pixels-undescribed"}  # no SeriesInstanceUID; "1A" frames
    assert refused["pixels-undescribed"] == 1


def one_of_each() -> list[File]:
    """Files enough for every class and every transfer syntax."""
    found: list[File] = []
    for file in makeable():
        odd = file.path.name in {"JPEG2000-embedded-sequence-delimiter.dcm", "badVR.dcm"}
        new = file.sop_class not in {f.sop_class for f in found} or file.syntax not in {f.syntax for f in found}
        if new and file.series and not odd:
            found.append(file)
    return found


def test_decoded_values_stay_where_comments_were_taken_out():
    changed: set[str] = set()
    for path, _, uid, subject, _ in one_of_each():
        syntax = UID(uid)
        if not syntax.is_encapsulated:
            continue
        result = made(path, subject)
        with quiet():
            before, after = dcmread(path), dcmread(BytesIO(result.data))
            if before.PixelData != after.PixelData:
                np.testing.assert_array_equal(after.pixel_array, before.pixel_array)
                changed.add(syntax.name)
    assert changed == {"JPEG 2000 Image Compression", "JPEG 2000 Image Compression (Lossless Only)"}


def test_ff50_markers_planted_in_every_class_leave_none():
    files = one_of_each()
    assert len({file.sop_class for file in files}) >= 24
    markers = 0
    for path, _, syntax, subject, _ in files:
        if syntax == DEFLATED:  # nothing can be appended there; own objects cover it
            continue
        source = path.read_bytes() + chunk(UID(syntax).is_implicit_VR, UID(syntax).is_little_endian)
        source = (MARKER * 20).encode()[:128] + source[128:]
        markers += source.count(MARKER.encode())
        result = made(source, subject)
        assert MARKER.encode() not in result.data, path.name
        assert result.removed > 400
    assert markers > 40_000


@cache
def chunk(implicit: bool, little: bool) -> bytes:
    """Markers in every place, as bytes that follow a data set: a reader takes the last of two elements."""
    data_set = Dataset()
    data_set.PatientID = "none"
    plant(data_set)
    for tag in (0x00100020, 0x00080018, 0x0020000D, 0x0020000E):
        del data_set[tag]
    stream = BytesIO()
    data_set.save_as(stream, implicit_vr=implicit, little_endian=little)
    return stream.getvalue()


def test_references_inside_the_radiotherapy_and_the_series_still_meet():
    paths = [file.path for file in makeable() if file.path.parent.name in {"rt", "mr-series"}]
    ids = {file.subject.id for file in makeable() if file.path in paths}
    subject = Subject(authority="a", id="x", other_ids=frozenset(ids))
    known = originals(paths[:40], what="a case")
    before, after = Counter[str](), Counter[str]()
    for path in paths[:40]:
        result = dcmread(BytesIO(made(path, subject, known).data))
        with quiet():
            original = dcmread(path)
        for counted, data_set in ((before, original), (after, result)):
            counted.update({str(value) for e in data_set.iterall() if e.VR == "UI" and e.value and not e.tag.is_private
                            for value in ([e.value] if isinstance(e.value, str) else e.value) if not registered(str(value))})  # fmt: skip
    kept = set(after)
    assert not set(before) & kept
    assert len(kept) > 20
    from sampler.pseudonym.keys import Pseudonyms

    image = Pseudonyms(CampaignKeys.derive(MASTER, "corpus"), subject).uid
    assert kept <= {image(uid) for uid in before}


def test_ff50_a_mask_on_an_htj2k_image_blackens_its_rectangle_and_nothing_else():
    looked_at = 0
    for path in sorted(corpus("dicom/htj2k-jpegls").glob("*.dcm")):
        head = path.read_bytes()[128:132]
        if head != b"DICM":
            continue
        found = parse_untrusted(path, stop_before_pixels=False, what=path.name)
        if "High-Throughput" not in UID(found.file_meta.TransferSyntaxUID).name:
            continue
        shape = codecs.shape_of(found, what=path.name)
        mask = Mask(x=3, y=5, width=20, height=10, rows=shape.rows, columns=shape.columns)
        result = masks.masked(found, [mask], what=path.name)
        (before,), _, _ = codecs.decoded(
            found.PixelData, str(found.file_meta.TransferSyntaxUID), shape, what=path.name
        )
        frames = codecs.frames_of(result.data, shape, what=path.name)
        assert len(frames) == 1
        again, _, _ = codecs.decoded(result.data, result.transfer_syntax, shape, what=path.name)
        size = shape.samples * shape.allocated // 8
        first = np.frombuffer(before, np.uint8).reshape(shape.rows, shape.columns, size).copy()
        second = np.frombuffer(again[0], np.uint8).reshape(shape.rows, shape.columns, size)
        outside = np.ones((shape.rows, shape.columns), dtype=bool)
        outside[5:15, 3:23] = False
        np.testing.assert_array_equal(second[outside], first[outside])
        assert (second[~outside] == second[5, 3]).all()
        looked_at += 1
    assert looked_at >= 1
