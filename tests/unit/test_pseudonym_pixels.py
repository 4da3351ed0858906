"""Pixels: what waits for a person, masks, comments inside compressed frames (FF-50)."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import JPEGLSLossless, RLELossless

from sampler.pseudonym import codestream
from sampler.pseudonym.masks import Mask
from sampler.pseudonym.objects import Seen, waits
from sampler.pseudonym.pixels import Risk
from security.errors import BadInput, Refused
from tests.fixtures.pseudonym_objects import CT, MR, SC, US, a_case, compressed, image, made, read, report, written

MARKER = b"ZQXJKVWMARKER"
EXPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"


def risks(data_set) -> tuple[Risk, ...]:
    return waits(written(data_set), what="the object")


def test_an_image_of_a_modality_without_burnt_in_text_waits_for_nobody():
    assert risks(image(CT, "CT")) == ()
    assert risks(report([image()])) == ()


@pytest.mark.parametrize("modality", ["US", "SC", "XC", "ES", "OT", "XA", "RF", "PX", ""])
def test_ff50_modalities_that_hold_text_wait_unless_the_image_says_it_has_none(modality):
    us = image(US, "US")
    us.Modality = modality
    assert risks(us) == (Risk.MODALITY,)
    us.BurnedInAnnotation = "NO"
    assert risks(us) == ()
    us.BurnedInAnnotation = "YES"
    assert risks(us) == (Risk.STATED,)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        ("ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"]),
        ("ImageType", ["DERIVED", "SECONDARY", "OTHER", "DOSE_INFO"]),
        ("SeriesDescription", "Dose Report"),
        ("SeriesDescription", "Patient Protocol"),
    ],
)
def test_ff50_localizers_dose_sheets_and_captured_screens_wait_whatever_they_say(attribute, value):
    ct = image()
    ct.BurnedInAnnotation = "NO"
    setattr(ct, attribute, value)
    assert risks(ct) == (Risk.SCREEN,)


def test_ff50_a_secondary_capture_a_label_and_a_drawing_in_unused_bits_wait():
    capture = image(SC, "CT")
    assert risks(capture) == (Risk.MODALITY,)
    label = image()
    label.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    assert risks(label) == (Risk.LABEL,)
    drawing = image()
    drawing.add_new(0x60000102, "US", 12)
    assert risks(drawing) == (Risk.OVERLAY,)


def test_an_image_at_risk_comes_out_only_when_a_person_saw_it():
    us = image(US, "US")
    with pytest.raises(Refused) as waiting:
        made(us)
    assert waiting.value.code == "pixels-unseen"
    result = made(us, seen=Seen())
    assert read(result).BurnedInAnnotation == "NO"
    assert "113101" not in result.methods
    assert read(result).PixelData == us.PixelData


@pytest.mark.parametrize(
    ("sop_class", "modality", "part", "rendered"),
    [(CT, "CT", "HEAD", True), (MR, "MR", "BRAIN", True), (CT, "CT", "", True), (CT, "CT", "CHEST", False), (US, "US", "HEAD", False)],
)  # fmt: skip
def test_volumes_that_may_show_a_face_are_rendered_only(sop_class, modality, part, rendered):
    volume = image(sop_class, modality)
    volume.BodyPartExamined = part
    assert made(volume, seen=Seen()).rendered_only is rendered


def mask(**changes) -> Mask:
    return Mask(**({"x": 2, "y": 1, "width": 3, "height": 2, "rows": 8, "columns": 10} | changes))


def same_but(before: np.ndarray, after: np.ndarray, *, frame: int | None) -> None:
    """Outside the rectangle every value of every frame is as it was; inside it is 0."""
    expected = before.copy()
    if frame is None:
        expected[..., 1:3, 2:5] = 0
    else:
        expected[frame - 1, 1:3, 2:5] = 0
    assert (before != 0).all()
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize(
    "syntax", [EXPLICIT, BIG, "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", str(RLELossless), str(JPEGLSLossless)]
)
@pytest.mark.parametrize("frame", [None, 2])
def test_ff50_a_mask_blackens_its_rectangle_and_nothing_else(syntax, frame):
    ct = image(frames=3)
    before = ct.pixel_array
    if syntax in {str(RLELossless), str(JPEGLSLossless)}:
        compressed(ct, syntax)
    elif syntax == BIG:
        ct.PixelData = np.frombuffer(ct.PixelData, "<u2").astype(">u2").tobytes()
    result = made(ct, seen=Seen(masks=(mask(frame=frame),)), syntax=syntax)
    after = read(result)
    assert after.file_meta.TransferSyntaxUID == syntax
    same_but(before, after.pixel_array, frame=frame)
    assert "113101" in result.methods
    assert after.BurnedInAnnotation == "NO"


def test_frames_of_rle_that_no_mask_touches_stay_the_same_bytes():
    ct = compressed(image(frames=3), str(RLELossless))
    before = list(generate_frames(ct.PixelData, number_of_frames=3))
    after = list(generate_frames(read(made(ct, seen=Seen(masks=(mask(frame=2),)))).PixelData, number_of_frames=3))
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


def colour(photometric: str = "RGB", *, planar: int = 0) -> object:
    us = image(US, "US")
    us.SamplesPerPixel, us.PhotometricInterpretation, us.PlanarConfiguration = 3, photometric, planar
    us.BitsAllocated = us.BitsStored = 8
    us.HighBit = 7
    us.PixelData = bytes(value % 250 + 1 for value in range(8 * 10 * 3))
    us["PixelData"].VR = "OB"
    return us


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_images_are_masked_in_every_sample(planar):
    us = colour(planar=planar)
    before = us.pixel_array
    after = read(made(us, seen=Seen(masks=(mask(),)))).pixel_array
    expected = before.copy()
    expected[1:3, 2:5, :] = 0
    np.testing.assert_array_equal(after, expected)


def test_under_a_mask_chrominance_is_grey():
    us = colour("YBR_FULL")
    after = read(made(us, seen=Seen(masks=(mask(),))))
    samples = np.frombuffer(after.PixelData, np.uint8).reshape(8, 10, 3)
    assert samples[1:3, 2:5].reshape(-1, 3).tolist() == [[0, 128, 128]] * 6


def test_signed_pixels_are_masked_with_their_lowest_value():
    ct = image()
    ct.PixelRepresentation, ct.BitsStored, ct.HighBit = 1, 16, 15
    after = read(made(ct, seen=Seen(masks=(mask(),)))).pixel_array
    assert set(after[1:3, 2:5].ravel().tolist()) == {-32768}


def test_big_endian_bytes_in_words_are_masked_where_they_are_seen():
    us = image(US, "US", rows=8, columns=10)
    us.BitsAllocated = us.BitsStored = 8
    us.HighBit = 7
    plain = bytes(range(1, 81))
    us.PixelData = b"".join(plain[i + 1 : i + 2] + plain[i : i + 1] for i in range(0, 80, 2))
    us["PixelData"].VR = "OW"
    raw = read(made(us, seen=Seen(masks=(mask(x=3),)), syntax=BIG)).PixelData
    seen = np.frombuffer(b"".join(raw[i + 1 : i + 2] + raw[i : i + 1] for i in range(0, 80, 2)), np.uint8).reshape(
        8, 10
    )
    expected = np.frombuffer(plain, np.uint8).reshape(8, 10).copy()
    expected[1:3, 3:6] = 0
    np.testing.assert_array_equal(seen, expected)


def test_other_compressions_become_jpeg_ls_without_loss():
    us = jpeg_image()
    before = us.pixel_array
    result = read(made(us, seen=Seen(masks=(mask(),))))
    assert result.file_meta.TransferSyntaxUID == JPEGLSLossless
    expected = before.copy()
    expected[1:3, 2:5] = 0
    np.testing.assert_array_equal(result.pixel_array, expected)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"rows": 512, "columns": 512}, "mask-other-image"),
        ({"rows": 10, "columns": 8}, "mask-other-image"),
        ({"x": 8}, "mask-outside"),
        ({"y": 7}, "mask-outside"),
        ({"x": -1}, "mask-outside"),
        ({"width": 0}, "mask-outside"),
        ({"height": -2}, "mask-outside"),
        ({"frame": 3}, "mask-outside"),
        ({"frame": 0}, "mask-outside"),
    ],
)
def test_ff50_a_mask_of_another_image_size_or_outside_is_refused_and_nothing_comes_out(wrong, code):
    with pytest.raises(BadInput) as refused:
        made(image(frames=2), seen=Seen(masks=(mask(), mask(**wrong))))
    assert refused.value.code == code


def test_a_mask_on_packed_bits_or_without_pixels_is_refused():
    bits = image()
    bits.BitsAllocated = bits.BitsStored = 1
    with pytest.raises(BadInput) as packed:
        made(bits, seen=Seen(masks=(mask(),)))
    assert packed.value.code == "mask-packed"
    short = image()
    short.PixelData = bytes(10)
    with pytest.raises(BadInput) as undescribed:
        made(short, seen=Seen(masks=(mask(),)))
    assert undescribed.value.code == "pixels-undescribed"
    with pytest.raises(BadInput):
        made(report([image()]), seen=Seen(masks=(mask(),)))


def test_pixels_that_no_codec_reads_are_refused_with_a_name():
    ct = compressed(image(), str(JPEGLSLossless))
    frame = next(generate_frames(ct.PixelData, number_of_frames=1))
    ct.PixelData = encapsulate([frame[:60] + b"\xff\xd9"])
    with pytest.raises(BadInput) as refused:
        made(ct, seen=Seen(masks=(mask(),)))
    assert refused.value.code == "pixels-undecodable"


def jpeg_frame(*, comment: bytes = b"") -> bytes:
    from io import BytesIO

    stream = BytesIO()
    picture = Image.fromarray((np.arange(80, dtype=np.uint8) * 2 + 20).reshape(8, 10))
    picture.save(stream, "JPEG", quality=95, comment=comment)
    return stream.getvalue()


def jpeg_image(frames: list[bytes] | None = None):
    us = image(US, "US")
    frames = frames or [jpeg_frame()]
    us.BitsAllocated = us.BitsStored = 8
    us.HighBit = 7
    if len(frames) > 1:
        us.NumberOfFrames = len(frames)
    us.file_meta.TransferSyntaxUID = JPEG
    us.PixelData = encapsulate(frames)
    us["PixelData"].VR = "OB"
    us["PixelData"].is_undefined_length = True
    return us


def test_ff50_comments_inside_jpeg_frames_are_taken_out_and_the_pixels_stay():
    exif = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(MARKER)) + b"Exif\0\0" + MARKER
    frames = [jpeg_frame(comment=MARKER), jpeg_frame(), jpeg_frame()[:2] + exif + jpeg_frame()[2:]]
    us = jpeg_image(frames)
    assert written(us).count(MARKER) == 2
    result = made(us, seen=Seen())
    assert MARKER not in result.data
    np.testing.assert_array_equal(read(result).pixel_array, us.pixel_array)


def test_a_compressed_frame_without_comments_stays_the_same_bytes():
    us = jpeg_image([jpeg_frame()] * 2)
    assert read(made(us, seen=Seen())).PixelData == us.PixelData
    ct = compressed(image(frames=2), str(JPEGLSLossless))
    assert read(made(ct)).PixelData == ct.PixelData


def test_jpeg_ls_loses_its_comments_and_keeps_its_pixels():
    ct = image()
    plain = bytes(get_encoder(JPEGLSLossless).encode(ct.PixelData, rows=8, columns=10, samples_per_pixel=1, number_of_frames=1,
                                                     bits_allocated=16, bits_stored=12, pixel_representation=0,
                                                     photometric_interpretation="MONOCHROME2", planar_configuration=0))  # fmt: skip
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(MARKER)) + MARKER
    marked = plain[:2] + comment + plain[2:]
    assert codestream.without_comments(marked, what="a frame").rstrip(b"\0") == plain.rstrip(b"\0")


def j2k_frame() -> bytes:
    from io import BytesIO

    stream = BytesIO()
    picture = Image.fromarray((np.arange(80, dtype=np.uint8) * 2 + 20).reshape(8, 10))
    picture.save(stream, "JPEG2000", no_jp2=True, irreversible=False)
    return stream.getvalue()


def test_jpeg_2000_loses_comments_of_main_and_tile_part_headers():
    frame = codestream.without_comments(j2k_frame(), what="a frame")
    comment = b"\xff\x64" + struct.pack(">HH", 4 + len(MARKER), 1) + MARKER
    start = frame.index(b"\xff\x90")
    (length,) = struct.unpack_from(">L", frame, start + 6)
    tile = bytearray(frame[start : start + 12]) + comment + frame[start + 12 :]
    struct.pack_into(">L", tile, 6, length + len(comment))
    marked = frame[:start] + comment + bytes(tile)
    assert marked.count(MARKER) == 2
    assert codestream.without_comments(marked, what="a frame").rstrip(b"\0") == frame.rstrip(b"\0")
    from io import BytesIO

    before, after = (np.asarray(Image.open(BytesIO(one))) for one in (j2k_frame(), frame))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\0" * 20, b"\xff\xd8\xff", jpeg_frame()[:-40], j2k_frame()[:-2], b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40)],
    ids=["empty", "zeros", "begun", "cut", "without end", "boxed"],
)
def test_a_codestream_that_is_not_understood_to_its_end_is_refused(frame):
    with pytest.raises(BadInput) as refused:
        codestream.without_comments(frame, what="a frame")
    assert refused.value.code == "codestream-odd"


def test_fragments_that_do_not_fit_the_frames_are_refused():
    us = jpeg_image([jpeg_frame()] * 2)
    us.NumberOfFrames = 3
    with pytest.raises(BadInput) as refused:
        a_case().made(written(us), what="the object", seen=Seen())
    assert refused.value.code == "pixels-fragmented"


def test_t13_a_codec_that_ends_its_process_ends_nothing_else():
    us = jpeg_image()
    frame = bytearray(jpeg_frame())
    at = frame.index(b"\xff\xc0")
    frame[at + 1] = 0xC3  # a lossless frame by its name, a baseline one by its content
    us.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    us.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(BadInput) as refused:
        made(us, seen=Seen(masks=(mask(),)))
    assert refused.value.code == "pixels-undecodable"
