"""Exams, their reports and everything that decides about them."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_PUBLICATION = "indexer/publication.py"
_ADMISSION = "indexer/admission.py"
_LEDGER = "indexer/ledger.py"
_ASSEMBLE = "indexer/assemble.py"
_STANDING = "indexer/standing.py"
_MANIFEST = "indexer/manifest.py"
_CONSENT = "indexer/consent.py"
_ORDERS = "indexer/orders.py"
_TRIAL = "indexer/trial.py"
_RELEASE = "indexer/release.py"
_WITHDRAWAL = "indexer/withdrawal.py"

DEFECTS = (
    identity(
        "pacs-disagreement-ignored",
        _PUBLICATION,
        "contradicted = next((verdict for _, verdict in judged if verdict.holds), None)",
        "contradicted = next((verdict for _, verdict in judged if not judged), None)",
        integration("publication", "test_ff19_a_disagreement_with_the_pacs_holds_the_exam_and_nobody_else"),
    ),
    identity(
        "pacs-disagreement-leaves-its-report-a-witness",
        _PUBLICATION,
        "self._ledger.contest(tx, job.tenant, held.report_id, study=job.lane, reason=reason)",
        'self._ledger.contest(tx, job.tenant, held.report_id, study=job.lane, reason="")',
        integration("publication", "test_ff19_a_report_the_pacs_contradicts_is_no_witness_against_others"),
    ),
    identity(
        "held-report-of-the-study-ignored",
        "indexer/decision.py",
        '        reason=lambda f: f.held,\n        words="a report of the exam is in doubt",\n        when=lambda f, _: bool(f.held),',
        '        reason=lambda f: f.held,\n        words="a report of the exam is in doubt",\n        when=lambda f, _: bool(f.held) and not f.valid,',
        integration("publication", "test_ff19_a_held_report_of_the_study_holds_the_next_one_that_tells_it_otherwise"),
    ),
    identity(
        "every-report-of-a-study-counts-as-valid",
        "indexer/knowledge.py",
        'return [one for one in self.reports if one.status == "valid"]',
        "return list(self.reports)",
        integration("publication", "test_a_report_not_meant_for_the_index_is_held_until_one_that_replaces_it_is"),
    ),
    access(
        "entry-without-report-left-alone",
        "indexer/decision.py",
        "not f.valid and f.may_be_shown and (a is",
        "not f.valid and f.is_kept_out and (a is",
        integration("publication", "test_an_indexed_exam_whose_last_report_moves_to_another_study_is_withdrawn"),
    ),
    loss(
        "one-absent-pacs-outweighs-a-silent-one",
        "indexer/questions.py",
        "    if unknown:",
        "    if len(unknown) > len(answers):",
        integration("publication", "test_ff54_a_pacs_that_gives_no_answer_decides_nothing"),
    ),
    access(
        "destdmp-ignored",
        "indexer/knowledge.py",
        "is_for_index=all(one.stated.report.visibility.for_index for one in self.valid),",
        "is_for_index=True,",
        integration("publication", "test_a_report_not_meant_for_the_index_is_held_until_one_that_replaces_it_is"),
    ),
    loss(
        "bytes-made-anew-at-each-attempt",
        _PUBLICATION,
        "answer = await self._index.provide_and_register(stored[1])",
        (
            'again = replace(stored[1], metadata=stored[1].metadata + b"\\n" * job.attempts)\n'
            "        answer = await self._index.provide_and_register(again)"
        ),
        integration("publication", "test_ff21_a_retry_sends_the_bytes_of_the_first_attempt"),
    ),
    loss(
        "same-content-published-again",
        "indexer/revision.py",
        "return Index.SAME if _is_hidden_as_meant(found, content, is_same=is_same) else Index.VISIBILITY",
        "return Index.OTHER",
        integration("publication", "test_i06_the_same_content_by_another_report_makes_no_new_version"),
    ),
    identity(
        "other-studies-of-a-contradicted-report-go-out",
        _PUBLICATION,
        "                if other != job.lane:\n",
        "                if other == job.lane:\n",
        integration(
            "publication", "test_ff19_what_the_pacs_says_against_one_study_holds_the_other_studies_of_the_report"
        ),
    ),
    identity(
        "pacs-asked-about-a-trial",
        _PUBLICATION,
        "self._trial if known.is_trial else self._sources",
        "(*self._trial, *self._sources)",
        integration("trial", "test_a_trial_is_published_confirmed_and_withdrawn"),
    ),
    access(
        "index-asked-in-shadow-mode",
        _PUBLICATION,
        "        if self._is_silent(known):\n",
        "        if self._is_silent(known) and not digest:\n",
        integration(
            "shadow",
            "test_back_in_shadow_mode_a_new_version_waits_and_the_index_keeps_the_old_one",
            "test_in_shadow_mode_the_same_content_as_the_index_showed_last_is_not_made_again",
        ),
    ),
    access(
        "prepared-job-sent-in-shadow-mode",
        _PUBLICATION,
        '        if self._policy.mode == "live":\n            return False\n',
        "        if self._policy.mode:\n            return False\n",
        integration("shadow", "test_a_prepared_job_does_not_leave_in_shadow_mode_and_goes_out_once_when_live"),
    ),
    access(
        "opposition-since-the-report-came-ignored",
        "indexer/decision.py",
        "        when=lambda f, _: f.is_opposed and f.may_be_shown,",
        "        when=lambda f, _: f.is_kept_out and f.may_be_shown,",
        integration("opposition", "test_i10_an_opposition_takes_an_exam_out_although_a_new_version_waits"),
    ),
    identity(
        "held-report-stored-as-valid",
        _ADMISSION,
        '        if verdict.holds:\n            return "held"\n',
        '        if verdict is None:\n            return "held"\n',
        integration(
            "publication", "test_ff19_the_same_matricule_with_other_traits_is_held_whatever_the_message_says"
        ),
    ),
    identity(
        "held-report-accepted-at-its-second-sending",
        _ADMISSION,
        "            return self._judge_again(tx, by, _obeying_both(known[0].stated, content), known[0])\n",
        (
            "            self._judge_again(tx, by, _obeying_both(known[0].stated, content), known[0])\n"
            "            return gate.Verdict()\n"
        ),
        integration("publication", "test_ff19_a_held_report_by_another_message_is_refused_again"),
    ),
    identity(
        "report-under-another-identity-not-judged-again",
        _ADMISSION,
        'if known.status not in {"valid", "held"}:',
        'if known.status != "held":',
        integration(
            "publication", "test_ff19_the_same_report_under_another_identity_is_judged_again_and_holds_the_exam"
        ),
    ),
    identity(
        "doubtful-report-takes-away-the-one-it-replaces",
        _ADMISSION,
        "if report.replaces and not verdict.is_in_doubt:",
        "if report.replaces:",
        integration("publication", "test_ff19_a_held_report_does_not_take_away_the_one_it_says_it_replaces"),
    ),
    access(
        "overtaken-report-counts",
        _ADMISSION,
        'return "replaced" if self._ledger.is_replaced(tx, self._tenant, content) else "valid"',
        'return "valid"',
        integration("publication", "test_a_report_overtaken_by_its_successor_changes_nothing"),
    ),
    access(
        "milder-flag-of-a-second-envelope-counts",
        _ADMISSION,
        "visibility = replace(strictest(stated), changes_confidentiality=changes)",
        "visibility = again.report.visibility",
        integration("messages", "test_of_two_envelopes_the_stricter_flag_counts_in_either_order"),
    ),
    access(
        "opposition-of-the-patient-ignored",
        _ADMISSION,
        "return replace(verdict, is_opposed=self._is_opposed(tx, content))",
        "return verdict",
        integration("messages", "test_i10_a_new_report_of_an_opposed_patient_is_stored_held_and_answered_aa"),
    ),
    identity(
        "held-neighbour-of-the-same-study-forgotten",
        _LEDGER,
        'if held.status in {"valid", "held"} and not is_itself and not corrected:',
        'if held.status == "valid" and not is_itself and not corrected:',
        integration("publication", "test_ff19_a_report_held_before_the_ack_is_a_witness_for_its_study"),
    ),
    access(
        "conflict-noted-in-clear",
        _LEDGER,
        'summary = "; ".join(conflict.summary() for conflict in conflicts)',
        'summary = "; ".join(f"{conflict.left} {conflict.right}" for conflict in conflicts)',
        integration("publication", "test_t65_the_gateways_database_holds_no_patient_in_clear"),
    ),
    identity(
        "replaced-report-of-another-person-not-compared",
        _LEDGER,
        "        if predecessor:\n",
        "        if predecessor and not report.replaces:\n",
        integration("publication", "test_ff19_nobody_replaces_the_report_of_another_person"),
    ),
    identity(
        "anybody-may-announce-a-replacement",
        _LEDGER,
        ' AND replaces = :report_id AND ins_blind = :blind"',
        ' AND replaces = :report_id AND length(:blind) > 0"',
        integration(
            "publication", "test_ff19_a_stranger_that_claims_to_replace_a_report_does_not_swallow_it_when_it_arrives"
        ),
    ),
    identity(
        "held-report-counts-as-a-report",
        _LEDGER,
        "AND r.status = 'valid' LIMIT 1",
        "LIMIT 1",
        integration("pacs_changes", "test_an_exam_whose_only_report_is_held_is_left_alone"),
    ),
    loss(
        "withdrawn-entry-taken-for-a-predecessor",
        _LEDGER,
        'if row is None or row["status"] == "Deleted":',
        "if row is None:",
        integration("withdrawal", "test_a_withdrawn_exam_may_be_published_again_as_a_new_one"),
    ),
    identity(
        "waiver-of-one-value-counts-for-every-other",
        _LEDGER,
        (
            "sides = [conflict.left_source.split()[0], conflict.left, conflict.right_source.split()[0], "
            "conflict.right]"
        ),
        "sides = [conflict.left_source.split()[0], conflict.left, conflict.right_source.split()[0]]",
        integration("release", "test_ff19_a_pacs_that_says_something_else_than_what_was_accepted_holds_again"),
    ),
    identity(
        "ended-waiver-counts-again",
        _LEDGER,
        '" AND moment = :moment AND ended_at IS NULL",',
        '" AND moment = :moment",',
        integration("release", "test_ff19_the_same_report_under_yet_another_name_holds_again"),
    ),
    access(
        "opposition-by-the-number-of-the-envelope-not-found",
        _LEDGER,
        "*(local for local in envelope.local_ids if local.issuer)",
        "*envelope.local_ids[:0]",
        integration("opposition", "test_i10_an_opposition_finds_the_report_by_the_number_its_envelope_states"),
    ),
    identity(
        "reports-of-two-people-make-one-manifest",
        _ASSEMBLE,
        "if any((r.patient.ins and r.patient.ins.matricule) != envelope_ins.matricule for r in reports):",
        "if not reports:",
        unit("assemble", "test_ff19_reports_about_two_people_make_no_manifest"),
    ),
    identity(
        "orders-of-another-study-taken-along",
        _ASSEMBLE,
        "return tuple(order for order in report.orders if order.accession_number == study.accession_number)",
        "return report.orders",
        unit("assemble", "test_a_report_of_two_studies_gives_each_study_its_own_order"),
    ),
    access(
        "loosest-visibility-counts",
        _ASSEMBLE,
        "invisible_to_patient=any(v.invisible_to_patient for v in stated),",
        "invisible_to_patient=all(v.invisible_to_patient for v in stated),",
        unit("assemble", "test_the_strictest_visibility_counts_whoever_states_it"),
    ),
    access(
        "one-report-opens-what-another-masks",
        _ASSEMBLE,
        "masked_to_professionals=any(v.masked_to_professionals for v in stated),",
        "masked_to_professionals=all(v.masked_to_professionals for v in stated),",
        unit("assemble", "test_the_strictest_visibility_counts_whoever_states_it"),
    ),
    access(
        "least-confidentiality-counts",
        _ASSEMBLE,
        "return max(codes, key=LEVELS.index)",
        "return min(codes, key=LEVELS.index)",
        unit("assemble", "test_the_strictest_confidentiality_counts"),
    ),
    loss(
        "entry-not-shown-yet-taken-for-absent",
        _STANDING,
        "return now < sent_at + self.visibility",
        "return now < sent_at",
        integration("publication", "test_f09_an_entry_not_shown_yet_is_not_sent_again"),
    ),
    loss(
        "attempted-version-forgotten",
        _STANDING,
        "if version.job_id in sent\n",
        "if not version\n",
        integration("publication", "test_i06_a_version_that_may_have_landed_is_replaced_never_doubled"),
    ),
    loss(
        "entry-missing-once-taken-for-gone",
        _STANDING,
        "    if job.tries <= MISSING_TRIES_MAX:\n",
        "    return None\n    if job.tries <= MISSING_TRIES_MAX:\n",
        integration("publication", "test_i06_an_entry_missing_from_one_answer_makes_no_second_original"),
    ),
    loss(
        "unique-id-made-at-random",
        _MANIFEST,
        'return Uid(f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}")',
        'return Uid(f"2.25.{uuid.uuid4().int}")',
        unit(
            "manifest",
            "test_ff17_sixteen_threads_build_sixteen_manifests",
            "test_ff17_derived_uids_are_valid_and_unique",
        ),
    ),
    identity(
        "opposition-ended-by-an-unsure-identity",
        _CONSENT,
        'if ins is None or ins.status != "VALI" or not check_key(ins.matricule):',
        "if ins is None:",
        integration("messages", "test_ff19_an_identity_that_is_not_sure_never_ends_an_opposition"),
    ),
    identity(
        "order-of-another-person-cancelled",
        _ORDERS,
        " for row in rows if self._is_of(tx, tenant, row, patient)]",
        " for row in rows]",
        integration("messages", "test_ff19_two_people_known_by_a_local_number_alone_keep_their_orders_apart"),
    ),
    identity(
        "trial-of-a-real-patient",
        _TRIAL,
        "if not self._plan.rules.domain and (authority is None or authority.production):",
        "if authority is None:",
        integration("trial", "test_a_real_patient_is_refused_as_a_trial_patient"),
    ),
    identity(
        "trial-source-answers-for-a-real-exam",
        _TRIAL,
        (
            'FROM trial WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study\n'
            "    )\n"
            "    return str("
        ),
        (
            'FROM trial WHERE tenant = :tenant OR study_uid = :study", tenant=tenant, study=study\n'
            "    )\n"
            "    return str("
        ),
        integration("trial", "test_the_trial_source_answers_for_no_other_study"),
    ),
    identity(
        "release-of-what-was-not-shown",
        _RELEASE,
        'not hmac.compare_digest(shown.seen.encode(), seen.encode(errors="replace"))',
        "not seen",
        integration(
            "release",
            "test_a_held_report_stated_otherwise_meanwhile_refuses_the_release",
            "test_a_pacs_that_changed_since_it_was_shown_refuses_the_release",
        ),
    ),
    identity(
        "unreleasable-exam-released",
        _RELEASE,
        "    if not shown.releasable:\n",
        "    if not shown:\n",
        integration("release", "test_ff19_an_unqualified_or_inconsistent_ins_is_never_released"),
    ),
    identity(
        "inconsistent-published-traits-released",
        _RELEASE,
        "if any(_is_inconsistent(doubt.held, rules) for doubt in case.doubts):",
        "if not case.doubts:",
        integration("release", "test_a_published_sex_that_contradicts_the_matricule_is_never_released"),
    ),
    access(
        "opposed-patient-released",
        _RELEASE,
        "if any(doubt.verdict.is_opposed for doubt in case.doubts):",
        "if not case.doubts and case.pacs:",
        integration("release", "test_a_person_who_opposes_is_not_released"),
    ),
    access(
        "reason-may-quote-the-patient",
        _RELEASE,
        "if any(_quotes(text, source) for source in sources):",
        "if not text:",
        integration("release", "test_a_reason_says_enough_and_never_who_the_patient_is"),
    ),
    identity(
        "release-of-an-earlier-hold",
        _RELEASE,
        "hold = [case.job.job_id, case.job.epoch]",
        "hold: list[int] = []",
        integration("release", "test_what_was_shown_once_does_not_release_the_same_difference_when_it_comes_back"),
    ),
    access(
        "withdrawal-in-shadow-mode",
        _WITHDRAWAL,
        'if self._terms.mode == "shadow" and not known.is_trial:',
        "if not self._terms.mode:",
        integration("withdrawal", "test_in_shadow_mode_the_index_hears_nothing_of_a_withdrawal"),
    ),
    access(
        "mask-lost-by-a-silent-correction",
        _ADMISSION,
        "    if stated.changes_confidentiality:\n        return report",
        "    if stated:\n        return report",
        integration("report_chains", "test_a_mask_survives_corrections_that_do_not_say_they_change_it_in_any_order"),
    ),
    access(
        "mask-of-what-was-overtaken-forgotten",
        _ADMISSION,
        "        self._tighten_replacements(tx, by, content)\n        return verdict",
        "        return verdict",
        integration("report_chains", "test_a_mask_survives_corrections_that_do_not_say_they_change_it_in_any_order"),
    ),
)
