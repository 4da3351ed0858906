"""Manifest documents on the command line, and key-image notes of a PACS."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_COLLECTION, _BUILD = "gateway/manifests/collection.py", "gateway/manifests/build.py"
_CONVERSION, _DOCUMENTS = "gateway/manifests/conversion.py", "gateway/manifests/documents.py"
_SPEECH = "tests/acceptance/test_manifest_commands.py::"

_UNSURE = (f"{_SPEECH}test_files_that_are_not_sure_of_the_patient_stand_in_the_way_and_are_named",)
_INS = (f"{_SPEECH}test_an_ins_that_is_missing_or_does_not_fit_the_person_stands_in_the_way",)

DEFECTS = (
    identity(
        "folder-patients-not-compared",
        _COLLECTION,
        "for keyword, votes in self._patient.items():\n            if len(votes.files) > 1:",
        "for keyword, votes in self._patient.items():\n            if len(votes.files) > 99:",
        _UNSURE,
    ),
    identity(
        "folder-file-without-patient-taken",
        _COLLECTION,
        "        if self._without_id:",
        "        if len(self._without_id) == len(self._places):",
        _UNSURE,
    ),
    identity(
        "folder-other-issuer-taken",
        _COLLECTION,
        'if terms.patient_issuer and stated not in {"", terms.patient_issuer}:',
        "if terms.patient_issuer and not stated:",
        _UNSURE,
    ),
    identity(
        "folder-ins-key-ignored",
        _COLLECTION,
        "if not check_key(terms.ins.matricule) or terms.ins.oid not in INS_AUTHORITIES:",
        "if not terms.ins.matricule:",
        _INS,
    ),
    identity(
        "folder-ins-digits-ignored",
        _COLLECTION,
        "            is_remark=terms.is_ins_weighed,",
        "            is_remark=True,",
        _INS,
    ),
    identity(
        "folder-ins-qualified-by-a-file",
        _COLLECTION,
        'told = Ins(matricule=stated.value, oid=stated.issuer, status="") if stated else None',
        'told = Ins(matricule=stated.value, oid=stated.issuer, status="VALI") if stated else None',
        unit("manifest_collection", "test_an_ins_in_the_files_is_taken_and_never_qualified_by_them"),
    ),
    identity(
        "conversion-qualifies-an-ins",
        _CONVERSION,
        "if ins is not None and is_qualified else ins",
        "if ins is not None else ins",
        unit("manifest_conversion", "test_no_form_but_drim_m_qualifies_an_ins"),
    ),
    identity(
        "conversion-result-not-read-again",
        _CONVERSION,
        'if any(path == same or same.startswith(f"{path}.") for path in changed for same in _SAME):',
        "if not changed:",
        unit("manifest_conversion", "test_a_result_about_another_patient_or_without_an_instance_is_not_written"),
    ),
    loss(
        "folder-damaged-file-skipped",
        _BUILD,
        '            look.problems.append(\n                Problem(\n                    code="file-unreadable",',
        '            [].append(\n                Problem(\n                    code="file-unreadable",',
        (f"{_SPEECH}test_ff18_a_damaged_file_stands_in_the_way_since_its_instance_would_be_missing",),
    ),
    loss(
        "folder-second-file-taken-for-a-copy",
        _BUILD,
        "elif filecmp.cmp(first, found.path, shallow=False):",
        "elif first:",
        (f"{_SPEECH}test_the_same_instance_in_two_different_files_stands_in_the_way",),
    ),
    loss(
        "folder-several-studies-as-one",
        _COLLECTION,
        "        if len(self._studies) > 1:",
        "        if len(self._studies) > 99:",
        (f"{_SPEECH}test_several_studies_are_named_and_nothing_is_written",),
    ),
    loss(
        "document-replaced-unasked",
        _DOCUMENTS,
        "os.link(part, path)  # unlike rename, it never replaces",
        "part.replace(path)",
        unit("manifest_documents", "test_a_file_that_comes_into_being_meanwhile_is_not_replaced"),
    ),
    access(
        "document-readable-by-all",
        _DOCUMENTS,
        "    create_private(part, data)",
        "    part.write_bytes(data)",
        unit("manifest_documents", "test_a_document_is_for_its_owner_alone_and_no_part_of_it_stays"),
    ),
    loss(
        "note-forgotten-when-the-pacs-stumbles",
        "gateway/pacs/door.py",
        "            if _PASSING.fullmatch(silent.reason):",
        "            if not silent.reason:",
        unit("notes", "test_a_note_that_may_be_told_later_leaves_no_answer_now"),
    ),
    loss(
        "profile-expected-not-compared",
        "gateway/manifests/checking.py",
        "target is not None and target.profile != profile:",
        "target is not None and not target.profile:",
        integration("manifest_check", "test_another_profile_than_the_one_asked_for_is_a_finding"),
    ),
)
