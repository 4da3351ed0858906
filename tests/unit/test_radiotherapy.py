"""Contours and dose compared: the worked numbers, the laws, and what is refused."""

from __future__ import annotations

import itertools
import math
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lxml import etree
from PIL import Image
from pydicom import dcmread
from pydicom.uid import RLELossless

from sampler.radiotherapy import comparison, consensus, objects, overlap, picture, surface
from sampler.radiotherapy.contours import voxels
from sampler.radiotherapy.dvh import Dose, DoseVolume, dose_volume
from sampler.radiotherapy.lattice import Lattice, Mask
from security.errors import BadInput
from tests.corpus import corpus
from tests.fixtures import radiotherapy as made

GRID = Lattice(origin=(0.0, 0.0, 0.0), spacing=(2.0, 1.0, 1.0), size=(30, 70, 70))
SMALL = arrays(bool, st.tuples(*[st.integers(2, 5)] * 3))


def ball(centre: tuple[float, float, float], lattice: Lattice = GRID) -> Mask:
    """Voxels whose centre is at most 15 mm from ``centre``, (x, y, z)."""
    indices = np.indices(lattice.size).reshape(3, -1).T
    away = np.linalg.norm(lattice.point_of(indices) - np.array(centre), axis=1)
    return (away <= 15 + 1e-9).reshape(lattice.size)


# -- the worked numbers of two balls of 15 mm, voxels of 2 × 1 × 1 mm ------------------------------------------------


def test_two_balls_three_millimetres_apart_along_a_short_axis() -> None:
    one, other = ball((30, 30, 30)), ball((33, 30, 30))
    found = surface.compare(one, other, GRID, tolerance_mm=2.0)
    assert found is not None
    assert overlap.dice(one, other) == pytest.approx(0.85149, abs=5e-6)
    assert overlap.jaccard(one, other) == pytest.approx(0.74139, abs=5e-6)
    assert found.hausdorff_mm == 3.0
    assert found.hausdorff95_mm == pytest.approx(2.8284, abs=5e-5)
    # By area; a published table of one triangulation says 0.8514 and 1.086, counting voxels 0.7447 and 1.304.
    assert found.surface_dice == pytest.approx(0.8514, abs=3e-4)
    assert found.mean_mm == pytest.approx(1.086, abs=1e-3)


def test_two_balls_three_millimetres_apart_along_the_long_axis() -> None:
    one, other = ball((30, 30, 30)), ball((30, 30, 33))
    found = surface.compare(one, other, GRID, tolerance_mm=2.0)
    assert found is not None
    assert overlap.dice(one, other) == pytest.approx(0.85135, abs=5e-6)
    assert overlap.jaccard(one, other) == pytest.approx(0.74117, abs=5e-6)
    assert (found.hausdorff_mm, found.hausdorff95_mm) == (4.0, 3.0)


def test_dose_that_rises_along_an_axis() -> None:
    mask = ball((30, 30, 30))
    rising = np.broadcast_to(20 + 0.8 * np.arange(70.0), GRID.size)
    found = dose_volume(mask, GRID, Dose(lattice=GRID, gray=rising))
    assert found is not None
    assert (len(found.gray), found.unknown) == (7131, 0)
    assert len(found.gray) * found.voxel_cc == pytest.approx(14.262)
    assert found.mean == pytest.approx(44.0)
    figures = [found.at_least(percent) for percent in (95, 98, 2)]
    assert figures == pytest.approx([35.2, 34.4, 53.6])
    assert found.share_above(45.0) == 3036 / 7131
    assert found.share_above(45.0) == pytest.approx(0.4257, abs=5e-5)


def test_dose_that_rises_along_the_long_axis() -> None:
    mask = ball((30, 30, 30))
    rising = np.broadcast_to((20 + 0.8 * 2 * np.arange(30.0))[:, None, None], GRID.size)
    found = dose_volume(mask, GRID, Dose(lattice=GRID, gray=rising))
    assert found is not None
    assert found.at_least(95) == pytest.approx(36.0)
    assert found.share_above(45.0) == pytest.approx(0.4503, abs=5e-5)


# -- surfaces -----------------------------------------------------------------------------------------------------


