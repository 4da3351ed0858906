"""The way in for messages."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_READING = "gateway/hl7/reading.py"
_MLLP = "gateway/hl7/mllp.py"
_INTAKE = "gateway/hl7/intake.py"
_INBOX = "gateway/hl7/inbox.py"
_HANDLERS = "gateway/hl7/handlers.py"
_REPORT_MESSAGE = "gateway/hl7/report_message.py"

DEFECTS = (
    identity(
        "best-of-several-ins-statuses-counts",
        _READING,
        'status = next((status for status in statuses if status != "VALI"), "VALI" if statuses else "")',
        'status = "VALI" if "VALI" in statuses else next(iter(statuses), "")',
        unit("report_message", "test_of_several_ins_statuses_the_worst_counts"),
    ),
    identity(
        "two-messages-mix-in-one-frame",
        _MLLP,
        "if self._buffer.find(_START, self._searched, size) >= 0:",
        "if self._buffer.find(_START, self._searched, size) == 0:",
        unit("mllp_framer", "test_ff11_a_frame_that_starts_inside_another_never_mixes_two_messages"),
    ),
    loss(
        "acknowledged-before-the-commit",
        _INTAKE,
        "            answered = await self._store.write(lambda tx: self._take(tx, arrived, stated))\n",
        (
            '            ack = build_ack(message, AckCode.ACCEPT, control_id="0", at=arrived.at, problems=())\n'
            '            answered = Answered(code="AA", reason="", ack=ack)\n'
            '            __import__("asyncio").ensure_future(self._store.write(lambda tx: self._take(tx, '
            "arrived, stated)))\n"
        ),
        integration(
            "publication",
            "test_i01_what_is_acknowledged_can_be_read_back_by_another_connection",
            "test_i02_message_report_and_job_commit_together_or_not_at_all",
        ),
    ),
    loss(
        "message-stored-apart-from-its-job",
        _INTAKE,
        "            answered = await self._store.write(lambda tx: self._take(tx, arrived, stated))\n",
        (
            "            await self._store.write(lambda tx: self._inbox.answer(tx, arrived, "
            "Outcome(code=AckCode.ACCEPT)))\n"
            "            answered = await self._store.write(lambda tx: self._take(tx, arrived, stated))\n"
        ),
        integration("publication", "test_i02_message_report_and_job_commit_together_or_not_at_all"),
    ),
    loss(
        "acknowledged-on-a-full-disk",
        _INTAKE,
        "if not self._room():",
        "if False and not self._room():",
        integration("disk", "test_ff45_f04_a_full_disk_stops_the_intake_alone_and_recovers_by_itself"),
    ),
    loss(
        "same-message-processed-twice",
        _INBOX,
        'return Answered(code=row["ack_code"], reason=row["reason"], ack=row["ack"]) if row else None',
        "return None",
        integration("publication", "test_the_same_message_again_gets_the_first_answer_and_changes_nothing"),
    ),
    access(
        "message-kept-in-clear",
        _INBOX,
        'content=self._vault.seal(self._tenant, f"hl7_message.content/{key}", message.raw),',
        "content=message.raw,",
        integration("publication", "test_t65_the_gateways_database_holds_no_patient_in_clear"),
    ),
    access(
        "received-message-not-audited",
        _INBOX,
        "        audit.append(\n            tx,",
        "        (lambda *_: None)(\n            tx,",
        integration("publication", "test_i01_what_is_acknowledged_can_be_read_back_by_another_connection"),
    ),
    identity(
        "control-id-of-another-message-accepted",
        _HANDLERS,
        "if not is_repeat and self._inbox.is_control_id_in_use(tx, received):",
        "if not received.control_id:",
        integration("publication", "test_a_control_id_used_for_another_message_is_refused"),
    ),
    identity(
        "document-id-with-other-content-accepted",
        "gateway/hl7/handlers.py",
        'if known.held and (not known.is_repeat or known.held.status == "withdrawn"):',
        'if known.held and known.held.status == "withdrawn":',
        integration("publication", "test_a_document_id_with_other_content_is_refused_as_a_wrong_version"),
    ),
    access(
        "withdrawal-taken-for-a-publication",
        _HANDLERS,
        'if stated.order_control == "CA" or stated.result_status == "D":',
        "if not stated.order_control:",
        integration("publication", "test_a_withdrawal_is_never_taken_for_a_publication"),
    ),
    access(
        "conflicting-values-answered-to-the-sender",
        _HANDLERS,
        'text=f"{conflict.code}: {conflict.summary()}"',
        'text=f"{conflict.code}: {conflict.left} {conflict.right}"',
        integration("publication", "test_ff19_a_disagreement_before_the_ack_is_stored_held_and_answered_ae"),
    ),
    loss(
        "two-reports-replace-each-other",
        _HANDLERS,
        "if self._admission.is_circular(tx, stated.report):",
        "if stated is None:",
        integration("report_chains", "test_two_reports_that_say_they_replace_each_other_do_not_both_disappear"),
    ),
    access(
        "unreadable-visibility-flag-ignored",
        _REPORT_MESSAGE,
        'self.add(obx, 5, "unknown-value", f"Flag {code}: expected Y or N")',
        "pass",
        unit("report_message", "test_each_fault_of_the_envelope_is_named_with_its_place"),
    ),
    access(
        "withdrawal-by-mdm-taken-for-a-publication",
        "gateway/hl7/handlers.py",
        'if stated.order_control == "CA" or stated.result_status == "D":',
        'if stated.order_control == "XX":',
        integration("messages", "test_a_withdrawal_of_what_was_never_taken_is_refused_and_kept"),
    ),
    identity(
        "mdm-names-another-document",
        _REPORT_MESSAGE,
        "if not _names(txa, 12, report.document_id):",
        "if not txa.text(12):",
        unit("report_message", "test_an_mdm_that_names_another_document_than_it_carries_is_refused"),
    ),
)
