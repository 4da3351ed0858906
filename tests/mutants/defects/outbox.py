"""The queue of what must reach the index."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_JOBS = "security/outbox/jobs.py"
_STATES = "security/outbox/states.py"
_ENGINE = "security/outbox/engine.py"

DEFECTS = (
    loss(
        "old-exams-take-every-slot",
        _JOBS,
        'is_old = row["job_class"] == JobClass.P3 and row["state"] in _BEGINNING',
        "is_old = False",
        integration("outbox", "test_old_exams_have_what_others_leave_and_wait_while_a_new_one_would_be_late"),
    ),
    loss(
        "withdrawals-wait-for-their-next-try",
        _ENGINE,
        "self._returned.add(endpoint)",
        "self._returned.discard(endpoint)",
        integration(
            "outage",
            "test_f05_six_hours_away_drain_as_foretold_withdrawals_first_and_warned_before_the_first_is_late",
        ),
    ),
    loss(
        "outage-not-foreseen",
        "security/outbox/forecast.py",
        "max(0.0, room_s - away.total_seconds())",
        "max(0.0, room_s)",
        integration(
            "outage",
            "test_f05_six_hours_away_drain_as_foretold_withdrawals_first_and_warned_before_the_first_is_late",
        ),
    ),
    loss(
        "retry-after-for-one-job-alone",
        "security/outbox/breaker.py",
        "if mode is Mode.OPEN or (self._quiet_until is not None and now < self._quiet_until):",
        "if mode is Mode.OPEN:",
        unit(
            "breaker",
            "test_ff24_a_peer_that_says_later_is_left_alone_by_everybody_and_carries_half_as_much_afterwards",
        ),
    ),
    loss(
        "stale-lease-believed",
        _JOBS,
        'sql = "SELECT * FROM outbox_job WHERE job_id = :job_id AND lease_epoch = :epoch"',
        'sql = "SELECT * FROM outbox_job WHERE job_id = :job_id AND lease_epoch >= :epoch"',
        integration("outbox_faults", "test_f08_the_same_answer_twice_counts_once"),
    ),
    loss(
        "lane-order-dropped",
        _JOBS,
        "AND ahead.lane = job.lane AND ahead.job_id < job.job_id",
        "AND ahead.lane = job.lane AND ahead.job_id < 0",
        integration("outbox", "test_i04_versions_of_one_study_reach_the_index_in_order_one_at_a_time"),
    ),
    loss(
        "dead-job-in-doubt-superseded",
        _JOBS,
        'or (row["state"] == State.DEAD and not row["in_doubt"])',
        'or row["state"] == State.DEAD',
        integration("outbox_faults", "test_i09_a_revived_poison_job_is_asked_about_before_it_is_sent_again"),
    ),
    loss(
        "revived-job-sent-again-unasked",
        _JOBS,
        'event = Event.REOPENED if row["in_doubt"] else Event.LIFTED',
        "event = Event.LIFTED",
        integration("outbox_faults", "test_i09_a_revived_poison_job_is_asked_about_before_it_is_sent_again"),
    ),
    loss(
        "lease-in-hand-swept",
        _JOBS,
        '        if row["job_id"] in held:',
        '        if row["job_id"] < 0:',
        integration("outbox_faults", "test_f11_a_clock_that_jumps_expires_no_lease_and_freezes_no_work"),
    ),
    access(
        "change-of-a-job-not-audited",
        _JOBS,
        '    if row["tenant"] == HOUSE and actor == ENGINE:\n        return\n    audit.append(\n',
        '    if row["tenant"] == HOUSE and actor == ENGINE:\n        return\n    (lambda *_: None)(\n',
        integration("outbox", "test_i16_every_change_of_state_has_its_audit_row_with_the_right_leaf"),
    ),
    identity(
        "overtaken-job-sent-all-the-same",
        _JOBS,
        "    return bool(newer)\n",
        "    return False\n",
        integration("publication", "test_i10_a_lost_send_is_not_repeated_over_a_later_opposition_or_conflict"),
    ),
    loss(
        "images-completed-during-the-question-forgotten",
        _JOBS,
        " AND lease_owner IS NULL AND not_before <= :now LIMIT 1",
        " AND not_before <= :now LIMIT 1",
        integration("pacs_changes", "test_ff13_images_completed_while_the_pacs_is_being_asked_are_asked_for_again"),
    ),
    access(
        "withdrawal-overrides-nothing",
        _JOBS,
        '        elif not job_class == JobClass.P0 < row["asked_class"]:\n            continue\n',
        "        else:\n            continue\n",
        integration(
            "withdrawal",
            "test_i10_a_withdrawal_overrides_what_was_not_sent_yet",
            "test_i10_a_withdrawal_passes_an_exam_that_is_held",
        ),
    ),
    access(
        "refused-job-sent-over-a-waiting-withdrawal",
        _JOBS,
        "(kind = :kind OR asked_class = 0 AND asked_class < :asked_class)",
        "(kind = :kind OR job_class < 0 AND job_class < :job_class)",
        integration("withdrawal", "test_i10_what_is_refused_while_a_withdrawal_waits_gives_way_to_it"),
    ),
    access(
        "work-begun-while-paused",
        _JOBS,
        "    stopped = {pause.tenant for pause in paused(tx)}\n",
        "    stopped: set[str] = set()\n",
        integration("pause", "test_ff46_nothing_of_a_paused_tenant_begins_and_all_of_it_does_after_the_resume"),
    ),
    access(
        "claimed-job-sent-after-the-pause",
        _JOBS,
        "if row and (is_overtaken or _is_paused(tx, job.tenant)):",
        "if row and is_overtaken:",
        integration("pause", "test_ff46_a_job_claimed_before_the_pause_is_given_back_unsent"),
    ),
    access(
        "job-overtaken-since-its-claim-sent",
        _JOBS,
        "is_overtaken = row is not None and _is_overtaken(tx, row)",
        "is_overtaken = False",
        integration("overtaken", "test_i10_a_job_overtaken_between_its_claim_and_its_sending_does_not_leave"),
    ),
    loss(
        "unknown-outcome-sent-again-unasked",
        _STATES,
        "(S.SENT, E.AMBIGUOUS): S.UNKNOWN,",
        "(S.SENT, E.AMBIGUOUS): S.RETRY_WAIT,",
        integration("outbox", "test_i09_an_unknown_job_is_not_sent_before_a_query_says_absent"),
    ),
    loss(
        "death-while-sending-taken-for-not-sent",
        _STATES,
        "(S.SENT, E.CRASHED): S.UNKNOWN,",
        "(S.SENT, E.CRASHED): S.READY,",
        integration("outbox_faults", "test_f20_a_job_that_kills_its_worker_is_dead_after_three_and_the_others_flow"),
    ),
    loss(
        "sent-job-superseded",
        _STATES,
        "UNSENT = frozenset({S.RECEIVING, S.SETTLING, S.READY, S.RETRY_WAIT, S.BLOCKED})",
        (
            "TABLE[S.UNKNOWN, E.REPLACED] = S.SUPERSEDED\n"
            "UNSENT = frozenset({S.RECEIVING, S.SETTLING, S.READY, S.RETRY_WAIT, S.BLOCKED, S.UNKNOWN})"
        ),
        integration("outbox", "test_a_job_whose_bytes_may_have_left_is_never_superseded"),
    ),
    loss(
        "defect-while-sending-taken-for-not-sent",
        _ENGINE,
        "    State.SENT: Event.AMBIGUOUS,\n",
        "    State.SENT: Event.TRANSIENT,\n",
        integration("outbox_faults", "test_a_defect_while_sending_is_an_unknown_outcome"),
    ),
    loss(
        "effects-outside-the-transaction",
        _ENGINE,
        "return await self._persist(lambda tx: jobs.apply(tx, job, answer, now=now, not_before=due, busy_s=busy_s))",
        (
            "bare = Answer(event=answer.event, reason=answer.reason, detail=answer.detail)\n"
            "        state = await self._persist(lambda tx: jobs.apply(tx, job, bare, now=now, not_before=due))\n"
            "        if state is not None and answer.effects is not None:\n"
            "            await self._persist(answer.effects)\n"
            "        return state"
        ),
        integration("outbox", "test_i07_published_and_what_it_implies_commit_together_or_not_at_all"),
    ),
    loss(
        "open-breaker-burns-attempts",
        _ENGINE,
        "permits = {endpoint: breaker.permits(seconds) for endpoint, breaker in self.breakers.items()}",
        "permits = dict.fromkeys(self.breakers, max(limit, int(seconds > 0)))",
        integration("outbox_faults", "test_f05_six_hours_without_an_index_burn_few_attempts_and_lose_nothing"),
    ),
    loss(
        "outcome-forgotten-on-a-full-disk",
        _ENGINE,
        "                await asyncio.sleep(self._settings.idle_s)",
        "                raise",
        integration("outbox_faults", "test_f04_a_full_disk_stops_the_work_and_nothing_is_forgotten"),
    ),
    loss(
        "hanging-sources-take-every-slot",
        _ENGINE,
        "max(1, self._settings.slots // (2 * max(1, len(set(self._endpoints.values())))))",
        "self._settings.slots",
        integration("outbox_faults", "test_i15_a_kind_whose_sources_hang_leaves_room_for_the_sends"),
    ),
)
