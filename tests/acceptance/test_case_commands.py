"""``poterne case`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.test_commands import poterne
from tests.fixtures import radiotherapy as made


@pytest.fixture
def contours(tmp_path: Path) -> list[str]:
    folder = tmp_path / "ct"
    folder.mkdir()
    made.ct(folder)
    reference = made.structures(tmp_path / "a.dcm", {"GTV": made.ball(15), "CTV": made.ball(17)})
    compared = made.structures(tmp_path / "b.dcm", {"GTV": made.ball(15, (33.0, 30.0, 20.0)), "CTV": []})
    rising = np.broadcast_to(20 + 0.8 * np.arange(60.0), made.SIZE)
    dose = made.dose(tmp_path / "d.dcm", rising, offsets=[2.0 * n for n in range(20)])
    return ["case", "contours", str(reference), str(compared), "--ct", str(folder), "--dose", str(dose)]


def test_two_contourings_are_compared_drawn_and_told(contours: list[str], tmp_path: Path) -> None:
    ran = poterne(*contours, "--out", str(tmp_path / "out"), "--json", lang="fr")
    assert ran.returncode == 0, ran.stderr
    gtv, ctv = json.loads(ran.stdout)["structures"]
    assert gtv["dice"] == pytest.approx(0.8515, abs=2e-3)
    assert gtv["reference"]["dose"]["mean_gy"] == pytest.approx(44.0, abs=0.05)
    assert (ctv["dice"], ctv["hausdorff_mm"], ctv["compared"]["volume_cc"]) == (0.0, None, 0.0)
    assert gtv["pictures"] == ["01.svg", "01-dvh.svg"]
    assert "référence" in (tmp_path / "out" / "01.svg").read_text()
    said = poterne(*contours, lang="fr")
    assert "Dice de surface (2,000 mm)" in said.stdout
    assert "pas une note" in said.stdout


def test_a_series_with_a_gap_stops_with_the_place_and_what_to_do(contours: list[str], tmp_path: Path) -> None:
    sorted((tmp_path / "ct").iterdir())[4].unlink()
    ran = poterne(*contours)
    assert ran.returncode == 2
    assert "mm apart" in ran.stderr
    assert "rt-uneven" in ran.stderr