def test_a_flat_face_has_its_own_area_and_a_corner_an_eighth_of_an_octahedron() -> None:
    areas = surface._areas((2.0, 1.0, 1.0))
    lower = sum(1 << bit for bit, corner in enumerate(surface._CORNERS) if corner[2] == 0)
    assert areas[lower] == pytest.approx(2.0)
    half = np.array([1.0, 0.5, 0.5])
    one_corner = math.sqrt((half[0] * half[1]) ** 2 + (half[1] * half[2]) ** 2 + (half[0] * half[2]) ** 2) / 2
    assert areas[1] == pytest.approx(one_corner)
    assert areas[0] == areas[255] == 0


def test_a_surface_weighs_the_same_however_the_case_is_turned_or_mirrored() -> None:
    areas = surface._areas((1.0, 1.0, 1.0))
    for order, sides in itertools.product(itertools.permutations(range(3)), itertools.product((0, 1), repeat=3)):
        for code in range(256):
            turned = 0
            for bit, corner in enumerate(surface._CORNERS):
                if code >> bit & 1:
                    moved = tuple(corner[axis] ^ side for axis, side in zip(order, sides, strict=True))
                    turned |= 1 << surface._CORNERS.index(moved)
            assert areas[turned] == pytest.approx(areas[code])


@given(SMALL)
def test_a_structure_is_no_distance_from_itself(mask: Mask) -> None:
    found = surface.compare(mask, mask, GRID, tolerance_mm=0.0)
    if not mask.any():
        assert found is None
        return
    assert found is not None
    assert (found.hausdorff_mm, found.hausdorff95_mm, found.mean_mm, found.surface_dice) == (0, 0, 0, 1)
    assert overlap.dice(mask, mask) == overlap.jaccard(mask, mask) == 1
    assert overlap.added_path_mm(mask, mask, GRID) == 0


@given(st.data())
def test_every_figure_is_the_same_from_both_sides(data: st.DataObject) -> None:
    one = data.draw(SMALL)
    other = data.draw(arrays(bool, one.shape))
    forth = surface.compare(one, other, GRID, tolerance_mm=1.0)
    back = surface.compare(other, one, GRID, tolerance_mm=1.0)
    dice, jaccard = overlap.dice(one, other), overlap.jaccard(one, other)
    assert (dice, jaccard) == (overlap.dice(other, one), overlap.jaccard(other, one))
    assert dice is None or dice == pytest.approx(2 * jaccard / (1 + jaccard))
    assert (forth is None) is (back is None)
    if forth and back:
        assert forth.hausdorff95_mm <= forth.hausdorff_mm
        assert 0 <= forth.surface_dice <= 1
        assert [forth.hausdorff_mm, forth.mean_mm, forth.surface_dice] == pytest.approx(
            [back.hausdorff_mm, back.mean_mm, back.surface_dice]
        )


def test_added_path_is_what_must_still_be_drawn() -> None:
    lattice = Lattice(origin=(0, 0, 0), spacing=(3.0, 2.0, 2.0), size=(1, 9, 9))
    reference, drawn = np.zeros((2, 1, 9, 9), dtype=bool)
    reference[0, 2:7, 2:7] = True  # a square of five: sixteen voxels of outline
    assert overlap.added_path_mm(reference, drawn, lattice) == 32.0
    drawn[0, 2:7, 2:6] = True  # the last column is missing: its five voxels are not followed
    assert overlap.added_path_mm(reference, drawn, lattice) == 10.0


def test_two_empty_contours_have_no_figure_rather_than_zero() -> None:
    empty = np.zeros(GRID.size, dtype=bool)
    assert overlap.dice(empty, empty) is overlap.jaccard(empty, empty) is None
    assert surface.compare(empty, ball((30, 30, 30)), GRID, tolerance_mm=2.0) is None


# -- contours -----------------------------------------------------------------------------------------------------


def square(low: float, high: float, z: float = 4.0) -> np.ndarray:
    return np.array([(low, low, z), (high, low, z), (high, high, z), (low, high, z)])


