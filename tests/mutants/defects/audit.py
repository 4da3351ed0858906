"""The audit trail: what makes an alteration show."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, loss, unit

_AREA = "audit_trail"
_PLACE = "test_every_manipulation_is_found_in_its_place"
_VERIFYING = "security/audit/verifying.py"
_WITNESS = "security/audit/witness.py"

DEFECTS = (
    access(
        "content-of-a-record-not-hashed-again",
        _VERIFYING,
        '        elif leaf_of_row(row) != row["leaf"]:',
        '        elif not row["leaf"]:',
        integration(_AREA, _PLACE),
    ),
    access(
        "segment-of-a-head-not-compared",
        _VERIFYING,
        "if self._segment.size == many and self._segment.root() == head.segment:",
        "if self._segment.size == many:",
        integration(_AREA, _PLACE),
    ),
    access(
        "signature-of-a-head-not-asked",
        _VERIFYING,
        "            if not head.is_signed():",
        "            if not head.signature:",
        integration(_AREA, _PLACE),
    ),
    access(
        "any-key-of-the-trail-believed",
        _VERIFYING,
        "            elif head.key not in known:",
        "            elif not head.key:",
        integration(_AREA, "test_a_trail_rewritten_under_a_key_of_its_own_is_not_believed"),
    ),
    loss(
        "rollback-taken-for-a-restore",
        _VERIFYING,
        "        if any(since <= at <= until for at in self._restores):",
        "        if True:",
        integration(_AREA, "test_yesterdays_copy_is_known_by_the_witness_and_by_nothing_else"),
    ),
    loss(
        "erasure-needs-no-record",
        _VERIFYING,
        "if not any(low <= first and last <= high for low, high in self._erasures):",
        "if first > last:",
        integration(_AREA, "test_a_row_marked_erased_without_a_record_of_it_is_a_manipulation"),
    ),
    access(
        "line-of-a-witness-not-checked",
        _WITNESS,
        "    if not head.is_signed():",
        "    if not head.signature:",
        integration(_AREA, "test_a_line_under_another_signature_is_refused"),
    ),
    access(
        "later-field-left-out-of-the-leaf",
        "security/audit/record.py",
        "    said |= {name: fields[name] for name in _LATER if fields[name]}\n",
        "",
        unit("audit", "test_a_later_field_is_part_of_the_leaf_when_it_says_something"),
    ),
    access(
        "question-to-the-trail-not-recorded",
        "gateway/trail.py",
        "        await self._store.write(lambda tx: trail.note_question(tx, question, actor=actor, now=self._clock.now()))\n",
        "",
        integration(_AREA, "test_who_asks_the_keeper_is_recorded_before_the_answer"),
    ),
)
