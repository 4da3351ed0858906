"""Our own index node."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_ROWS = "indexer/registry/rows.py"
_VALIDATE = "indexer/registry/validate.py"
_NODE = "indexer/registry/node.py"
_LOOKUP = "indexer/registry/lookup.py"
_APP = "indexer/registry/app.py"
_UPDATE = "indexer/registry/update.py"

DEFECTS = (
    identity(
        "patient-key-left-out-of-a-query",
        _ROWS,
        '" WHERE tenant = :tenant AND patient_key = :patient_key AND kind = :kind"',
        '" WHERE tenant = :tenant AND kind = :kind"',
        integration("registry", "test_two_patients_are_never_mixed"),
    ),
    identity(
        "patient-key-left-out-of-a-statement",
        _ROWS,
        '" WHERE tenant = :tenant AND patient_key = :patient_key AND entry_uuid = :id AND status = :approved"',
        '" WHERE tenant = :tenant AND entry_uuid = :id AND status = :approved"',
        unit(
            "registry_rows",
            "test_a_statement_touches_one_table_and_carries_the_patient_key_unless_it_asks_the_locator",
        ),
    ),
    identity(
        "document-of-another-patient-replaced",
        _VALIDATE,
        "    if target.patient_key != patient_key:",
        "    if not target.patient_key:",
        unit("registry_validate", "test_ff22_a_replacement_needs_an_approved_document_of_the_same_patient_and_type"),
    ),
    identity(
        "several-patients-in-one-submission",
        _VALIDATE,
        "if len(patients) > 1:",
        "if not patients:",
        unit("registry_validate", "test_a_submission_that_breaks_one_rule_is_told_which"),
    ),
    loss(
        "hash-not-compared",
        _VALIDATE,
        "if stated_hash and stated_hash.lower() != sha1(content):",
        "if stated_hash and not content:",
        unit("registry_validate", "test_documents_that_do_not_fit_are_named"),
    ),
    loss(
        "size-not-compared",
        _VALIDATE,
        "if _SIZE.fullmatch(stated_size) and int(stated_size) != len(content):",
        "if _SIZE.fullmatch(stated_size) and not content:",
        unit("registry_validate", "test_documents_that_do_not_fit_are_named"),
    ),
    loss(
        "deprecated-document-replaced-again",
        _VALIDATE,
        "if association.type in _ABOUT_HELD and target.status != v.STATUS_APPROVED:",
        "if association.type in _ABOUT_HELD and not target.status:",
        unit("registry_validate", "test_ff22_a_replacement_needs_an_approved_document_of_the_same_patient_and_type"),
    ),
    loss(
        "unique-id-with-other-bytes-accepted",
        _VALIDATE,
        "    if entry.unique_id not in held.taken:\n        return",
        "    if entry.unique_id:\n        return",
        unit("registry_validate", "test_ff21_a_unique_id_in_use_is_refused_by_what_differs"),
    ),
    loss(
        "replaced-document-stays-approved",
        _NODE,
        "if association.type in {v.RPLC, v.XFRM_RPLC}:",
        "if association.type == v.XFRM_RPLC:",
        integration("registry", "test_ff22_a_replacement_deprecates_its_target_in_the_same_moment"),
    ),
    access(
        "registration-not-audited",
        _NODE,
        "        audit.append(\n            tx,",
        "        (lambda *_: None)(\n            tx,",
        integration("registry", "test_each_change_has_its_audit_row_in_the_same_transaction"),
    ),
    access(
        "withdrawn-document-given-out",
        _NODE,
        ' or entry["status"] not in v.SHOWN_STATUSES:',
        " or False:",
        integration("registry_update", "test_what_was_withdrawn_is_not_shown_nor_given_out"),
    ),
    loss(
        "shortened-list-for-an-answer",
        _LOOKUP,
        "if sum(1 for _ in found) > self.most:",
        "if not self.most:",
        integration("registry", "test_more_than_an_answer_may_hold_is_an_error_never_a_shortened_list"),
    ),
    access(
        "index-node-on-an-open-address",
        _APP,
        "    if not _is_loopback(host) and (tls is None or tls.verify_mode is not ssl.CERT_REQUIRED):",
        "    if not host:",
        integration("registry", "test_the_node_listens_on_loopback_only"),
    ),
    access(
        "document-of-another-source-withdrawn",
        _UPDATE,
        "elif not is_theirs:",
        "elif False:",
        integration("registry_update", "test_somebody_else_s_document_is_not_withdrawn"),
    ),
    identity(
        "document-of-another-patient-withdrawn",
        _UPDATE,
        "elif target.patient_key != whose:",
        "elif not target.patient_key:",
        integration("registry_update", "test_a_document_is_not_withdrawn_in_the_name_of_another_patient"),
    ),
)
