"""An exam's whole life: what withdraws, what never does, whose exam it is, and who lets it back."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_DECISION = "indexer/decision.py"
_ADMISSION = "indexer/admission.py"
_PERSONS = "indexer/persons.py"
_PRESENCE = "indexer/presence.py"
_PUBLICATION = "indexer/publication.py"
_LIFE = "lifecycle"

_WITNESS = "indexer/witness.py"
_ABSENCE = "absence"
_REVISION = "indexer/revision.py"
_HIDING = "indexer/hiding.py"
_REVISED = "revision"

DEFECTS = (
    loss(
        "absence-without-witness-believed",
        _PUBLICATION,
        "counts = is_proven or not facts.may_be_shown",
        "counts = True",
        integration(_ABSENCE, "test_ff54_the_only_exam_is_never_withdrawn_but_by_a_person"),
    ),
    loss(
        "missing-witness-proves",
        _WITNESS,
        "            case Absent():\n                return pacs, Unknown(",
        "            case Absent():\n                return pacs, replace(answer, is_proven=True)\n"
        "                return pacs, Unknown(",
        integration(_ABSENCE, "test_ff54_an_emptied_pacs_makes_every_exam_wait_and_none_leaves"),
    ),
    loss(
        "silent-witness-proves",
        _WITNESS,
        "return pacs, unknown",
        "return pacs, replace(answer, is_proven=not unknown.reason == '')",
        integration(_ABSENCE, "test_ff54_a_witness_that_cannot_be_asked_for_proves_nothing"),
    ),
    loss(
        "oldest-exam-is-the-witness",
        _WITNESS,
        "ORDER BY a.last_at DESC, a.answer_id DESC LIMIT 1",
        "ORDER BY a.last_at, a.answer_id LIMIT 1",
        integration(_ABSENCE, "test_ff54_a_pacs_restored_from_a_copy_finds_the_old_exams_and_is_not_believed"),
    ),
    loss(
        "witness-of-another-pacs",
        _WITNESS,
        "a.tenant = :tenant AND a.pacs = :pacs AND",
        "a.tenant = :tenant AND :pacs = :pacs AND",
        integration(_ABSENCE, "test_the_witness_is_the_other_exam_of_the_index_that_this_pacs_held_most_recently"),
    ),
    loss(
        "announced-end-needs-no-proof",
        _DECISION,
        '        do=Do.WAIT,\n        reason="pacs-unproven",',
        '        do=Do.WITHDRAW,\n        reason="pacs-unproven",',
        integration(_ABSENCE, "test_ff54_an_announced_end_waits_for_a_pacs_that_proves_itself"),
    ),
    loss(
        "one-proof-counts-for-every-pacs",
        "indexer/questions.py",
        "is_proven=bool(absent) and all(answer.is_proven for _, answer in absent)",
        "is_proven=bool(absent) and any(answer.is_proven for _, answer in absent)",
        integration("publication", "test_ff54_an_absence_is_proven_when_every_pacs_proved_its_own"),
    ),
    loss(
        "metadata-updated-though-the-images-differ",
        _REVISION,
        "if not is_same and (found.known.document_hash != content.document or found.entry.codes is None):",
        "if not is_same and found.entry.codes is None:",
        integration(_REVISED, "test_i06_images_that_came_too_are_a_new_manifest_and_never_an_update"),
    ),
    identity(
        "another-entry-is-revised",
        "indexer/xds/update.py",
        'entry.set("lid", current.logical_id)',
        'entry.set("lid", set_id)',
        integration(_REVISED, "test_the_request_revises_the_approved_entry_and_keeps_the_document"),
    ),
    access(
        "what-others-hid-is-shown",
        _HIDING,
        "return own | (frozenset() if told is None else shown - told)",
        "return own",
        integration(_REVISED, "test_what_somebody_else_hid_is_not_shown_again_by_us"),
    ),
    access(
        "replacement-loosens-what-others-hid",
        _PUBLICATION,
        "hidden = hiding.hidden_further(content.context, target(found, content.own))",
        "hidden = content.context",
        integration(_REVISED, "test_what_somebody_else_hid_is_not_shown_again_by_us"),
    ),
    access(
        "refused-update-leaves-it-visible",
        _REVISION,
        "if answer.lasting or not answer.known or is_internal:",
        "if is_internal:",
        integration(_REVISED, "test_a_refusal_of_one_entry_replaces_that_manifest_and_is_not_held_against_the_index"),
    ),
    access(
        "an-answer-is-taken-for-the-effect",
        _REVISION,
        "if shown is not None and made.told <= shown and (is_another or shown == made.hidden):",
        "if shown is not None:",
        integration(_REVISED, "test_an_answer_without_an_effect_is_no_effect"),
    ),
    access(
        "hiding-waits-its-turn",
        _ADMISSION,
        "is_urgent=known.is_hidden_too_little,",
        "is_urgent=False,",
        integration(_REVISED, "test_what_hides_more_goes_before_whatever_is_new_and_after_what_must_leave"),
    ),
    loss(
        "one-absence-withdraws",
        _DECISION,
        "facts.absent_for >= ABSENCE_APART",
        "bool(ABSENCE_APART)",
        integration(_LIFE, "test_ff54_unannounced_two_clean_absences_an_hour_apart_withdraw_and_one_does_not"),
    ),
    loss(
        "silence-of-the-pacs-withdraws",
        _PUBLICATION,
        'facts = replace(facts, pacs=Pacs.UNKNOWN, pacs_reason=f"pacs-{reason}")',
        'facts = replace(facts, pacs=Pacs.ABSENT, pacs_reason=f"pacs-{reason}")',
        integration(_LIFE, "test_ff54_no_outage_is_ever_read_as_a_deletion"),
    ),
    loss(
        "emptied-pacs-empties-the-index",
        _DECISION,
        "f.may_be_shown and f.absent > ABSENT_MAX",
        "f.may_be_shown and f.absent < 0",
        integration(_LIFE, "test_ff54_many_exams_gone_at_once_are_shown_to_a_person"),
    ),
    loss(
        "answered-announcement-still-counts",
        _PRESENCE,
        "CASE WHEN announced_at <= :asked THEN NULL ELSE announced_at END",
        "CASE WHEN announced_at > :asked THEN NULL ELSE announced_at END",
        integration(_LIFE, "test_a_cancelled_exam_that_the_pacs_still_has_stays"),
    ),
    identity(
        "cancellation-for-another-patient-heeded",
        "indexer/orders.py",
        "        return conflict is None\n",
        "        return True\n",
        integration(_LIFE, "test_a_cancellation_for_another_patient_is_no_reason_to_look"),
    ),
    identity(
        "withdrawal-of-another-patients-report-taken",
        _ADMISSION,
        "for one in (held.stated, content))):",
        "for one in (held.stated, held.stated))):",
        integration(_LIFE, "test_ff19_a_withdrawal_that_names_another_patient_changes_nothing"),
    ),
    identity(
        "exam-of-another-person-left-in-the-index",
        _DECISION,
        "a is Arrival.IDENTITY and bool(f.held) and f.may_be_shown",
        "a is Arrival.IDENTITY and bool(f.held) and f.is_kept_out",
        integration(_LIFE, "test_ff28_a_merge_into_another_person_takes_the_exam_out_first_and_holds_it"),
    ),
    identity(
        "another-ins-corrected-in-silence",
        _PERSONS,
        "    if (theirs.matricule, theirs.oid) != (ins.matricule, ins.oid):\n        return patient\n",
        "",
        unit("persons", "test_only_who_has_the_same_qualified_ins_is_corrected"),
    ),
    identity(
        "register-corrects-what-came-after-it",
        _PERSONS,
        "if not is_qualified(theirs) or person.stated is None or is_older:",
        "if not is_qualified(theirs) or person.stated is None:",
        integration(_LIFE, "test_ff19_a_report_that_disagrees_with_the_register_is_held_and_stays_so"),
    ),
    identity(
        "unqualified-register-believed",
        _PERSONS,
        "return is_qualified(stated.patient.ins)",
        "return stated.patient.ins is not None",
        integration(_LIFE, "test_an_unqualified_correction_corrects_nothing"),
    ),
    identity(
        "undone-merge-stays",
        _PERSONS,
        "                    del into[prior]\n",
        "                    into[prior] = now\n",
        unit("persons", "test_ff28_an_undo_takes_apart_what_it_names_and_nothing_else"),
    ),
    access(
        "opposed-patient-stays-in-the-index",
        _DECISION,
        "when=lambda f, _: f.is_opposed and f.may_be_shown,",
        "when=lambda f, _: f.is_opposed and f.is_kept_out,",
        integration("messages", "test_i10_an_opposition_takes_an_indexed_exam_out_of_the_index"),
    ),
    access(
        "opposition-lost-by-a-merge",
        _ADMISSION,
        "return self._consents.is_opposed(tx, self._tenant, (*stated.patients, tied))",
        "return self._consents.is_opposed(tx, self._tenant, (*stated.patients, *(() if tied else ())))",
        integration(_LIFE, "test_i10_an_opposition_reaches_what_a_merge_ties_to_it"),
    ),
    access(
        "report-brings-back-what-a-person-took-out",
        "indexer/knowledge.py",
        "is_kept_out=bool(self.presence.kept_out_by),",
        "is_kept_out=False,",
        integration(_LIFE, "test_a_person_takes_an_exam_out_and_nothing_else_brings_it_back"),
    ),
    access(
        "withdrawn-report-comes-back",
        "gateway/hl7/handlers.py",
        'or known.held.status == "withdrawn"',
        'or known.held.status == "forgotten"',
        integration(_LIFE, "test_a_withdrawn_report_does_not_come_back_by_itself"),
    ),
    access(
        "late-original-of-a-withdrawn-correction-published",
        "indexer/ledger.py",
        '{"valid", "replaced", "withdrawn"}',
        '{"valid", "replaced"}',
        integration(_LIFE, "test_a_late_original_of_a_withdrawn_correction_stays_replaced"),
    ),
    access(
        "exam-without-a-valid-report-left-in-the-index",
        _DECISION,
        "not f.valid and f.may_be_shown and",
        "f.valid < 0 and f.may_be_shown and",
        integration(_LIFE, "test_a_report_that_is_withdrawn_takes_its_exam_out_of_the_index"),
    ),
)
