"""The matricule: literal numbers (one published, the others worked by hand), and what mod 97 guarantees."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.ins import INS_AUTHORITIES, check_key, digits_disagree


@pytest.mark.parametrize(
    "matricule",
    [
        "255081416802538",  # the example of the French encyclopaedia entry on the number
        "285067512300109",  # key with a leading zero
        "285067512300901",  # smallest key
        "285067512301097",  # largest key: the number is a multiple of 97
        "285062A00400147",  # Corse-du-Sud, read as 19
        "285062B00400174",  # Haute-Corse, read as 18
        "285427512300103",  # pseudo-month 42
        "285997512300142",  # pseudo-month 99
        "385067512300156",  # sex digits of provisional numbers
        "785357512300129",
        "885657512300171",
    ],
)
def test_a_right_matricule_passes(matricule: str) -> None:
    assert check_key(matricule)


@pytest.mark.parametrize(
    "matricule",
    [
        "",
        "2850675123001",  # no key
        "28506751230010",
        "2850675123001099",
        "285067512300110",  # key one too high
        "285067512301000",  # 00 never is a key
        "285062a00400147",  # lower case
        "285062C00400147",
        "2850675123001٠٩",  # digits of another script
        "2 85 06 75 123 001 09",
        "085067512300109",  # no such sex
    ],
)
def test_a_wrong_matricule_does_not_pass(matricule: str) -> None:
    assert not check_key(matricule)


@pytest.mark.parametrize(
    "matricule", ["285007512300110", "285137512300124", "285197512300123", "285437512300119", "285497512300118"]
)
def test_a_month_outside_the_published_ranges_does_not_pass_with_a_right_key(matricule: str) -> None:
    assert not check_key(matricule)


@given(
    body=st.from_regex(r"[12][0-9]{2}(0[1-9]|1[0-2])[0-9]{8}", fullmatch=True),
    place=st.integers(0, 14),
    step=st.integers(1, 9),
)
def test_any_single_wrong_digit_breaks_the_key(body: str, place: int, step: int) -> None:
    right = f"{body}{97 - int(body) % 97:02d}"
    assert check_key(right)
    wrong = right[:place] + str((int(right[place]) + step) % 10) + right[place + 1 :]
    assert not check_key(wrong)


@given(body=st.from_regex(r"[12][0-9]{2}(0[1-9]|1[0-2])[0-9]{8}", fullmatch=True), place=st.integers(0, 11))
def test_two_neighbours_exchanged_break_the_key(body: str, place: int) -> None:
    right = f"{body}{97 - int(body) % 97:02d}"
    wrong = right[:place] + right[place + 1] + right[place] + right[place + 2 :]
    assert wrong == right or not check_key(wrong)


def test_the_documented_collision_of_corsica_passes() -> None:
    assert check_key("285062A00400147")
    assert check_key("285061900400147")


@pytest.mark.parametrize(
    ("matricule", "sex", "birth_date", "wrong"),
    [
        ("285067512300109", "F", date(1985, 6, 7), ()),
        ("285067512300109", "F", date(2085, 6, 7), ()),  # the century is not in the number
        ("285067512300109", "M", date(1985, 6, 7), ("sex",)),
        ("285067512300109", "F", date(1986, 6, 7), ("year",)),
        ("285067512300109", "F", date(1985, 7, 6), ("month",)),
        ("285067512300109", "M", date(1986, 7, 6), ("sex", "year", "month")),
        ("285067512300109", "U", None, ()),
        ("285427512300103", "F", date(1985, 12, 1), ()),  # a pseudo-month says nothing
        ("785357512300129", "M", date(1985, 12, 1), ()),
        ("885657512300171", "M", date(1985, 12, 1), ("sex",)),
        ("not a matricule", "M", date(1985, 12, 1), ()),
    ],
)
def test_the_digits_that_contradict_the_traits_are_named(
    matricule: str, sex: str, birth_date: date | None, wrong: tuple[str, ...]
) -> None:
    assert digits_disagree(matricule, sex, birth_date) == wrong


def test_only_the_first_two_authorities_are_of_real_people() -> None:
    assert {oid: a.production for oid, a in INS_AUTHORITIES.items()} == {
        "1.2.250.1.213.1.4.8": True,
        "1.2.250.1.213.1.4.9": True,
        "1.2.250.1.213.1.4.10": False,
        "1.2.250.1.213.1.4.11": False,
    }
