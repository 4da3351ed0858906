"""When an exam goes out: what says that its images are complete, and that nothing waits for ever."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, loss, unit

_TABLE = "indexer/completeness.py"
_WAITING = "indexer/waiting.py"
_SIGHTINGS = "indexer/sightings.py"
_HERE = "completeness"

DEFECTS = (
    loss(
        "completeness-ignored",
        _WAITING,
        "    if isinstance(found, Incomplete):\n",
        "    if isinstance(found, Incomplete) and not found.words:\n",
        integration(_HERE, "test_ff13_without_a_word_of_modality_or_archive_a_quiet_pacs_decides"),
    ),
    loss(
        "ceiling-ignored",
        _TABLE,
        "    if ends_at <= now:\n",
        "    if ends_at <= now and policy.ceiling == policy.idle:\n",
        unit(_HERE, "test_it_is_always_decided_by_the_ceiling"),
    ),
    loss(
        "running-step-ignored",
        _TABLE,
        'any(one.status == "IN PROGRESS" for one in e.said.steps)',
        'any(one.status == "IN PROGRESS" for one in e.said.steps[:0])',
        unit(_HERE, "test_nothing_goes_out_while_a_step_is_in_progress_before_the_ceiling"),
    ),
    loss(
        "due-time-in-memory-only",
        _SIGHTINGS,
        "same_since=min(since or now, now),",
        "same_since=now if since else now,",
        integration(_HERE, "test_ff13_looks_in_between_and_a_restart_move_no_due_time"),
    ),
    loss(
        "clock-turned-back-freezes-the-wait",
        _SIGHTINGS,
        "waits_since=min(self.waits_since or now, now),",
        "waits_since=self.waits_since or now,",
        integration(_HERE, "test_ff13_a_clock_that_jumps_loses_nothing_and_freezes_nothing"),
    ),
    loss(
        "each-late-batch-replaces",
        _TABLE,
        "e.stage is Stage.FIRST and _notices_are_there(e)",
        "_notices_are_there(e)",
        integration(_HERE, "test_ff15_late_batches_wait_for_a_quiet_pacs_and_replace_once"),
    ),
    access(
        "stricter-flag-waits-for-images",
        "indexer/manifest.py",
        "return len(others) == 1 and instances_of",
        "return len(others) > 0 and instances_of",
        integration(_HERE, "test_nothing_but_late_images_waits_for_images"),
    ),
)
