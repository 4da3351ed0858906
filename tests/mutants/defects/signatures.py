"""Who signed what, who may ask, and which version of an entry counts."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_VERIFY = "security/xmlsig/verifying.py"
_SIGNER = "security/keys/signer.py"
_SET = "indexer/xds/setsignature.py"
_VIHF = "indexer/xds/vihf.py"
_CREDENTIALS = "indexer/registry/credentials.py"
_APP = "indexer/registry/app.py"
_REVISION = "indexer/registry/revision.py"
_NODE = "indexer/registry/node.py"
_METADATA = "indexer/xds/metadata.py"
_UPDATE = "indexer/xds/update.py"
_ATTACKS = unit("xmlsig", "test_t21_each_way_to_fool_a_verifier_is_refused")
_ODD = unit("xmlsig", "test_t21_what_a_trusted_signer_signs_in_an_odd_way_is_refused_too")
_REFUSED = integration("registry_revision", "test_what_does_not_fit_is_refused_with_its_code_and_changes_nothing")

DEFECTS = (
    access(
        "fhir-door-open-where-assertions-are-demanded",
        _APP,
        "    if credentials is None:  # nothing",
        "    if node is not None:  # nothing",
        integration("signing_wiring", "test_a_node_that_asks_for_assertions_serves_who_brings_one_and_nobody_else"),
    ),
    access(
        "digest-of-what-is-signed-not-compared",
        _VERIFY,
        "    if not is_digest_of(one, data):",
        "    if not data:",
        _ATTACKS,
    ),
    access(
        "certificate-taken-from-keyinfo",
        _VERIFY,
        "    chosen = [known[one] for one in dict.fromkeys(shown) if one in known] if shown else list(trust.certificates)",
        "    chosen = [x509.load_der_x509_certificate(one) for one in shown] or list(trust.certificates)",
        unit("xmlsig", "test_t21_a_key_that_is_not_pinned_is_refused_although_keyinfo_brings_it"),
    ),
    access(
        "id-of-the-signed-element-may-stand-twice",
        _VERIFY,
        "    if not value or named != [element]:",
        "    if not value or element not in named:",
        _ATTACKS,
    ),
    access(
        "second-signature-tolerated",
        _VERIFY,
        "    if len(found) != 1 or found[0].getparent() is not element:",
        "    if not found or found[0].getparent() is not element:",
        _ATTACKS,
    ),
    access(
        "comment-in-what-is-signed-tolerated",
        _VERIFY,
        "    if next(element.iter(etree.Comment, etree.ProcessingInstruction, etree.Entity), None) is not None:",
        "    if next(element.iter(etree.Entity), None) is not None:",
        _ATTACKS,
    ),
    access(
        "signature-over-something-else-tolerated",
        _VERIFY,
        '    if len(references) != 1 or references[0].uri != f"#{element.get(id_name)}":',
        "    if len(references) != 1:",
        _ATTACKS,
    ),
    access(
        "any-transform-tolerated",
        _VERIFY,
        "    if algorithm not in CANONICALISATIONS:",
        "    if not algorithm:",
        _ODD,
    ),
    access(
        "sha1-digest-tolerated",
        _VERIFY,
        '    if not name or (name == "sha1" and not trust.accepts_sha1):',
        "    if not name:",
        unit("xmlsig", "test_t21_a_sha1_digest_under_a_modern_signature_is_refused"),
    ),
    access(
        "expired-certificate-believed",
        _VERIFY,
        "    if not chosen[0].not_valid_before_utc <= at <= chosen[0].not_valid_after_utc:",
        "    if not chosen[0].not_valid_before_utc:",
        unit("xmlsig", "test_f14_a_certificate_out_of_its_time_is_refused"),
    ),
    access(
        "manifest-outside-an-object-believed",
        _VERIFY,
        '    if len(holders) != 1 or not any(parent.tag == DS + "Object" for parent in holders[0].iterancestors()):',
        "    if len(holders) != 1:",
        unit("setsignature", "test_t21_a_manifest_moved_out_of_its_object_is_refused"),
    ),
    access(
        "renewed-pair-not-read",
        _SIGNER,
        "        if self._read is None or self._read[0] != stamp:",
        "        if self._read is None:",
        unit("xmlsig", "test_a_renewed_pair_signs_without_a_restart"),
    ),
    loss(
        "document-left-out-of-the-signed-manifest",
        _SET,
        '        put_reference(manifest, sign, Reference(uri=f"urn:oid:{unique_id}", digest=digest(sign, document)))',
        '        put_reference(manifest, sign, Reference(uri=f"urn:oid:{unique_id}", digest=digest(sign, b"")))',
        unit("setsignature", "test_a_reader_learns_which_bytes_were_signed"),
    ),
    access(
        "assertion-believed-where-it-does-not-belong",
        _VIHF,
        "    if len(held) != 1 or held[0].getparent() is not header:",
        "    if not held:",
        unit("vihf", "test_t21_what_was_altered_moved_or_added_is_refused"),
    ),
    access(
        "assertion-of-yesterday-believed",
        _VIHF,
        "    if not since - SKEW <= now < until + SKEW or until - since > 12 * VALIDITY:",
        "    if until - since > 12 * VALIDITY:",
        unit("vihf", "test_it_lives_for_minutes"),
    ),
    access(
        "assertion-for-a-day-believed",
        _VIHF,
        "    if not since - SKEW <= now < until + SKEW or until - since > 12 * VALIDITY:",
        "    if not since - SKEW <= now < until + SKEW:",
        unit("vihf", "test_t21_one_that_lives_for_a_day_is_refused"),
    ),
    access(
        "assertion-used-twice",
        _CREDENTIALS,
        "        if found.assertion_id in self._seen:",
        "        if not found.assertion_id:",
        integration("signed_sets", "test_an_assertion_is_used_once"),
    ),
    identity(
        "assertion-about-another-patient-believed",
        _CREDENTIALS,
        "    if named and named != {patient_of(one) for one in stated}:",
        "    if named and not stated:",
        integration("signed_sets", "test_an_assertion_about_another_patient_is_refused"),
    ),
    access(
        "assertion-never-demanded",
        _APP,
        "            if credentials is not None:\n                purpose = credentials.check(envelope)",
        "            if credentials is None:\n                pass",
        integration("signed_sets", "test_t21_nothing_is_done_for_who_brings_no_assertion_or_somebody_else_s"),
    ),
    access(
        "secret-connection-not-said",
        _VIHF,
        "    if errand.is_secret:",
        "    if False:",
        unit("vihf", "test_a_secret_connection_is_said_here_alone"),
    ),
    loss(
        "older-version-revised",
        _REVISION,
        "    elif current.held.version != previous_versions(submission)[entry.id]:",
        "    elif current.held.version < 0:",
        integration("registry_revision", "test_of_two_revisions_of_one_version_one_wins"),
    ),
    access(
        "anybody-revises",
        _REVISION,
        "    elif current.source != submission.sets[0].identifier(v.SET_SOURCE_ID):",
        "    elif not current.source:",
        _REFUSED,
    ),
    identity(
        "entry-of-another-patient-revised",
        _REVISION,
        "    elif there.patient_key != whose or current is None:",
        "    elif there.patient_key == whose and current is None:",
        _REFUSED,
    ),
    loss(
        "other-bytes-under-a-revision",
        _REVISION,
        "    if entry.mime_type != before.mime_type or any(",
        "    if entry.mime_type != before.mime_type and any(",
        _REFUSED,
    ),
    loss(
        "two-versions-approved",
        _NODE,
        "            rows.change_status(tx, self._tenant, patient_key, before, v.STATUS_DEPRECATED)",
        "            pass",
        integration("registry_revision", "test_the_new_version_stands_in_the_place_of_the_old_one"),
    ),
    access(
        "older-version-of-a-withdrawn-document-shown",
        _NODE,
        "rows.change_versions(tx, self._tenant, patient_key, held.objects[target].logical_id, self.deleted_status)",
        "rows.change_status(tx, self._tenant, patient_key, target, self.deleted_status)",
        integration("registry_revision", "test_a_withdrawal_hides_every_version"),
    ),
    access(
        "old-confidentiality-left-beside-the-new",
        _UPDATE,
        "            entry.remove(old)",
        "            pass",
        integration("signed_sets", "test_a_revision_masks_the_entry_and_a_withdrawal_then_hides_it"),
    ),
    identity(
        "unqualified-ins-names-the-patient-abroad",
        _METADATA,
        '    if ins is not None and ins.status == "VALI":',
        "    if ins is not None:",
        unit("dialect", "test_a_qualified_ins_names_the_patient_everywhere_and_another_nowhere"),
    ),
)
