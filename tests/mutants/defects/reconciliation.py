"""Reconciliation, and the way back from a backup."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_DECISION = "indexer/reconciliation/decision.py"
_LOOK = "indexer/reconciliation/look.py"
_ROUND = "indexer/reconciliation/round.py"
_FOREIGN = "test_f22_another_sources_manifest_of_the_study_is_neither_adopted_nor_replaced_nor_withdrawn"
_ARCHIVE = "gateway/continuity/archive.py"
_STORAGE = "gateway/dimse/storage.py"
_INBOX = "gateway/dimse/inbox.py"

DEFECTS = (
    loss(
        "old-exams-never-looked-at-again",
        "indexer/reconciliation/rows.py",
        " OR r.day BETWEEN :first AND :last OR r.looked_at < :unseen)",
        " OR r.day BETWEEN :first AND :last OR :unseen < 0)",
        integration(
            "reconciliation",
            "test_ff16_an_old_exam_that_drifted_is_found_by_night_once_it_was_not_looked_at_for_long",
        ),
    ),
    identity(
        "the-registers-word-unknown-to-the-night",
        _LOOK,
        "reports = knowledge.reports(tx, tenant, study, ledger=self.ledger, persons=self._persons)",
        "reports = self.ledger.reports_of(tx, tenant, study)",
        integration(
            "reconciliation",
            "test_ff28_an_exam_whose_patient_the_register_merged_is_in_step_and_no_night_replaces_it",
        ),
    ),
    access(
        "a-persons-word-unknown-to-the-night",
        _LOOK,
        "is_kept_out=presence.is_kept_out(tx, tenant, study),",
        "is_kept_out=False,",
        integration(
            "reconciliation",
            "test_i19_an_exam_that_a_person_took_out_before_it_was_ever_shown_is_no_work_of_any_night",
        ),
    ),
    loss(
        "silence-taken-for-absence-in-reconciliation",
        _LOOK,
        'return Pacs.UNKNOWN, None, ""',
        'return Pacs.ABSENT, None, ""',
        integration("reconciliation", "test_ff54_a_pacs_that_does_not_answer_withdraws_nothing_however_long"),
    ),
    loss(
        "one-absence-in-a-round-withdraws",
        _DECISION,
        "return f.absent_since is not None and f.now - f.absent_since >= ABSENT_APART",
        "return f.absent_since is None or f.now - f.absent_since >= ABSENT_APART",
        unit("reconciliation", "test_ff54_only_two_proven_absences_an_hour_apart_withdraw_what_is_reported"),
    ),
    loss(
        "absence-without-control-believed",
        _LOOK,
        "return Pacs.ABSENT if is_proven else Pacs.UNPROVEN",
        "return Pacs.ABSENT if is_proven else Pacs.ABSENT",
        integration("reconciliation", "test_an_absence_from_a_pacs_without_control_study_proves_nothing"),
    ),
    loss(
        "absence-not-forgotten-when-seen-again",
        _ROUND,
        "since = None  # it is there again",
        "pass",
        integration("reconciliation", "test_an_exam_seen_again_between_two_absences_begins_anew"),
    ),
    loss(
        "mass-withdrawal-goes-through",
        _DECISION,
        "return withdrawals > number_max or",
        "return",
        unit("reconciliation", "test_a_mass_withdrawal_is_a_number_or_a_share_from_three_on"),
    ),
    loss(
        "mass-withdrawal-not-stopped",
        _ROUND,
        "if self._is_mass(len(wanted), run.looked_at, withdraw_up_to):",
        "if False:",
        integration("reconciliation", "test_more_withdrawals_than_a_person_let_withdraw_nothing_and_stop"),
    ),
    loss(
        "restored-database-publishes-beside",
        _ROUND,
        "return None if not due or is_trial",
        "return None if True or is_trial",
        integration(
            "reconciliation",
            "test_f22_withdrawn_after_the_backup_and_its_report_sent_again_is_held",
            "test_f22_what_was_adopted_can_be_withdrawn",
        ),
    ),
    loss(
        "restored-database-publishes-unasked",
        _ROUND,
        "if facts.shown is Shown.UNKNOWN:",
        "if False:",
        integration(
            "reconciliation",
            "test_f22_after_a_restore_nothing_is_published_while_the_index_cannot_be_searched",
        ),
    ),
    loss(
        "forgotten-entry-not-waited-for",
        _ROUND,
        "elif facts.shown is Shown.AHEAD and not facts.can_adopt:",
        "elif False:",
        integration("reconciliation", "test_f22_a_forgotten_entry_that_the_pacs_cannot_explain_is_waited_for"),
    ),
    loss(
        "adopted-withdrawal-comes-back",
        _LOOK,
        'if report.status == "valid":',
        "if False:",
        integration("reconciliation", "test_f22_withdrawn_after_the_backup_and_its_report_sent_again_is_held"),
    ),
    loss(
        "adopted-under-another-content",
        _LOOK,
        'digest = content.digest if same else f"adopted:{entry.unique_id}"',
        "digest = content.digest",
        integration("reconciliation", "test_f22_a_forgotten_entry_of_other_content_is_adopted_and_then_replaced"),
    ),
    loss(
        "another-organisations-entry-adopted",
        _LOOK,
        "return (listed.author, listed.institution) == (publisher.device_id, publisher.institution_id)",
        "return listed.author == publisher.device_id",
        integration("reconciliation", _FOREIGN),
    ),
    loss(
        "another-boxs-entry-adopted",
        _LOOK,
        "return (listed.author, listed.institution) == (publisher.device_id, publisher.institution_id)",
        "return listed.institution == publisher.institution_id",
        integration("reconciliation", _FOREIGN),
    ),
    loss(
        "restored-ready-job-sent-unasked",
        "indexer/reconciliation/rows.py",
        "    jobs.restored(tx, now=now)\n",
        "",
        integration(
            "reconciliation",
            "test_f22_i09_what_stood_ready_and_was_sent_since_is_found_and_not_sent_again",
            "test_f22_what_stood_ready_is_not_sent_when_the_index_holds_what_came_after_it",
        ),
    ),
    loss(
        "restored-job-sent-behind-what-came-after",
        _ROUND,
        "if picture.facts.shown is Shown.AHEAD or is_gone:",
        "if is_gone:",
        integration(
            "reconciliation", "test_f22_what_stood_ready_is_not_sent_when_the_index_holds_what_came_after_it"
        ),
    ),
    loss(
        "restored-job-brings-back-what-was-withdrawn",
        _ROUND,
        "if picture.facts.shown is Shown.AHEAD or is_gone:",
        "if picture.facts.shown is Shown.AHEAD:",
        integration("reconciliation", "test_f22_what_stood_ready_and_was_withdrawn_since_stays_withdrawn"),
    ),
    loss(
        "left-out-of-a-list-taken-for-absent",
        _LOOK,
        '            self.asked["index"] += 1\n            match await self._index.find_document(unique_id):',
        "            if listed:\n                continue\n            match await self._index.find_document(unique_id):",
        integration(
            "reconciliation",
            "test_what_a_list_of_documents_leaves_out_is_asked_for_alone_before_it_counts_as_missing",
        ),
    ),
    loss(
        "killed-run-begun-anew",
        "indexer/reconciliation/rows.py",
        "if is_same and timedelta() <= now",
        "if False and timedelta() <= now",
        integration(
            "reconciliation_kill",
            "test_f01_i19_a_run_that_is_killed_goes_on_where_it_was_and_asks_for_everything_once",
        ),
    ),
    loss(
        "changed-backup-restored",
        _ARCHIVE,
        "into, small) != expected[0]:",
        'into, small) == "":',
        integration("continuity", "test_f12_a_backup_with_one_changed_byte_is_refused_and_nothing_is_touched"),
    ),
    loss(
        "cut-backup-restored",
        _ARCHIVE,
        "if seen != set(head.members) or DATABASE not in seen:",
        "if False:",
        integration("continuity", "test_a_backup_without_a_listed_member_is_refused"),
    ),
    loss(
        "restore-beside-a-running-gateway",
        "gateway/continuity/commands.py",
        "lock = place.take_lock(database)",
        "lock = os.open(database.parent, os.O_RDONLY)",
        integration("continuity", "test_a_database_that_a_gateway_runs_on_is_not_replaced"),
    ),
    loss(
        "drill-with-altered-audit-passes",
        "gateway/continuity/drills.py",
        "        if altered:\n",
        "        if not altered and False:\n",
        integration("continuity", "test_a_drill_of_a_copy_with_an_altered_audit_record_fails"),
    ),
    loss(
        "drill-hides-what-its-backup-lacks",
        "gateway/continuity/drills.py",
        "rpo_s=copies.exposed(tx, tenant, last_audit_no, now)",
        "rpo_s=copies.exposed(tx, tenant, 10**9, now)",
        integration(
            "continuity",
            "test_what_a_drill_measured_is_kept_for_each_tenant_with_the_work_that_its_backup_lacked",
        ),
    ),
    loss(
        "older-copy-hides-exposure",
        "gateway/continuity/copies.py",
        '" digest = excluded.digest WHERE excluded.last_audit_no >= copy.last_audit_no",',
        '" digest = excluded.digest",',
        integration("continuity", "test_exposure_is_the_age_of_the_oldest_work_that_no_verified_copy_holds"),
    ),
    loss(
        "check-sees-an-object-without-its-row",
        _STORAGE,
        """        async with self._placing:
            known = await""",
        """        async with contextlib.AsyncExitStack():
            known = await""",
        integration("inventory", "test_a_check_never_sees_an_object_between_its_file_and_its_row"),
    ),
    identity(
        "file-under-another-name-believed",
        _STORAGE,
        "if inbox.file_name(self._tenant, arrival) != name:",
        "if False:",
        integration("inventory", "test_a_file_under_another_objects_name_is_put_aside_and_speaks_for_nobody"),
    ),
    loss(
        "row-without-file-not-told",
        _INBOX,
        'is_lost = row["file"] not in present',
        "is_lost = False",
        integration("inventory", "test_a_row_without_its_file_is_named_and_alarms_until_its_bytes_come_again"),
    ),
    loss(
        "bytes-come-again-and-the-loss-stays",
        _INBOX,
        "ELSE keeping END, lost_at = NULL",
        "ELSE keeping END",
        integration("inventory", "test_a_row_without_its_file_is_named_and_alarms_until_its_bytes_come_again"),
    ),
    loss(
        "altered-trail-asks-for-nobody",
        "gateway/drift.py",
        'or bool(trail and not trail["is_intact"])',
        "",
        integration("inventory", "test_an_altered_audit_record_is_told_with_the_run"),
    ),
    loss(
        "unchecked-passes-as-checked",
        "gateway/drift.py",
        'or bool(found.get("unchecked"))',
        "",
        integration("inventory", "test_what_could_not_be_checked_never_passes_as_checked"),
    ),
    loss(
        "adopted-exam-in-no-list",
        "indexer/publication.py",
        "isinstance(found, standing.Shown) and not found.known.job_id:",
        "isinstance(found, standing.Shown) and found.known.outline:",
        integration(
            "reconciliation",
            "test_f22_an_exam_that_the_backup_never_knew_is_adopted_when_its_report_comes_again",
        ),
    ),
)
