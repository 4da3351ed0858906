"""The audit feed and the reads of the index node: what makes a record sure to arrive, once it must, without a patient."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, loss, unit

DEFECTS = (
    loss(
        "feed-cursor-moved-before-the-repository-answered",
        "gateway/feeds/delivery.py",
        "        if answer.event is not Event.ACCEPTED:\n            return answer\n",
        "",
        integration("audit_feed", "test_ff43_a_batch_whose_fate_is_unknown_goes_again_and_the_next_one_waits"),
    ),
    loss(
        "feed-feeds-itself",
        "security/outbox/jobs.py",
        '    if row["tenant"] == HOUSE and actor == ENGINE:\n        return\n',
        "",
        integration("audit_feed", "test_ff43_a_feed_never_feeds_itself"),
    ),
    access(
        "words-of-persons-told",
        "security/audit/message.py",
        'record.detail if row.tells_words else ""',
        "record.detail",
        unit("audit_messages", "test_t34_what_a_person_wrote_reaches_no_message"),
    ),
    access(
        "answer-without-a-record",
        "indexer/registry/app.py",
        "            if envelope.action in _READS:",
        "            if not envelope.action:",
        integration("audited_reads", "test_a_read_that_cannot_be_recorded_is_not_answered"),
    ),
)
