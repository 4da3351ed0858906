"""The FHIR manifest: who the patient is, which instances are listed, and what the check lets pass."""

from __future__ import annotations

from tests.mutants.defects.defect import identity, loss, unit

_BUNDLE, _DOCUMENT, _READER = "indexer/fhir/bundle.py", "indexer/fhir/document.py", "indexer/fhir/reader.py"
_DATATYPES = "indexer/fhir/datatypes.py"
_PROFILE, _STRUCTURE = "indexer/fhir/profile.py", "indexer/fhir/structure.py"
_LARGE = "test_every_instance_of_a_large_study_comes_back_in_its_series"

DEFECTS = (
    identity(
        "fhir-unqualified-ins-written",
        _BUNDLE,
        'and ins.status in {"VALI", ""} else None',
        "else None",
        unit("fhir_bundle", "test_an_ins_that_is_not_qualified_is_written_nowhere"),
    ),
    identity(
        "fhir-ins-hidden-among-local-identifiers",
        _BUNDLE,
        "if any(local.issuer in INS_AUTHORITIES for local in manifest.patient.local_ids):",
        "if False:",
        unit("fhir_bundle", "test_ff18_each_broken_rule_refuses_the_manifest_by_its_name"),
    ),
    identity(
        "fhir-identifying-text-cut",
        _DATATYPES,
        "if not text or printable(text) != text:",
        "if not text:",
        unit("fhir_bundle", "test_ff18_each_broken_rule_refuses_the_manifest_by_its_name"),
    ),
    identity(
        "fhir-id-shared-between-documents",
        _BUNDLE,
        "json.dumps((document, *parts))",
        "json.dumps(parts)",
        unit("fhir_bundle", "test_another_version_shares_no_id"),
    ),
    identity(
        "fhir-two-patients-read-as-one",
        _READER,
        "if len(document.subjects()) > 1:",
        "if len(document.subjects()) > 9:",
        unit("fhir_reader", "test_ff18_what_is_no_manifest_is_refused_by_its_rule"),
    ),
    identity(
        "fhir-two-ins-read-as-one",
        _READER,
        "if len(national) > 1:",
        "if len(national) > 9:",
        unit("fhir_reader", "test_ff18_what_is_no_manifest_is_refused_by_its_rule"),
    ),
    identity(
        "fhir-patient-guessed",
        _READER,
        'patient = document.target(subject, inside=study) or {"identifier": [record(subject, "identifier")]}',
        'patient = document.target(subject, inside=study) or document.of_type("Patient")[0]',
        unit("fhir_reader", "test_a_subject_that_is_not_there_is_nobody_although_a_patient_stands_in_the_bundle"),
    ),
    identity(
        "fhir-reference-to-another-server-resolved-here",
        _DOCUMENT,
        "return self.by_address.get(address)",
        'return self.by_address.get(address) or self.by_address.get("/".join(address.split("/")[-2:]))',
        unit("fhir_profile", "test_the_same_id_on_another_server_is_another_resource"),
    ),
    identity(
        "fhir-issuer-forgotten",
        _READER,
        "LocalId(value=value, issuer=issuer)",
        'LocalId(value=value, issuer="")',
        unit("fhir_reader", "test_the_ins_is_told_from_the_local_identifiers_by_its_authority"),
    ),
    identity(
        "fhir-value-in-a-deviation",
        _STRUCTURE,
        "part if _ELEMENT.fullmatch(part) else '?'",
        "part",
        unit("fhir_profile", "test_no_deviation_repeats_a_value"),
    ),
    loss(
        "fhir-duplicate-instance-written",
        _BUNDLE,
        "if len(set(uids)) != len(uids) or",
        "if",
        unit("fhir_bundle", "test_ff18_each_broken_rule_refuses_the_manifest_by_its_name"),
    ),
    loss(
        "fhir-last-instance-not-read",
        _READER,
        'for stated in records(series, "instance"):',
        'for stated in records(series, "instance")[:249]:',
        unit("fhir_reader", _LARGE),
    ),
    loss(
        "fhir-second-series-of-a-uid-dropped",
        _READER,
        "_, instances = found.setdefault(_uid(series), (series, []))",
        "_, instances = found[_uid(series)] = (series, [])",
        unit("fhir_reader", "test_a_deviation_is_named_and_the_manifest_is_the_same"),
    ),
    loss(
        "fhir-address-of-a-series-forgotten",
        _BUNDLE,
        "return _comparable(series.address or manifest.address)",
        "return _comparable(manifest.address)",
        unit("fhir_bundle", "test_each_address_is_one_endpoint_and_each_series_refers_to_its_own"),
    ),
    loss(
        "fhir-offset-of-a-series-ignored",
        _READER,
        "local = moment.astimezone(zone)",
        "local = moment",
        unit("fhir_reader", "test_the_starts_of_series_are_read_in_the_offset_of_the_study"),
    ),
    loss(
        "fhir-placer-number-not-written",
        _BUNDLE,
        "if order.placer_number:",
        "if False:",
        unit("fhir_bundle", "test_with_several_orders_each_is_a_service_request_and_no_number_stands_alone"),
    ),
    loss(
        "fhir-count-not-checked",
        _PROFILE,
        'if whole(series, "numberOfInstances") != instances:',
        "if False:",
        unit("fhir_profile", "test_each_defect_is_named_by_its_rule_alone"),
    ),
    loss(
        "fhir-failing-library-hides-the-rest",
        _STRUCTURE,
        "for place, entry in enumerate(entries):",
        "for place, entry in enumerate(entries[:0]):",
        unit("fhir_profile", "test_a_value_on_which_the_library_fails_hides_no_other_fault"),
    ),
)
