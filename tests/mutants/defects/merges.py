"""Whose exam it is where a register's own identifier names the patient: merges, their undo, corrections."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_PERSONS = "indexer/persons.py"
_ADMISSION = "indexer/admission.py"
_PUBLICATION = "indexer/publication.py"
_LOCAL = "local_identity"
_MOVES = integration(_LOCAL, "test_ff28_a_merge_moves_the_exam_to_the_surviving_number_and_touches_nobody_else")
_INTO_ANOTHER = integration(_LOCAL, "test_ff28_a_merge_into_another_person_holds_the_moved_exam_and_leaves_theirs")
_UNDONE = integration(_LOCAL, "test_ff28_an_undone_merge_leaves_the_index_first_whatever_the_pacs_still_says")

DEFECTS = (
    access(
        "a-correction-out-of-doubt-replaces-nothing",
        _ADMISSION,
        'if older is None or verdict.is_in_doubt or older[0].status not in {"valid", "held"}:',
        "if older is None or report.replaces:",
        integration(
            "lifecycle",
            "test_ff28_a_correction_that_came_while_its_patient_was_in_doubt_replaces_once_the_doubt_is_over",
        ),
    ),
    identity(
        "merged-number-still-names",
        _PERSONS,
        "naming = tuple(dict.fromkeys(person.survivor(local) for local in patient.local_ids))",
        "naming = patient.local_ids",
        _MOVES,
    ),
    identity(
        "whoever-has-the-number-is-renamed",
        _PERSONS,
        "    if not is_recognisable(patient, stated):\n        return moved\n",
        "",
        _INTO_ANOTHER,
    ),
    identity(
        "half-a-name-is-recognised",
        _PERSONS,
        "return is_named or is_born",
        "return True",
        unit("persons", "test_who_shares_neither_name_nor_birth_is_another_person_under_the_same_number"),
    ),
    identity(
        "two-ins-under-one-number-are-one-person",
        _PERSONS,
        "return len(ours) == 1 and ours == theirs and not is_parted",
        "return len(ours) == 1 and ours == theirs",
        unit("persons", "test_in_a_domain_two_ins_are_two_persons_whatever_the_number"),
    ),
    identity(
        "correction-of-nobody-counts",
        _PERSONS,
        "return len(set(in_domain(stated.patient, self._domain))) == 1",
        "return True",
        integration(_LOCAL, "test_a_correction_without_an_identifier_of_the_domain_corrects_nothing"),
    ),
    identity(
        "merged-into-a-number-of-another-register",
        _PERSONS,
        "(local for local in surviving if local.issuer == prior.issuer)",
        "(local for local in surviving if prior.issuer == '')",
        unit("persons", "test_a_merged_number_leads_to_the_survivor_s_number_of_the_same_register"),
    ),
    identity(
        "misplaced-entry-stays",
        "indexer/decision.py",
        "when=lambda f, _: f.is_misplaced and f.may_be_shown",
        "when=lambda f, _: False",
        _UNDONE,
    ),
    identity(
        "misplaced-entry-unseen",
        "indexer/knowledge.py",
        "if meant.isdisjoint(now.local_ids):",
        "if not meant:",
        _UNDONE,
    ),
    identity(
        "replaced-across-two-patients",
        _PUBLICATION,
        "return index if sent is None or is_of(sent.metadata, patient) else Index.ELSEWHERE",
        "return index",
        _MOVES,
    ),
    loss(
        "moved-exam-not-published-anew",
        _PUBLICATION,
        "if said.reason in MOVING:",
        "if not said.reason:",
        _MOVES,
    ),
    loss(
        "misplaced-exam-not-published-anew",
        _ADMISSION,
        "or not (stops or said.reason in MOVING):",
        "or not stops:",
        integration(_LOCAL, "test_ff28_the_undo_takes_the_exam_back_under_its_first_number"),
    ),
    identity(
        "merged-report-stays-a-witness",
        _ADMISSION,
        "for held in sorted(reports, key=lambda one: stays[one.report_id]):",
        "for held in sorted(reports, key=lambda one: not stays[one.report_id]):",
        _INTO_ANOTHER,
    ),
    identity(
        "merge-without-ins-believed-of-anybody",
        _ADMISSION,
        'if is_same or is_unsure else {"local-id"}',
        'if is_same else {"local-id"}',
        integration(_LOCAL, "test_ff28_a_merge_without_an_ins_into_somebody_else_holds_the_exam"),
    ),
    identity(
        "withdrawal-under-a-merged-number-refused",
        _ADMISSION,
        "(self.as_known(tx, one, None) for one in (held.stated, content))",
        "(held.stated, content)",
        integration(_LOCAL, "test_a_report_is_withdrawn_under_the_number_that_survived"),
    ),
    identity(
        "opposition-under-a-merged-number-forgotten",
        "indexer/consent.py",
        "*patient.tied",
        "*patient.tied[:0]",
        integration(_LOCAL, "test_i10_an_opposition_under_a_merged_number_holds_what_comes_under_the_survivor"),
    ),
)
