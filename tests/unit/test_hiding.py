"""Marks: levels are cumulative, what others hid stays, what we told may be lifted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from indexer import hiding
from indexer.report import Visibility

ALL = ["U", "L", "M", "N", "R", "V", "MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"]
SETS = st.frozensets(st.sampled_from(ALL)).map(hiding.stated)


def test_a_level_hides_what_every_level_below_it_hides() -> None:
    assert hiding.marks("R", Visibility()) == {"U", "L", "M", "N", "R"}
    assert hiding.marks("N", Visibility()) < hiding.marks("V", Visibility())
    assert hiding.level_of(hiding.stated({"N", "R", "V", "MASQUE_PS"})) == "V"
    assert hiding.level_of(frozenset()) == "N"


def test_codes_of_other_tables_are_no_marks() -> None:
    assert hiding.stated({"N", "SITE-SECRET"}) == hiding.stated({"N"})


def test_what_somebody_else_hid_stays_and_what_we_told_goes() -> None:
    own, normal = hiding.stated({"N"}), hiding.stated({"N"})
    shown = normal | {"MASQUE_PS", "INVISIBLE_PATIENT"}
    assert hiding.wanted(own, shown=shown, told=normal | {"INVISIBLE_PATIENT"}) == normal | {"MASQUE_PS"}
    assert hiding.wanted(own, shown=shown, told=None) == normal


@given(own=SETS, shown=SETS, told=SETS)
def test_nothing_the_reports_hide_is_ever_shown_and_nothing_foreign_lifted(
    own: hiding.Marks, shown: hiding.Marks, told: hiding.Marks
) -> None:
    wanted = hiding.wanted(own, shown=shown, told=told)
    assert own <= wanted
    assert shown - told <= wanted
    assert wanted <= own | shown


@given(hidden=SETS)
def test_marks_survive_a_row_and_the_way_through_level_and_flags(hidden: hiding.Marks) -> None:
    assert hiding.read(hiding.text(hidden)) == hidden
    again = hiding.marks(hiding.level_of(hidden), hiding.visibility_of(hidden, Visibility()))
    assert hidden <= again
