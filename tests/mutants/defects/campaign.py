"""The peer audit: what a published figure may show, and who may do what in a campaign."""

from __future__ import annotations

from tests.mutants.defects.defect import access, unit

_ANSWERS = "sampler/grids/answers.py"
_BLANKING = "sampler/figures/blanking.py"
_RATE = "sampler/figures/rate.py"

DEFECTS = (
    access(
        "small-cells-shown",
        _BLANKING,
        "return self.cases >= CASES_MIN and len(self.practitioners) >= PRACTITIONERS_MIN",
        "return self.cases >= CASES_MIN",
        unit("figures_display", "test_a_cell_of_many_cases_and_two_practitioners_is_blanked"),
    ),
    access(
        "small-cells-found-by-subtraction",
        _BLANKING,
        "    found = derivable(table, hidden) & small",
        "    found: set[Key] = set()",
        unit("figures_display", "test_a_small_cell_takes_a_second_one_of_its_row_and_column_with_it"),
    ),
    access(
        "small-sum-of-blanked-cells-shown",
        _BLANKING,
        "sum(table[key].cases for key in parts) < CASES_MIN:",
        "sum(table[key].cases for key in parts) < 0:",
        unit("figures_laws", "test_no_small_cell_follows_from_what_is_shown"),
    ),
    access(
        "illustrative-draw-prints-a-rate",
        _RATE,
        'if self.objective == "illustrative":\n            raise',
        'if self.objective == "":\n            raise',
        unit("figures", "test_illustrative_draws_have_no_basis_for_a_rate"),
    ),
    access(
        "evidence-may-be-a-name",
        _ANSWERS,
        "if not all(EVIDENCE.fullmatch(one) for one in answer.evidence):",
        "if not all(answer.evidence):",
        unit("grids", "test_what_an_answer_needs"),
    ),
    access(
        "anybody-approves-what-does-not-apply",
        _ANSWERS,
        "and answer.approved_by not in leads:",
        "and not answer.approved_by:",
        unit("grids", "test_what_an_answer_needs"),
    ),
    access(
        "formulas-in-exported-tables",
        "security/parse/csv.py",
        "return GUARD + cell if cell.startswith((*FORMULA, GUARD)) else cell",
        "return cell",
        unit("grids", "test_t30_no_written_cell_is_a_formula_and_each_is_read_back"),
    ),
)
