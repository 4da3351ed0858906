"""What was said to the index: masked for everybody, in clear by right and on record, and nothing of it lost."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, loss, unit

_MASKING = "indexer/exchanges/masking.py"
_VOCABULARY = "indexer/exchanges/vocabulary.py"
_REVEAL = "indexer/exchanges/reveal.py"
_ROWS = "indexer/exchanges/rows.py"
_MARKED = integration("exchanges", "test_twenty_marked_patients_stand_in_nothing_that_is_masked_nor_in_the_log")
_PLACES = unit("masking", "test_no_place_of_an_xml_answer_lets_a_value_through")

DEFECTS = (
    access(
        "patient-slot-shown",
        _VOCABULARY,
        '    "sourcePatientInfo": "",',
        '    "sourcePatientInfo": "count",',
        unit("masking", "test_every_slot_that_speaks_of_people_is_masked_whatever_it_holds"),
    ),
    access(
        "text-of-an-element-shown",
        _MASKING,
        "made.text = element.text if _text(element) else MASKED",
        "made.text = element.text",
        _PLACES + _MARKED,
    ),
    access(
        "attribute-shown",
        _MASKING,
        "value if is_known and _attribute(element, key, value) else MASKED",
        "value if is_known else MASKED",
        _PLACES + _MARKED,
    ),
    access(
        "unknown-element-shown",
        _MASKING,
        '        return etree.Element("masked")',
        "        return etree.Element(element.tag)",
        _PLACES,
    ),
    access(
        "patient-id-taken-for-a-document",
        _VOCABULARY,
        "frozenset({xds.ENTRY_UNIQUE_ID, xds.SET_UNIQUE_ID, xds.SET_SOURCE_ID})",
        "frozenset({xds.ENTRY_UNIQUE_ID, xds.SET_UNIQUE_ID, xds.SET_SOURCE_ID, xds.ENTRY_PATIENT_ID})",
        unit("masking", "test_a_patient_id_is_masked_also_when_it_looks_like_an_oid"),
    ),
    access(
        "json-value-shown",
        _MASKING,
        'return value if _member(path[-1] if path else "", path, kind, value) else MASKED',
        "return value",
        unit("masking", "test_no_shape_of_json_lets_a_value_through"),
    ),
    access(
        "identifier-of-a-person-shown",
        _MASKING,
        '{"subject", "contained", "related", "context", "author"}',
        "set()",
        unit("masking", "test_a_patient_of_a_fhir_answer_is_masked_down_to_numbers"),
    ),
    access(
        "page-of-the-index-shown",
        _MASKING,
        '    "multipart/related": _related,',
        '    "text/html": lambda _, data: data.decode(),\n    "multipart/related": _related,',
        unit("masking", "test_a_body_of_another_type_is_masked_whole"),
    ),
    access(
        "reveal-without-right",
        "gateway/operations.py",
        "        if not has_right:\n",
        "        if False:\n",
        integration("exchanges", "test_t46_who_has_no_right_reads_nothing_and_the_try_is_on_record"),
    ),
    access(
        "reveal-for-any-user-of-the-machine",
        "gateway/asked.py",
        "has_right=user in self._reveal_users,",
        "has_right=True,",
        integration("exchanges", "test_t46_a_command_reads_in_clear_only_for_a_user_named_in_the_configuration"),
    ),
    access(
        "user-believed-instead-of-asked-of-the-kernel",
        "gateway/control.py",
        'json.loads(await request.read()) | {"user": user}',
        '{"user": user} | json.loads(await request.read())',
        integration("control", "test_t46_an_operation_is_told_whose_order_it_is_by_the_kernel_and_not_by_the_order"),
    ),
    access(
        "reveal-not-on-record",
        _REVEAL,
        "    _record(tx, tenant, study, event=READ, actor=actor, outcome=0,",
        "    dict(tx=tx, tenant=tenant, study=study, event=READ, actor=actor, outcome=0,",
        integration("exchanges", "test_who_has_the_right_reads_the_bytes_and_is_on_record_before"),
    ),
    access(
        "refused-reveal-not-on-record",
        "gateway/operations.py",
        "await self._store.write(lambda tx: reveal.refuse(tx, tenant, study, actor=actor, now=now))",
        "pass",
        integration("exchanges", "test_t46_who_has_no_right_reads_nothing_and_the_try_is_on_record"),
    ),
    access(
        "operator-reveals",
        "security/policy.py",
        "Action.EXCHANGE_REVEAL: _rule(Zone.OPS, roles=(Role.IDENTITY_OFFICER,)),",
        "Action.EXCHANGE_REVEAL: _rule(Zone.OPS, roles=(Role.IDENTITY_OFFICER, Role.OPERATOR)),",
        integration("console", "test_t46_an_operator_downloads_nothing_in_clear"),
    ),
    access(
        "credential-kept",
        "indexer/exchanges/parts.py",
        "    if credential:\n",
        "    if credential and not credential:\n",
        unit("exchange_parts", "test_of_a_credential_only_length_and_digest_are_kept"),
    ),
    access(
        "exchange-sealed-for-no-tenant",
        _ROWS,
        "content=ledger.vault.seal(job.tenant, _place(job.lane), zlib.compress(body)),",
        "content=zlib.compress(body),",
        integration("exchanges", "test_every_transaction_of_a_life_is_kept_as_it_was"),
    ),
    loss(
        "exchange-not-kept",
        "indexer/exchanges/recorded.py",
        "            add(tx, job, kept, self._keeping)\n",
        "            tuple(kept)\n",
        integration("exchanges", "test_every_transaction_of_a_life_is_kept_as_it_was"),
    ),
    loss(
        "effects-of-the-answer-forgotten-for-the-record",
        "indexer/exchanges/recorded.py",
        "                answer.effects(tx)\n",
        "                tuple(kept)\n",
        integration("exchanges", "test_every_transaction_of_a_life_is_kept_as_it_was"),
    ),
    loss(
        "other-bytes-shown-as-what-was-sent",
        "indexer/exchanges/parts.py",
        "if found is None or hashlib.sha256(found).hexdigest() != part.sha256:",
        "if found is None:",
        unit("exchange_parts", "test_bytes_that_are_gone_or_changed_are_never_shown_as_what_was_sent"),
    ),
    loss(
        "newest-exchanges-pruned",
        _ROWS,
        'ORDER BY exchange_id DESC"\n            " LIMIT 1 OFFSET :most)',
        'ORDER BY exchange_id"\n            " LIMIT 1 OFFSET :most)',
        integration("exchanges", "test_an_exam_keeps_its_newest_exchanges_and_none_that_is_too_old"),
    ),
)
