"""The peer audit: what a published figure may show, and who may do what in a campaign."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, loss, unit

_ACTS = "sampler/ledger/acts.py"
_ANSWERS = "sampler/grids/answers.py"
_BLANKING = "sampler/figures/blanking.py"
_CONFLICT = "sampler/campaign/conflict.py"
_HELD = "sampler/ledger/held.py"
_LIFECYCLE = "sampler/campaign/lifecycle.py"
_RATE = "sampler/figures/rate.py"
_RESULTS = "sampler/campaign/results.py"
_REVIEWS = "sampler/ledger/reviews.py"
_ROWS = "sampler/ledger/rows.py"


def _commands(name: str) -> tuple[str, ...]:
    return (f"tests/acceptance/test_campaign_commands.py::{name}",)


def _ledger(name: str) -> tuple[str, ...]:
    return integration("campaign_ledger", name)


DEFECTS = (
    access(
        "small-cells-shown",
        _BLANKING,
        "return cases >= CASES_MIN and practitioners >= PRACTITIONERS_MIN",
        "return cases >= CASES_MIN",
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
    access(
        "review-without-assignment",
        _HELD,
        "if reach is rights.Extent.ASSIGNED:",
        "if reach is rights.Extent.K_RULE:",
        _ledger("test_what_is_refused_leaves_nothing_behind"),
    ),
    access(
        "conflict-asked-once",
        _HELD,
        "        self.require_free(tx, campaign, held, actor.name)\n",
        "",
        _ledger("test_t52_a_link_declared_later_closes_the_case"),
    ),
    access(
        "declared-for-somebody-else",
        _REVIEWS,
        "if declaration.person != actor.name:",
        "if not declaration.person:",
        _ledger("test_t52_a_link_declared_later_closes_the_case"),
    ),
    access(
        "locked-case-answered",
        _REVIEWS,
        'if held.content["state"] not in {CaseState.OPENED, CaseState.REVIEWED}:',
        'if held.content["state"] in {CaseState.SELECTED}:',
        _ledger("test_two_reviews_that_differ_are_arbitrated_before_the_case_is_locked"),
    ),
    access(
        "one-person-signs-for-both",
        _ACTS,
        "if len(set(signatures.values())) != len(signatures):",
        "if not signatures:",
        _ledger("test_a_protocol_is_signed_by_two_persons_in_two_roles"),
    ),
    access(
        "draw-of-another-frame-taken",
        _ACTS,
        "        if stated != ours:",
        "        if stated[0] != ours[0]:",
        _ledger("test_a_draw_of_another_campaign_frame_protocol_or_number_is_not_taken"),
    ),
    access(
        "frame-committed-twice",
        _ACTS,
        'if self._held.rows.one(tx, campaign, "frame", ONE):',
        "if not root:",
        _ledger("test_a_draw_of_another_campaign_frame_protocol_or_number_is_not_taken"),
    ),
    access(
        "replacement-by-an-auditor",
        _ACTS,
        "        require(actor, Right.APPROVE_REPLACEMENT)\n",
        "",
        _ledger("test_a_replaced_case_leaves_and_the_next_one_enters"),
    ),
    access(
        "linked-members-count-for-the-quorum",
        _REVIEWS,
        "voting(members, self._held.declarations(tx, campaign), site=site, quorum=quorum)",
        "members",
        _ledger("test_a_campaign_from_draft_to_decided"),
    ),
    loss(
        "concurrent-version-overwritten",
        _ROWS,
        "if after is not None and after != newest:",
        "if after is not None and after > newest:",
        _ledger("test_two_who_change_the_same_version_collide"),
    ),
    loss(
        "altered-answer-not-compared-with-the-trail",
        _ROWS,
        'return "" if recorded == _told(row["kind"], row["id"], row["version"], row["digest"]) else "record"',
        'return ""',
        _ledger("test_t54_one_who_has_the_keys_and_writes_another_answer_is_found_by_the_trail"),
    ),
    loss(
        "deleted-review-not-missed",
        _ROWS,
        "gone = sorted(known.keys() - seen)",
        "gone = sorted(known.keys() & set())",
        _ledger("test_t54_a_review_altered_after_its_submission_is_found"),
    ),
    loss(
        "change-of-a-campaign-not-recorded",
        _ROWS,
        "        audit.append(\n            tx,",
        "        (lambda *_: None)(\n            tx,",
        _ledger("test_each_version_is_recorded_in_the_trail_with_its_digest"),
    ),
    access(
        "what-people-wrote-is-markup-in-the-report",
        "sampler/report/page.py",
        "{escape(cell)}</td>",
        "{cell}</td>",
        unit("campaign_report", "test_what_people_wrote_is_text"),
    ),
    access(
        "comments-leave-without-being-asked-for",
        "sampler/export/__init__.py",
        "said = SAID if what.with_words else ()",
        "said = SAID",
        unit("campaign_export", "test_practitioners_are_in_no_file_and_words_only_where_asked_for"),
    ),
    access(
        "small-audit-shown-to-the-steering-committee",
        "gateway/campaigns.py",
        "if reach is Extent.K_RULE and not is_enough(found.cases, found.practitioners):",
        "if reach is Extent.K_RULE and not found.cases < 0 and found.population < 0:",
        _commands("test_an_illustrative_campaign_prints_no_rate"),
    ),
    access(
        "export-for-whoever-runs-the-gateway",
        "gateway/campaigns.py",
        "        require(actor, Right.READ_CASE)\n        told",
        "        told",
        _commands("test_who_may_not_is_refused_by_name_and_nothing_changes"),
    ),
    access(
        "transcript-of-any-key-taken",
        "gateway/campaign_commands.py",
        "verdict = checks.check(told, rows=units, key=key)",
        'verdict, key = checks.check(told, rows=units), ""',
        _commands("test_a_changed_transcript_is_not_taken_and_its_step_is_named"),
    ),
    loss(
        "auditors-write-over-each-other",
        _REVIEWS,
        'f"{case}/{actor.name}"',
        'f"{case}/{actor.name[:23]}"',
        _ledger("test_auditors_of_long_and_dotted_names_never_write_over_each_other"),
    ),
)
