"""What a PACS may answer and what follows its images."""

from __future__ import annotations

from tests.mutants.defects.defect import identity, integration, loss, unit

_DOOR = "gateway/pacs/door.py"
_ORTHANC = "gateway/pacs/orthanc.py"
_SOURCE = "gateway/pacs/source.py"
_DIMSE = "gateway/pacs/dimse.py"
_CHANGES = "gateway/pacs/changes.py"
_DICOMWEB = "gateway/pacs/dicomweb.py"

DEFECTS = (
    identity(
        "answer-about-another-study-accepted",
        _DOOR,
        'if answered and answered.strip("\\0 ") != asked:',
        "if not asked:",
        integration(
            "pacs_faults",
            "test_ff12_a_pacs_that_ignores_the_study_key_is_unknown",
            "test_ff12_a_pacs_that_ignores_the_key_does_not_make_an_absent_study_present",
        ),
    ),
    identity(
        "damaged-name-accepted-as-identity",
        _DOOR,
        'if not exact or "\\ufffd" in value or not value.isprintable():',
        "if not value.isprintable():",
        unit("pacs_door", "test_ff10_a_harmed_name_is_no_identity"),
    ),
    loss(
        "list-of-another-day-accepted",
        _DOOR,
        'if study_date != f"{asked:%Y%m%d}":',
        "if not study_date:",
        integration("dicomweb", "test_ff12_a_day_list_of_another_day_is_unknown"),
    ),
    identity(
        "first-of-two-patients-of-one-study-taken",
        _ORTHANC,
        "if len(found) > 1:",
        "if not found[0]:",
        integration("pacs_faults", "test_one_study_uid_under_two_patients_is_ambiguous"),
    ),
    loss(
        "orthanc-not-asked-whether-it-lives",
        _ORTHANC,
        "        version = orthanc.version()",
        '        version = "1.0"',
        integration("pacs_faults", "test_ff54_a_web_server_that_answers_anything_else_is_unknown"),
    ),
    loss(
        "orthanc-server-error-taken-for-absence",
        _SOURCE,
        "            return none.answer()",
        (
            '            return __import__("indexer.study").study.Absent(evidence="") if '
            'none.reason.startswith("http-5") else none.answer()'
        ),
        integration("pacs_faults", "test_ff54_a_web_server_that_answers_anything_else_is_unknown"),
    ),
    loss(
        "dimse-abort-taken-for-absence",
        _SOURCE,
        "            return none.answer()",
        (
            '            return __import__("indexer.study").study.Absent(evidence="") if none.reason == '
            '"aborted" else none.answer()'
        ),
        integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    loss(
        "silence-of-a-pacs-taken-for-absence",
        _SOURCE,
        "            return Unknown(reason=fault.code, detail=fault.args[0])",
        '            return __import__("indexer.study").study.Absent(evidence="")',
        integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    loss(
        "dimse-failure-status-taken-for-the-end",
        _DIMSE,
        "                raise _broken_off(code, level)",
        (
            "                if code is None:\n"
            "                    raise _broken_off(code, level)\n"
            "                return found"
        ),
        integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    loss(
        "control-study-not-required",
        _DIMSE,
        'if [row["StudyInstanceUID"].value for row in known] != [control]:',
        "if known is None:",
        integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    loss(
        "row-of-a-quick-pacs-dropped",
        _DIMSE,
        "return super().get_msg(block) if block else (None, None)",
        "return super().get_msg(block)",
        integration("pacs_faults", "test_ff12_no_row_of_a_quick_pacs_is_taken_by_the_associations_own_thread"),
    ),
    loss(
        "another-log-taken-for-an-empty-page",
        _CHANGES,
        "return None if page.last < cursor.seq else ()",
        "return ()",
        integration("pacs_changes", "test_a_page_is_what_follows_the_cursor_or_another_log"),
    ),
    loss(
        "cursor-moved-before-its-effect",
        _CHANGES,
        "        begun = await self._store.write(work)\n",
        (
            "        await self._store.write(lambda tx: self._move(tx, after))\n"
            "        begun = await self._store.write(work)\n"
        ),
        integration("pacs_changes", "test_f01_the_cursor_and_what_it_led_to_commit_together_or_not_at_all"),
    ),
    loss(
        "pages-read-once",
        _DICOMWEB,
        "if pages > 1 and self._pages(path, listed=listed)[0] != rows:",
        "if pages < 0:",
        integration("dicomweb", "test_ff12_a_row_that_moves_between_two_pages_is_never_left_out"),
    ),
    loss(
        "control-study-answered-twice-accepted",
        _DICOMWEB,
        "if len(self.study(self._peer.control)) != 1:",
        "if self.study(self._peer.control) is None:",
        integration("dicomweb", "test_ff54_a_control_study_that_is_answered_twice_does_not_prove_the_database_whole"),
    ),
    identity(
        "study-of-a-web-search-not-compared",
        _DICOMWEB,
        'door.same_study(door.uid(_text(row, "StudyInstanceUID"), keyword="StudyInstanceUID"), study)',
        'door.uid(_text(row, "StudyInstanceUID"), keyword="StudyInstanceUID")',
        integration("dicomweb", "test_ff12_another_study_than_the_one_asked_for_is_unknown"),
    ),
)
