"""The MHD door: ours to an index, and the index node's own; who names the patient outside drim-m."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_GATE = "indexer/gate.py"
_ASSEMBLE = "indexer/assemble.py"
_ANSWERS = "indexer/mhd/answers.py"
_CLIENT = "indexer/mhd/client.py"
_MAPPING = "indexer/mhd/mapping.py"
_TRANSACTION = "indexer/mhd/transaction.py"
_SEARCH = "indexer/registry/fhir/search.py"
_DOOR = "indexer/registry/fhir/door.py"

DEFECTS = (
    identity(
        "register-identifier-of-the-pacs-not-compared",
        _GATE,
        "    ids = _naming_or_tied(report.patient, rules.domain) if rules.domain else report.patient.local_ids",
        "    ids = (LocalId(value=patient.patient_id, issuer=patient.issuer),)",
        integration("doors", "test_ff19_another_identifier_in_the_pacs_holds_the_exam"),
    ),
    identity(
        "a-missing-register-identifier-passes",
        _GATE,
        "        if not folded(left) or not folded(right):",
        "        if not folded(left) and not folded(right) and not domain:",
        integration("doors", "test_ff19_a_report_without_an_identifier_of_the_register_is_held"),
    ),
    identity(
        "an-ins-leaves-where-the-register-names",
        _ASSEMBLE,
        "    return PatientIdentity(traits=newest.traits, local_ids=(*dict.fromkeys(naming), *others))",
        "    return PatientIdentity(traits=newest.traits, ins=newest.ins, local_ids=(*dict.fromkeys(naming), *others))",
        integration("doors", "test_outside_drim_m_the_register_s_identifier_names_the_patient_and_no_ins_leaves"),
    ),
    identity(
        "a-patient-without-an-oid-is-guessed",
        "indexer/mhd/values.py",
        "    if not value or not system.startswith(fhir.URN_OID) or not fhir.is_oid(system.removeprefix(fhir.URN_OID)):",
        "    if not value:",
        unit("mhd_mapping", "test_a_bundle_that_breaks_a_rule_is_told_which_and_shows_no_value"),
    ),
    access(
        "a-search-without-patient-lists-the-index",
        _SEARCH,
        "    if not (patient or key or identifiers):",
        "    if False:",
        integration("registry_fhir", "test_a_search_that_would_ignore_or_list_too_much_is_refused"),
    ),
    access(
        "a-withdrawn-document-is-given-out",
        _DOOR,
        "return found, holdings.document(chart, found.unique_id) if found.status in v.SHOWN_STATUSES else None",
        "return found, holdings.document(chart, found.unique_id)",
        integration("registry_fhir", "test_what_was_withdrawn_is_gone_by_both_doors"),
    ),
    access(
        "a-url-elsewhere-is-dialled",
        _CLIENT,
        "        if not is_within(url, self._base):",
        "        if not url:",
        integration("doors", "test_t26_a_redirect_is_not_followed_and_a_url_elsewhere_is_not_dialled"),
    ),
    loss(
        "a-partial-answer-is-an-absence",
        _ANSWERS,
        '    if "next" in links or (isinstance(total, int) and total > len(listed)):',
        "    if False:",
        unit("mhd_answers", "test_ff54_nothing_else_is_an_absence"),
    ),
    loss(
        "fewer-answers-than-entries-are-a-success",
        _ANSWERS,
        "len(responses) < entries or failed or errors:",
        "failed or errors:",
        unit("mhd_answers", "test_an_answer_to_iti65_has_one_meaning"),
    ),
    loss(
        "half-a-replacement-is-taken",
        _TRANSACTION,
        "    if superseded != replaced:",
        "    if superseded and replaced and superseded != replaced:",
        unit("mhd_mapping", "test_half_a_replacement_is_refused"),
    ),
    loss(
        "a-new-document-is-born-withdrawn",
        _MAPPING,
        "    if not entry.status:\n        return mhd.CURRENT",
        "    if not entry.status:\n        return mhd.IN_ERROR",
        unit("mhd_mapping", "test_the_elements_of_a_document_reference_are_those_of_mhd"),
    ),
    loss(
        "a-page-begins-at-a-number",
        _SEARCH,
        "    rest = [one for one in ordered if _place(one) > search.after]",
        '    rest = ordered[1:] if search.after > (-1, "") else ordered',
        integration("registry_fhir", "test_a_list_is_paged_without_a_loss_and_no_link_names_the_patient"),
    ),
)
