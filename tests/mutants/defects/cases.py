"""Cases of a peer audit: texts, pages and packages that leave the site."""

from __future__ import annotations

from tests.mutants.defects.defect import acceptance, access, unit

_NARRATIVE = "sampler/texts/narrative.py"
_CDA = "sampler/texts/cda.py"
_REDACTION = "sampler/pages/redaction.py"
_PROPOSAL = "sampler/pages/proposal.py"
_WORKER = "sampler/pages/worker.py"
_WORK = "sampler/case/work.py"
_PACKAGE = "sampler/case/package.py"

DEFECTS = (
    access(
        "known-name-stays-in-a-report",
        _NARRATIVE,
        "for start, end in self._identifiers.spans(folded):",
        "for start, end in ():",
        unit("narrative", "test_a_known_value_never_stays_whatever_stands_around_it"),
    ),
    access(
        "birth-date-moved-instead-of-gone",
        _NARRATIVE,
        "if day in self._births:",
        "if day in ():",
        unit("narrative", "test_what_names_somebody_is_replaced"),
    ),
    access(
        "report-not-searched-for-what-stayed",
        _CDA,
        "if any(identifiers.found_in(labels.left_out_of(text)) for text in texts):",
        "if any(identifiers.found_in(labels.left_out_of(text)) for text in ()):",
        unit("report_texts", "test_ff50_a_value_that_no_rule_removed_stops_the_case_without_being_told"),
    ),
    access(
        "persons-of-a-body-stay",
        _CDA,
        'if local in _GONE or source.get("representation") == "B64"',
        'if source.get("representation") == "B64"',
        unit("report_texts", "test_a_structured_body_keeps_findings_codes_and_measures"),
    ),
    access(
        "study-of-a-report-not-mapped",
        _CDA,
        'return {"root": self._pseudonyms.uid(root)}',
        'return {"root": root}',
        unit("report_texts", "test_the_header_keeps_what_the_report_is_about_and_nobody"),
    ),
    access(
        "uncovered-name-passes",
        _REDACTION,
        "if identifiers.found_in(_visible(page, boxes)):",
        "if identifiers.found_in(''):",
        unit("report_pages", "test_what_a_person_uncovers_is_refused_when_it_is_known"),
    ),
    access(
        "box-of-another-size-accepted",
        _REDACTION,
        "0 <= box.left < box.right <= page.width",
        "0 <= box.left < box.right",
        unit("report_pages", "test_ff50_a_box_of_another_page_or_size_is_refused"),
    ),
    access(
        "picture-on-a-page-not-proposed",
        _PROPOSAL,
        "for box in page.images:",
        "for box in ():",
        unit("report_pages", "test_pictures_are_proposed_and_a_page_without_text_is_covered_whole"),
    ),
    access(
        "note-in-the-margin-drawn",
        _WORKER,
        "draw_annots=False",
        "draw_annots=True",
        unit("report_pages", "test_a_note_in_the_margin_is_neither_read_nor_drawn"),
    ),
    access(
        "unseen-image-taken-for-seen",
        _WORK,
        "return bool(self.waits) and self.seen is None and not self.left_out",
        "return False",
        acceptance("case_preparation", "test_an_exam_becomes_a_case_step_by_step"),
    ),
    access(
        "package-of-a-case-that-waits",
        _PACKAGE,
        "if missing:",
        "if missing and False:",
        acceptance("case_preparation", "test_an_exam_becomes_a_case_step_by_step"),
    ),
)