def test_a_square_holds_the_voxels_whose_centres_lie_in_it() -> None:
    mask = voxels([square(9.5, 19.5)], GRID, what="a structure")
    assert mask.sum() == 100
    assert mask[2, 10:20, 10:20].all()


def test_an_inner_contour_is_a_hole() -> None:
    assert voxels([square(9.5, 19.5), square(12.5, 14.5)], GRID, what="a structure").sum() == 96


def test_two_squares_that_share_an_edge_share_no_voxel_and_lose_none() -> None:
    left = np.array([(10, 10, 4), (15, 10, 4), (15, 20, 4), (10, 20, 4)], dtype=float)
    right = left + np.array((5, 0, 0))
    both = [voxels([one], GRID, what="a structure") for one in (left, right)]
    assert not (both[0] & both[1]).any()
    assert (both[0] | both[1]).sum() == 100


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(1, 60), st.floats(1, 60)), min_size=3, max_size=12),
    st.integers(0, 8),
)
def test_a_contour_fills_the_same_voxels_wherever_it_begins_and_whichever_way_it_goes(
    corners: list[tuple[float, float]], start: int
) -> None:
    polygon = np.array([(x, y, 4.0) for x, y in corners])
    mask = voxels([polygon], GRID, what="a structure")
    assert (voxels([np.roll(polygon, start, axis=0)], GRID, what="a structure") == mask).all()
    assert (voxels([polygon[::-1]], GRID, what="a structure") == mask).all()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(1, 60), st.floats(1, 60)), min_size=3, max_size=9), st.data())
def test_a_voxel_is_inside_when_a_ray_from_it_crosses_the_contour_an_odd_number_of_times(
    corners: list[tuple[float, float]], data: st.DataObject
) -> None:
    x, y = data.draw(st.tuples(st.integers(0, 69), st.integers(0, 69)))
    crossed = 0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 <= y < y1) or (y1 <= y < y0):
            crossed += x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x - 1e-9
    mask = voxels([np.array([(a, b, 4.0) for a, b in corners])], GRID, what="a structure")
    near = any(
        abs((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) < 1e-6
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True)
    )
    assert near or mask[2, y, x] == bool(crossed % 2)


def test_a_contour_between_slices_is_refused() -> None:
    with pytest.raises(BadInput, match=r"contour 1: 0\.50 slices from slice") as refused:
        voxels([square(9.5, 19.5, z=5.0)], GRID, what="a structure")
    assert refused.value.code == "contour-off-slice"


def test_a_contour_beyond_the_images_is_refused_not_cut() -> None:
    with pytest.raises(BadInput) as refused:
        voxels([square(9.5, 19.5, z=80.0)], GRID, what="a structure")
    assert refused.value.code == "contour-outside"


# -- dose ---------------------------------------------------------------------------------------------------------


def test_dose_beyond_the_grid_is_counted_not_taken_for_zero() -> None:
    half = Lattice(origin=(0.0, 0.0, 0.0), spacing=(2.0, 1.0, 1.0), size=(30, 70, 31))
    found = dose_volume(ball((30, 30, 30)), GRID, Dose(lattice=half, gray=np.full(half.size, 50.0)))
    assert found is not None
    assert found.unknown == int(ball((30, 30, 30))[:, :, 31:].sum()) > 0
    assert found.mean == found.at_least(100) == 50.0
    far = Lattice(origin=(500.0, 0.0, 0.0), spacing=(2.0, 1.0, 1.0), size=(3, 3, 3))
    assert dose_volume(ball((30, 30, 30)), GRID, Dose(lattice=far, gray=np.ones(far.size))) is None


@given(st.lists(st.floats(0, 80), min_size=1, max_size=60), st.integers(1, 99))
def test_a_higher_share_of_the_volume_never_gets_more_dose(doses: list[float], percent: int) -> None:
    found = DoseVolume(np.sort(np.array(doses))[::-1], 0.001, 0)
    assert found.at_least(percent) >= found.at_least(percent + 1)
    assert found.share_above(found.at_least(percent)) >= percent / 100
    assert found.share_above(0) == 1


def test_dose_of_cubic_centimetres_is_that_of_as_many_voxels() -> None:
    found = DoseVolume(np.arange(1000.0, 0, -1), 0.002, 0)
    assert [found.at_least_cc(cc) for cc in (0.002, 0.03, 2.0, 2.1)] == [1000.0, 986.0, 1.0, None]


