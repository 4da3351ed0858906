"""What is said to the national index and what its answers mean."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_METADATA = "indexer/xds/metadata.py"
_ANSWERS = "indexer/xds/answers.py"
_WIRE = "indexer/wire.py"
_SOAP = "indexer/xds/soap.py"

DEFECTS = (
    identity(
        "unqualified-ins-written-into-the-metadata",
        _METADATA,
        'if ins is not None and ins.status == "VALI":',
        "if ins is not None:",
        unit("metadata", "test_an_identity_that_is_not_qualified_is_never_published"),
    ),
    identity(
        "delimiter-in-a-name-not-escaped",
        "indexer/xds/ebrim.py",
        "return text.translate(_HL7_ESCAPES)",
        "return text",
        unit("metadata", "test_delimiters_in_a_name_cannot_move_it_to_another_component"),
    ),
    access(
        "visibility-left-out-of-the-metadata",
        _METADATA,
        "    if visibility.invisible_to_patient:",
        "    if False:",
        unit("metadata", "test_visibility_flags_become_confidentiality_codes_beside_the_general_one"),
    ),
    loss(
        "replacement-of-the-older-version-dropped",
        _METADATA,
        "if edition.replaces is not None:",
        "if False:",
        unit("metadata", "test_a_later_version_replaces_the_approved_entry"),
    ),
    loss(
        "success-with-errors-inside-believed",
        _ANSWERS,
        "if status != xds.RESPONSE_SUCCESS or errors or not 200 <= reply.http_status < 300:",
        "if status != xds.RESPONSE_SUCCESS:",
        unit("answers", "test_f10_each_hostile_answer_gets_its_class_and_none_is_accepted"),
    ),
    loss(
        "answer-to-another-request-believed",
        _ANSWERS,
        "if envelope.relates_to != reply.message_id:",
        "if not envelope.message_id:",
        unit("answers", "test_f10_each_hostile_answer_gets_its_class_and_none_is_accepted"),
    ),
    loss(
        "failed-query-taken-for-absence",
        _ANSWERS,
        '        return EntryUnknown(\n            reason="+".join(errors) or "query-failed",',
        ('        return EntryAbsent() or EntryUnknown(\n            reason="+".join(errors) or "query-failed",'),
        unit(
            "answers",
            "test_f10_no_hostile_answer_says_anything_about_an_entry",
            "test_anything_else_is_no_conclusion",
        ),
    ),
    loss(
        "entry-changed-meanwhile-taken-for-a-refusal",
        _ANSWERS,
        "if isinstance(answer, Rejected) and not xds.CHANGED_MEANWHILE_CODES.isdisjoint(answer.codes):",
        "if answer is None:",
        unit("status_change", "test_i09_an_entry_that_is_no_longer_as_we_saw_it_is_asked_for_before_anything_else"),
    ),
    loss(
        "lost-connection-taken-for-not-sent",
        _WIRE,
        "    if sent:\n",
        "    if sent and late:\n",
        integration(
            "xds_client", "test_f07_a_reset_after_the_request_was_read_is_ambiguous_and_nothing_is_sent_again"
        ),
    ),
    access(
        "redirect-followed",
        _WIRE,
        "allow_redirects=False,",
        "allow_redirects=True,",
        integration("xds_client", "test_t26_a_redirect_is_not_followed"),
    ),
    access(
        "index-reached-in-clear",
        _WIRE,
        'if parts.scheme == "http" and _is_loopback(parts.hostname or ""):',
        'if parts.scheme == "http":',
        integration("xds_client", "test_an_address_without_mutual_tls_is_refused_at_configuration"),
    ),
    access(
        "attachment-included-twice",
        _SOAP,
        "if cid in used:",
        "if not cid:",
        unit("soap", "test_t22_every_attachment_is_included_exactly_once"),
    ),
    access(
        "answer-sent-elsewhere",
        _SOAP,
        'if text(header.find(_WSA + "Address")) != WSA_ANONYMOUS:',
        'if not text(header.find(_WSA + "Address")):',
        unit("soap", "test_t26_an_answer_is_never_sent_elsewhere"),
    ),
)
