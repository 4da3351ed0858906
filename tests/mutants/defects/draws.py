"""The verifiable draw: what keeps one party from steering it, and a changed transcript from passing."""

from __future__ import annotations

from tests.mutants.defects.defect import access, unit

_SEED, _SELECTION, _DRAWING = (f"sampler/draw/{name}.py" for name in ("seed", "selection", "drawing"))
_TRANSCRIPT, _CHECKS, _VERIFIER = (f"sampler/draw/{name}.py" for name in ("transcript", "checks", "verifier"))
_UNITS = "sampler/draw/units.py"
_BUILDING, _STRATA, _COUNTS = (f"sampler/frame/{name}.py" for name in ("building", "strata", "counts"))

DEFECTS = (
    access(
        "draw-seed-without-the-protocol",
        _SEED,
        'message = labelled("seed") + root + protocol_hash + draw_no',
        'message = labelled("seed") + root + bytes(32) + draw_no',
        unit("draw", "test_a_plain_second_implementation_draws_the_same"),
    ),
    access(
        "draw-reveal-not-held-against-its-commitment",
        _SEED,
        "    if commitment(role, revealed) != stated:",
        "    if not stated:",
        unit("draw", "test_what_was_committed_to_must_be_what_is_revealed"),
    ),
    access(
        "draw-by-one-party-alone",
        _SEED,
        "    if is_whole and not stated.keys() >= NEEDED:",
        "    if is_whole and not stated.keys() & NEEDED:",
        unit("draw", "test_one_party_alone_or_a_wrong_value_makes_no_draw"),
    ),
    access(
        "draw-beacon-typed-over-its-signature",
        _SEED,
        "if signature is not None and _sha256_of_hex(signature) != randomness:",
        "if signature is not None and _sha256_of_hex(signature) is None:",
        unit("draw", "test_a_beacon_that_contradicts_itself_is_refused"),
    ),
    access(
        "draw-order-of-the-input-kept",
        _SELECTION,
        "    drawn.sort()  # a tie",
        "    # a tie",
        unit("draw", "test_a_plain_second_implementation_draws_the_same"),
    ),
    access(
        "draw-removed-unit-returns",
        _SELECTION,
        "free = (one for one in walk if one.unit not in ever)",
        "free = (one for one in walk if one.unit != out.unit and one not in active)",
        unit("draw", "test_a_removed_unit_never_returns_and_who_follows_is_the_one_due"),
    ),
    access(
        "draw-removed-case-not-freed",
        _SELECTION,
        "held = Counter(one.practitioner for one in active if one.unit != out.unit)",
        "held = Counter(one.practitioner for one in active)",
        unit("draw", "test_a_freed_place_lets_the_practitioner_of_the_removed_case_come_again"),
    ),
    access(
        "draw-any-reason-replaces",
        _SELECTION,
        "    if reason not in REASONS:",
        "    if not reason:",
        unit("draw", "test_no_other_reason_replaces_a_case"),
    ),
    access(
        "draw-replacement-with-one-signature",
        _DRAWING,
        "    if len(one.signatures) < SIGNATURES_MIN:",
        "    if not one.signatures:",
        unit("draw", "test_a_replacement_needs_two_signatures_of_two_keys_over_this_draw"),
    ),
    access(
        "draw-signature-good-in-another-draw",
        _DRAWING,
        '        "seed": seed.hex(),\n',
        "",
        unit("draw_checks", "test_a_whole_transcript_with_its_frame_is_right_in_every_step"),
    ),
    access(
        "draw-more-cases-than-units",
        _DRAWING,
        "    if stratum.n > len(units):",
        "    if not units:",
        unit("draw", "test_more_cases_than_a_stratum_holds_are_refused"),
    ),
    access(
        "draw-duplicate-unit-taken",
        _UNITS,
        "        if one[0] == other[0]:",
        "        if one == other:",
        unit("draw", "test_a_frame_that_is_none_is_refused"),
    ),
    access(
        "draw-follows-another-frame",
        _TRANSCRIPT,
        '.get("root") != root:',
        '.get("root") is None:',
        unit("draw_checks", "test_a_draw_after_a_voided_one_is_over_the_same_frame"),
    ),
    access(
        "draw-check-takes-any-frame",
        _CHECKS,
        '        if frame.root.hex() != stated.get("root"):',
        "        if not frame.units:",
        unit("draw_checks", "test_t50_a_flipped_bit_of_a_leaf_names_the_frame_first"),
    ),
    access(
        "draw-check-leaves-the-order-out",
        _CHECKS,
        "        if units_of(again) != stated:",
        "        if again.keys() != stated.keys():",
        unit("draw_checks", "test_t50_another_order_names_the_selection"),
    ),
    access(
        "draw-check-leaves-the-signature-out",
        _CHECKS,
        "    if not is_valid:",
        "    if not key:",
        unit("draw_checks", "test_t50_a_flipped_bit_of_the_signature_names_the_signature"),
    ),
    access(
        "verifier-takes-any-next-unit",
        _VERIFIER,
        '            need(due == one["in"],',
        "            need(due is not None,",
        unit("draw_checks", "test_who_follows_out_of_turn_is_seen_with_the_frame"),
    ),
    access(
        "verifier-takes-a-malleable-signature",
        _VERIFIER,
        "    if key is None or scalar >= ORDER:",
        "    if key is None:",
        unit("draw_checks", "test_its_ed25519_is_that_of_rfc_8032"),
    ),
    access(
        "verifier-takes-a-path-of-another-place",
        _VERIFIER,
        "        need(path_sides(index, size) == [one[0] for one in path],",
        "        need(path_sides(index, size) is not None,",
        unit("draw_checks", "test_a_proof_that_was_changed_names_the_inclusion"),
    ),
    access(
        "frame-objection-not-obeyed",
        _BUILDING,
        "    if one.opposes:\n        return Exclusion.PATIENT_OBJECTION\n",
        "",
        unit("frame", "test_ff52_what_is_left_out_is_counted_under_its_reason"),
    ),
    access(
        "frame-exclusion-not-counted",
        _BUILDING,
        "            self._exclusions[excluded] += 1\n",
        "",
        unit("frame", "test_ff52_what_is_left_out_is_counted_under_its_reason"),
    ),
    access(
        "frame-pseudonym-without-the-key",
        _BUILDING,
        "    return hmac.digest(key, _UNIT + name.encode(),",
        "    return hmac.digest(_UNIT, name.encode(),",
        unit("frame", "test_ff51_two_campaigns_of_one_site_share_no_unit_and_no_practitioner"),
    ),
    access(
        "frame-small-stratum-kept",
        _STRATA,
        "        if size >= UNITS_MIN:",
        "        if size >= UNITS_MIN - 1:",
        unit("frame", "test_five_are_enough_and_four_are_not"),
    ),
    access(
        "frame-source-without-answer-counts-as-nothing",
        _COUNTS,
        "        return Count(of=of, number=None, reasons={}, why=why)",
        "        listed = ()",
        unit("frame", "test_a_source_that_does_not_answer_counts_nothing_and_asks_for_words"),
    ),
    access(
        "frame-study-that-nobody-explains-dropped",
        _COUNTS,
        "            reasons[left_out.get(study) or reason or NO_REPORT] += 1",
        "            reasons[left_out.get(study) or reason or NO_REPORT] += study in left_out",
        unit("frame", "test_every_study_that_a_source_lists_is_in_the_frame_or_named"),
    ),
)
