"""XDM archives: what is read from them, and what they may change here."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_READING = "indexer/xdm/reading.py"
_IMPORTING = "indexer/xdm/importing.py"
_LAYOUT = "indexer/xdm/layout.py"
_ZIP = "security/parse/zip.py"
_ADMISSION = "indexer/admission.py"
_LEDGER = "indexer/ledger.py"
_HOSTILE = unit("zip_parse", "test_t07_t08_a_hostile_archive_is_refused_by_its_rule")

_REVISED = integration("xdm", "test_an_archive_hides_an_exam_from_whom_the_index_hides_it_now")

DEFECTS = (
    access(
        "archive-shows-what-the-index-hides",
        "indexer/xdm/export.py",
        "hidden=one.hidden if is_manifest else None",
        "hidden=None",
        _REVISED,
    ),
    loss(
        "revised-content-forgotten-by-an-import",
        _IMPORTING,
        "if one.revised_hash and _is_proven(tenant, number, one):",
        'if one.revised_hash == "?":',
        _REVISED,
    ),
    loss(
        "archived-document-hash-not-checked",
        _READING,
        "not hmac.compare_digest(stated.encode(), digest.encode()) or",
        "",
        integration("xdm", "test_a_set_whose_document_was_changed_is_refused_and_its_neighbours_are_not"),
    ),
    identity(
        "archived-link-taken-from-another-patient",
        _IMPORTING,
        "return study in held.stated.report.studies and _is_one_patient(held.stated, stated)",
        "return True",
        integration("xdm", "test_a_report_of_another_patient_is_never_tied_to_an_exam_on_an_archives_word"),
    ),
    identity(
        "archived-patients-not-compared",
        _READING,
        "    ins = next(differing, nationals[0] if nationals else None)",
        "    ins = next((one for one in nationals if (one.matricule, one.oid) == known), next(differing, None))",
        integration("xdm", "test_an_archive_that_names_two_patients_holds_the_exam"),
    ),
    identity(
        "report-of-another-person-confirms-a-link",
        _LEDGER,
        "is_itself = held.report_id == itself and not held.link",
        "is_itself = held.report_id == itself",
        integration("xdm", "test_a_report_under_an_archived_number_about_another_person_holds_the_exam"),
    ),
    loss(
        "withdrawn-exam-imported-as-published",
        _IMPORTING,
        "    if found.is_withdrawn:\n        reason = WITHDRAWN_ELSEWHERE",
        "    if False:\n        reason = WITHDRAWN_ELSEWHERE",
        integration("xdm", "test_what_was_withdrawn_before_the_export_stays_withdrawn_though_its_report_comes_again"),
    ),
    loss(
        "import-believes-the-index-unchanged",
        _IMPORTING,
        "    if marks:\n",
        "    if False:\n",
        integration("xdm", "test_what_the_other_box_published_after_its_export_is_adopted_not_doubled"),
    ),
    access(
        "masks-of-an-unnamed-report-forgotten",
        _ADMISSION,
        'if held.link == "unnamed" and held.status == "valid":',
        "if False:",
        integration("xdm", "test_an_exam_whose_archive_names_no_report_stays_until_one_comes"),
    ),
    access("zip-traversal-allowed", _ZIP, "or not all(_PART.fullmatch(part) for part in parts)", "", _HOSTILE),
    access(
        "uri-leads-out-of-its-set",
        _LAYOUT,
        'not in ([], [own], ["."], [".", own])',
        "is None",
        unit("xdm", "test_t07_a_uri_that_leads_out_of_its_set_is_refused"),
    ),
    access(
        "zip-overlap-allowed",
        _ZIP,
        "if gap and not (described and gap in _DESCRIPTORS):\n                raise",
        "if False:\n                raise",
        _HOSTILE,
    ),
    access(
        "zip-bomb-inflated",
        _ZIP,
        "if size > limits.entry or (size > limits.free and size > limits.ratio * packed):",
        "if False:",
        unit("zip_parse", "test_t08_a_bomb_is_refused_by_what_it_states_before_a_byte_is_inflated"),
    ),
)