# -- consensus ----------------------------------------------------------------------------------------------------


def test_a_majority_is_more_than_half() -> None:
    votes = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool).reshape(4, 1, 1, 4)
    assert not consensus.majority(list(votes)).any()
    assert consensus.majority(list(votes[:3])).ravel().tolist() == [True, True, True, False]


def test_staple_tells_the_drawer_who_strays_from_those_who_agree() -> None:
    truth = ball((30, 30, 30))
    drawings = [truth, ball((31, 30, 30)), ball((29, 30, 30)), ball((42, 30, 30))]
    found = consensus.staple(drawings)
    assert overlap.dice(found.mask, truth) > 0.95
    assert min(found.sensitivity[:3]) > 0.85 > found.sensitivity[3]
    assert max(found.sensitivity) <= 1
    assert max(found.specificity) <= 1


def test_staple_of_drawers_who_agree_is_what_they_drew() -> None:
    assert (consensus.staple([ball((30, 30, 30))] * 3).mask == ball((30, 30, 30))).all()


# -- from DICOM ---------------------------------------------------------------------------------------------------


def files(folder: Path) -> tuple[objects.StructureSet, objects.StructureSet, objects.Series, objects.DoseObject]:
    rising = np.broadcast_to(20 + 0.8 * np.arange(60.0), made.SIZE)
    point = [(30.0, 30.0, 20.0)]
    return (
        objects.structure_set(
            made.structures(folder / "a.dcm", {"GTV": [*made.ball(15), point], "Alone": made.ball(5)})
        ),
        objects.structure_set(made.structures(folder / "b.dcm", {"GTV": made.ball(15, (33.0, 30.0, 20.0))})),
        objects.series(made.ct(folder)),
        objects.dose(made.dose(folder / "d.dcm", rising, offsets=[2.0 * n for n in range(20)])),
    )


def test_the_same_balls_from_dicom_files(tmp_path: Path) -> None:
    reference, other, images, dose = files(tmp_path)
    (found,) = comparison.compare(reference, other, images, dose=dose)
    assert (found.name, found.reference.structure.skipped) == ("GTV", 1)
    assert found.dice == pytest.approx(0.8515, abs=2e-3)
    assert found.surfaces is not None
    assert found.surfaces.hausdorff_mm == pytest.approx(3.0, abs=0.2)
    assert found.reference.volume_cc == pytest.approx(14.262, rel=0.02)  # the outlines' corners lie on the ball
    assert found.reference.dose is not None
    assert found.other.dose is not None
    assert found.reference.dose.mean == pytest.approx(44.0, abs=0.05)
    assert found.other.dose.mean == pytest.approx(46.4, abs=0.05)


@pytest.mark.parametrize("origin", [0.0, 38.0])
def test_dose_frames_may_run_backwards_and_may_be_absolute(tmp_path: Path, origin: float) -> None:
    gray = np.broadcast_to((20 + 1.6 * np.arange(20.0))[:, None, None], made.SIZE)
    forward = objects.dose(made.dose(tmp_path / "f.dcm", gray, offsets=[2.0 * n for n in range(20)])).dose
    heights = [38.0 - 2 * n for n in range(20)]
    offsets = heights if origin else [height - 38 for height in heights]
    backward = objects.dose(made.dose(tmp_path / "b.dcm", gray[::-1], offsets=offsets, origin=(0, 0, 38))).dose
    assert backward.lattice == forward.lattice
    assert np.array_equal(backward.gray, forward.gray)


def test_a_compressed_slice_holds_the_same_values(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    paths = made.ct(folder)
    plain_series = objects.series(paths)
    image = dcmread(paths[7])
    image.compress(RLELossless)
    image.save_as(paths[7])
    assert np.array_equal(objects.series(paths).hounsfield, plain_series.hounsfield)


def test_a_missing_slice_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"slices 5 and 6 are 4\.00 mm apart, the others 2\.00") as refused:
        objects.series(made.ct(tmp_path, without=[5]))
    assert refused.value.code == "rt-uneven"


