"""What keeps a patient out of answers, rows and the log (T34)."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, unit

_ACK = "gateway/hl7/ack.py"
_LEAKS = ("tests/acceptance/test_leaks.py::test_t34_twenty_marked_patients_show_nowhere_where_no_patient_may",)

DEFECTS = (
    access(
        "ack-echoes-what-stands-in-a-table-field",
        _ACK,
        'return text if form.fullmatch(text) else ""',
        "return text",
        unit("ack", "test_t34_where_a_table_is_echoed_words_are_not"),
    ),
    access(
        "ack-echoes-any-character-set",
        _ACK,
        "true_as_declared = charset and charset.upper() in CHARSETS and all(",
        "true_as_declared = charset and all(",
        unit("ack", "test_t34_where_a_table_is_echoed_words_are_not"),
    ),
    access(
        "line-that-is-no-http-quoted",
        "security/runner.py",
        "return super().handle_error(request, status, exc, said)",
        "return super().handle_error(request, status, exc, message)",
        integration("runner", "test_t34_a_line_that_is_no_http_is_refused_and_not_quoted"),
    ),
    access(
        "words-in-the-place-of-a-uid-kept-in-clear",
        "gateway/dimse/inbox.py",
        'return text if _UID.fullmatch(text) else ""',
        "return _shown(text)",
        integration("dimse_storage", "test_t34_words_in_the_place_of_a_uid_reach_no_row"),
    ),
    access(
        "log-says-the-words-of-a-foreign-error",
        "gateway/telemetry.py",
        """        if isinstance(cause, Fault):
            entry["message"] = str(cause)""",
        """        entry["message"] = str(cause)""",
        _LEAKS,
    ),
    access(
        "log-names-sender-and-message",
        "gateway/hl7/intake.py",
        'hint="poterne queue refused names sender and message",',
        "sender=arrived.sender,",
        _LEAKS,
    ),
    access(
        "page-of-a-failure-repeats-its-address",
        "gateway/web/shell.py",
        'at=at or f"{self.prefix}/",  # the address that failed may quote anything (T34)',
        "at=at,",
        _LEAKS,
    ),
    access(
        "search-quotes-the-name-of-a-parameter",
        "indexer/registry/fhir/search.py",
        'f"parameter {number} is not one of this search, or is repeated"',
        'f"parameter {name} is not one of this search, or is repeated"',
        _LEAKS,
    ),
)
