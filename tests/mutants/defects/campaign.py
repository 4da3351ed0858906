"""The peer audit: what a published figure may show, and who may do what in a campaign."""

from __future__ import annotations

from tests.mutants.defects.defect import access, unit

_ANSWERS = "sampler/grids/answers.py"
_BLANKING = "sampler/figures/blanking.py"
_CONFLICT = "sampler/campaign/conflict.py"
_LIFECYCLE = "sampler/campaign/lifecycle.py"
_RATE = "sampler/figures/rate.py"
_RESULTS = "sampler/campaign/results.py"

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
    access(
        "linked-auditor-sees-the-case",
        _CONFLICT,
        "    if any(one.touches(site=site, practitioner=practitioner) for one in theirs):",
        "    if any(one.touches(site=site) for one in theirs):",
        unit("campaign", "test_t52_nobody_sees_a_case_they_have_a_link_with_or_declared_nothing_for"),
    ),
    access(
        "silence-taken-for-no-link",
        _CONFLICT,
        "    if not theirs:\n        raise",
        "    if theirs is None:\n        raise",
        unit("campaign", "test_t52_nobody_sees_a_case_they_have_a_link_with_or_declared_nothing_for"),
    ),
    access(
        "linked-member-votes",
        _CONFLICT,
        " - {one.person for one in declarations if one.touches(site=site)}",
        "",
        unit("campaign", "test_a_member_linked_to_the_site_neither_votes_nor_counts"),
    ),
    access(
        "case-opened-after-the-review",
        _LIFECYCLE,
        "lambda facts: facts.campaign in SHOWN",
        "lambda facts: facts.campaign is not State.DRAFT",
        unit("campaign", "test_cases_are_shown_in_review_and_in_the_contradictory_step_alone"),
    ),
    access(
        "case-opened-before-the-transcript",
        _LIFECYCLE,
        "(CaseState.OPENED, lambda facts: facts.is_transcript_signed,",
        "(CaseState.OPENED, lambda facts: bool(facts.campaign),",
        unit("campaign", "test_a_case_waits_for_what_guards_its_step"),
    ),
    access(
        "seed-revealed-before-both-committed",
        _LIFECYCLE,
        "lambda facts: facts.committed >= PARTIES and facts.revealed >= facts.committed,",
        "lambda facts: facts.revealed >= facts.committed,",
        unit("campaign", "test_a_step_whose_guard_is_open_is_refused_with_what_is_missing"),
    ),
    access(
        "protocol-frozen-with-one-signature",
        _LIFECYCLE,
        'return {"site-lead", "lead-auditor"} <= facts.signatures',
        'return "site-lead" in facts.signatures',
        unit("campaign", "test_a_step_whose_guard_is_open_is_refused_with_what_is_missing"),
    ),
    access(
        "open-cases-counted",
        _RESULTS,
        "return self.state is CaseState.LOCKED and bool(self.reviews)",
        "return bool(self.reviews)",
        unit("campaign_results", "test_only_locked_cases_count"),
    ),
    access(
        "stratum-of-few-practitioners-shown",
        _RESULTS,
        "is_hidden = (stratum, code) in hidden",
        "is_hidden = not answered[stratum]",
        unit("campaign_results", "test_a_stratum_of_few_practitioners_is_blanked_with_another"),
    ),
)