def test_structures_of_another_frame_of_reference_are_not_compared(tmp_path: Path) -> None:
    reference, _other, images, _dose = files(tmp_path)
    strange = objects.structure_set(
        made.structures(tmp_path / "c.dcm", {"GTV": made.ball(15)}, frame=f"{made.FRAME}.9")
    )
    with pytest.raises(BadInput) as refused:
        comparison.compare(reference, strange, images)
    assert refused.value.code == "rt-frame-of-reference"


def test_sets_that_share_no_name_are_told_so(tmp_path: Path) -> None:
    reference, _other, images, _dose = files(tmp_path)
    renamed = objects.structure_set(made.structures(tmp_path / "c.dcm", {"Cible": made.ball(15)}))
    with pytest.raises(BadInput) as refused:
        comparison.compare(reference, renamed, images)
    assert refused.value.code == "rt-nothing-shared"


@pytest.mark.parametrize("wrong", ["object", "element"])
def test_an_object_of_another_kind_or_without_what_is_needed_is_refused_by_name(tmp_path: Path, wrong: str) -> None:
    if wrong == "object":
        path = made.ct(tmp_path)[0]
    else:
        path = made.structures(tmp_path / "bad.dcm", {"GTV": [[(1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)]]})
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.0\\2.0\\3.0", b"1.0\\2.0\\x.0"))
    with pytest.raises(BadInput, match=path.name) as refused:
        objects.structure_set(path)
    assert refused.value.code == ("rt-wrong-object" if wrong == "object" else "rt-malformed")


def test_relative_dose_is_refused(tmp_path: Path) -> None:
    path = made.dose(tmp_path / "d.dcm", np.ones((1, 4, 4)), offsets=[0.0])
    path.write_bytes(
        path.read_bytes().replace(b"\x04\x30\x02\x00CS\x02\x00GY", b"\x04\x30\x02\x00CS\x08\x00RELATIVE")
    )
    with pytest.raises(BadInput) as refused:
        objects.dose(path)
    assert refused.value.code == "rt-dose-relative"


# -- pictures -----------------------------------------------------------------------------------------------------


def test_a_picture_shows_the_image_and_both_outlines_in_place(tmp_path: Path) -> None:
    reference, other, images, _dose = files(tmp_path)
    (found,) = comparison.compare(reference, other, images)
    svg = picture.structure(found, images, names=("référence", "comparé"))
    assert svg is not None
    root = etree.fromstring(svg)
    shown = b64decode(root.find("{*}image").get("href").partition(",")[2])
    with Image.open(BytesIO(shown)) as image:
        units = picture.SIDE / image.width  # a column of one millimetre
    middles = [
        np.mean([[float(value) for value in point.split(",")] for point in line.get("points").split()], axis=0)
        for line in root.findall("{*}polygon")
    ]
    assert [line.get("stroke") for line in root.findall("{*}polygon")] == list(picture.ON_IMAGE)
    assert (middles[1] - middles[0]) / units == pytest.approx([3.0, 0.0], abs=0.02)
    assert [text.text for text in root.findall("{*}text")][1:] == ["référence", "comparé"]


def test_curves_are_an_svg_that_names_both(tmp_path: Path) -> None:
    reference, other, images, dose = files(tmp_path)
    (found,) = comparison.compare(reference, other, images, dose=dose)
    assert found.reference.dose is not None
    assert found.other.dose is not None
    svg = picture.curves([("A <1>", found.reference.dose), ("B", found.other.dose)], axes=("dose (Gy)", "volume"))
    root = etree.fromstring(svg.encode())
    assert root[0].text == "A <1>, B"
    assert len(root.findall("{*}polyline")) == 2


# -- real objects -------------------------------------------------------------------------------------------------


@pytest.mark.corpus
def test_real_structure_sets_and_doses_are_read() -> None:
    found = objects.structure_set(corpus("dicom/rt/rtss.dcm"))
    assert len(found.structures) > 3
    assert all(len(polygon) > 2 for one in found.structures for polygon in one.polygons)
    for name in ("rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm"):
        with pytest.raises(BadInput, match="relative"):
            objects.dose(corpus(f"dicom/rt/{name}"))
