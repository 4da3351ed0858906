"""What the imaging side says: whose note is obeyed, what a manifest lists, what lets received bytes go."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_REJECTIONS = "indexer/imaging/rejections.py"
_STEPS = "indexer/imaging/steps.py"
_EMPTYING = "gateway/dimse/emptying.py"
_NOTES = "gateway/dimse/notes.py"
_IMAGING = "imaging"

DEFECTS = (
    identity(
        "rejection-note-obeyed-for-another-patient",
        _REJECTIONS,
        "is_refused = any(verdict is not None and verdict.holds for verdict in verdicts.values())",
        "is_refused = False",
        integration(_IMAGING, "test_a_note_that_names_another_patient_is_kept_refused_and_not_obeyed"),
    ),
    identity(
        "early-note-obeyed-for-another-patient",
        _REJECTIONS,
        "            standing = Standing.REFUSED if verdict.holds else Standing.OBEYED\n            tx.change(",
        "            standing = Standing.OBEYED\n            tx.change(",
        integration(_IMAGING, "test_an_early_note_for_another_patient_is_not_obeyed_when_the_report_comes"),
    ),
    identity(
        "note-of-two-patients-obeyed-for-one",
        _REJECTIONS,
        "standing = Standing.REFUSED if is_refused else standing",
        "standing = Standing.REFUSED if is_refused and verdict is not None and verdict.holds else standing",
        integration(_IMAGING, "test_a_note_of_two_studies_is_obeyed_for_both_or_for_none"),
    ),
    identity(
        "other-content-under-a-notes-uid-taken",
        _REJECTIONS,
        "if any(row is not None and not self._is_same(row, note) for row in known.values()):",
        "if any(row is not None and row is None for row in known.values()):",
        integration(_IMAGING, "test_the_same_note_again_is_one_effect_and_other_content_under_its_uid_is_refused"),
    ),
    identity(
        "step-of-another-patient-ends-the-exam",
        _STEPS,
        "return not verdict.holds",
        "return True",
        integration(_IMAGING, "test_a_discontinued_step_of_another_patient_announces_no_end"),
    ),
    identity(
        "patient-without-identifier-accepted",
        "indexer/gate.py",
        '        found = [_conflict(code, "local id", (_CDA, ours), (_PACS, theirs))]',
        '        found = [_conflict(code, "local id", (_CDA, ours), (_PACS, theirs))] if theirs else [None]',
        integration(_IMAGING, "test_a_note_that_names_another_patient_is_kept_refused_and_not_obeyed"),
    ),
    loss(
        "rejected-image-listed",
        "indexer/publication.py",
        "shown = rejections.shown(study, known.rejected, self._policy.hiding)",
        "shown = rejections.shown(study, {}, self._policy.hiding)",
        integration(_IMAGING, "test_a_manifest_lists_nothing_that_was_rejected_also_while_the_pacs_still_has_it"),
    ),
    loss(
        "expired-image-hidden",
        _REJECTIONS,
        "hidden = {instance for instance, titles in rejected.items() if titles & hiding}",
        "hidden = set(rejected)",
        unit("rejections", "test_only_titles_that_hide_take_instances_out"),
    ),
    loss(
        "evidence-rejects-more-than-the-content",
        "indexer/kos/rejection.py",
        "if not evident or flagged != evident:",
        "if not evident or not flagged <= evident:",
        unit("rejections", "test_what_is_no_note_that_can_be_obeyed_is_named"),
    ),
    loss(
        "received-bytes-go-without-the-pacs",
        _EMPTYING,
        "if one.is_alone and (one.series, one.sop) in listed]",
        "if one.is_alone]",
        integration(_IMAGING, "test_ff54_received_bytes_never_go_on_silence_or_absence"),
    ),
    loss(
        "received-bytes-go-by-another-series",
        _EMPTYING,
        "if one.is_alone and (one.series, one.sop) in listed]",
        "if one.is_alone and one.sop in {sop for _, sop in listed}]",
        integration(_IMAGING, "test_an_object_of_the_same_uid_in_another_series_of_the_pacs_is_not_confirmed"),
    ),
    loss(
        "one-of-two-objects-of-a-uid-goes",
        _EMPTYING,
        "if one.is_alone and (one.series, one.sop) in listed]",
        "if (one.series, one.sop) in listed]",
        integration(_IMAGING, "test_ff09_of_two_objects_under_one_uid_none_goes"),
    ),
    loss(
        "exam-not-told-when-the-pacs-shows-more",
        _EMPTYING,
        "also=lambda tx: self._announce(tx, study, self._now()),",
        "also=lambda _tx: None,",
        integration(_IMAGING, "test_received_objects_are_told_to_their_exam_once_and_go_when_the_pacs_shows_them"),
    ),
    loss(
        "unread-note-forgotten-after-a-crash",
        _EMPTYING,
        "                await self._key_objects.take(one)\n",
        "                pass\n",
        integration(_IMAGING, "test_a_note_that_a_crash_left_unread_is_read_from_its_row"),
    ),
    loss(
        "step-changed-after-its-end",
        _STEPS,
        "if status is not StepStatus.IN_PROGRESS:",
        "if status is None:",
        integration(_IMAGING, "test_a_step_that_has_ended_is_never_changed_also_after_a_restart"),
    ),
    loss(
        "withdrawn-exam-woken-by-what-ends-exams",
        "indexer/admission.py",
        "if arrived in ENDING and not self._is_open(tx, study):",
        "if arrived in ENDING and not study:",
        integration(_IMAGING, "test_what_only_ends_exams_does_not_wake_one_that_is_out_of_the_index"),
    ),
    access(
        "anybody-may-reject",
        _NOTES,
        "if one.peer not in self._peers:",
        "if one.peer is None:",
        integration(_IMAGING, "test_t06_only_peers_that_may_send_notes_steps_or_notices_are_heard"),
    ),
    access(
        "notes-ae-title-open-to-all-peers",
        "gateway/dimse/door.py",
        "notes=key_objects if may_reject else None,",
        "notes=key_objects,",
        integration(_IMAGING, "test_t06_only_peers_that_may_send_notes_steps_or_notices_are_heard"),
    ),
    access(
        "steps-of-every-peer-heard",
        "gateway/dimse/door.py",
        "if service in peer.may}",
        "if service}",
        integration(_IMAGING, "test_t06_only_peers_that_may_send_notes_steps_or_notices_are_heard"),
    ),
    access(
        "step-of-another-peer-changed",
        "gateway/dimse/steps.py",
        'if self._steps.peer_of(tx, uid) not in {"", request.peer.name}:',
        "if self._steps.peer_of(tx, uid) is None:",
        integration(_IMAGING, "test_what_a_step_lacks_is_answered_by_the_status_of_the_standard"),
    ),
)
