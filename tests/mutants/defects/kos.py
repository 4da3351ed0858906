"""The Key Object Selection document: who it names, what it lists, what is taken from one."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, loss, unit

_PATIENT = "indexer/kos/patient.py"
_PERSONS = "indexer/kos/persons.py"
_DOCUMENT = "indexer/kos/document.py"
_EVIDENCE = "indexer/kos/evidence.py"
_VARIANT = "indexer/kos/variant.py"
_READER = "indexer/kos/reader.py"
_TREE = "indexer/kos/tree.py"
_CONFORMANCE = "indexer/kos/conformance.py"
_ENCODING = "indexer/kos/encoding.py"
_DRIM_M = "indexer/kos/drim_m.py"

_BROKEN = "test_ff18_each_broken_rule_of_a_document_is_named_and_no_other"
_REFUSED = "test_ff18_each_rule_a_manifest_cannot_keep_refuses_it_by_its_name"
_LAW = "test_what_is_written_is_read_back_but_for_what_the_profile_cannot_carry"

DEFECTS = (
    identity(
        "unqualified-ins-names-the-patient-in-drim-m",
        _PATIENT,
        'if ins is None or ins.status != "VALI" or not ins.matricule:',
        "if ins is None or not ins.matricule:",
        unit("kos", "test_ff18_each_broken_rule_refuses_the_manifest_by_its_name"),
    ),
    identity(
        "doubtful-ins-names-the-patient-elsewhere",
        _PATIENT,
        'and patient.ins.status in {"VALI", ""}:',
        "and True:",
        unit("kos_law", "test_an_ins_that_is_not_qualified_names_nobody"),
    ),
    identity(
        "qualification-made-up-by-the-reader",
        _PERSONS,
        'ins = Ins(matricule=one.value, oid=one.issuer, status="")',
        'ins = Ins(matricule=one.value, oid=one.issuer, status="VALI")',
        unit("kos_law", "test_no_status_of_an_ins_is_concluded_from_a_document"),
    ),
    identity(
        "second-ins-silently-dropped",
        _PERSONS,
        '            root.note("kos-other-ins", "OtherPatientIDsSequence")\n            locals_.append(one)',
        "            continue",
        unit("kos_reader", "test_another_ins_beside_the_first_is_kept_and_told"),
    ),
    identity(
        "foreign-comment-taken-for-a-birthplace",
        _READER,
        'patient=patient(root, national=document.profile == "drim-m"),',
        "patient=patient(root, national=True),",
        unit("kos_reader", "test_comments_and_other_names_of_foreign_documents_are_no_french_traits"),
    ),
    identity(
        "identifying-text-is-cut",
        _ENCODING,
        "    if len(text) > CHARACTERS_MAX[vr]:\n        raise refused",
        "    if len(text) > 99999:\n        raise refused",
        unit("kos_rules", _REFUSED),
    ),
    identity(
        "accession-of-one-order-stands-for-several",
        _VARIANT,
        "return stated[0] if len(stated) == 1 else None",
        "return stated[0] if stated else None",
        unit("kos_reader", "test_several_accession_numbers_leave_that_of_the_study_empty"),
    ),
    identity(
        "two-studies-in-one-manifest",
        _EVIDENCE,
        "    if len(studies) > 1:\n",
        "    if len(studies) > 99:\n",
        unit("kos_rules", _BROKEN),
    ),
    identity(
        "sex-unknown-becomes-silent",
        _PERSONS,
        'sex=sex if sex in {"M", "F", ""} else "U",',
        'sex=sex if sex in {"M", "F"} else "",',
        unit("kos_reader", "test_the_sex_comes_back_from_its_term"),
    ),
    access(
        "rejection-note-taken-for-a-manifest",
        _DOCUMENT,
        'if name.scheme == "DCM" and name.code in IOCM:',
        'if name.scheme == "DCM" and name.code in ():',
        unit("kos_rules", _BROKEN),
    ),
    access(
        "any-title-shares",
        _DOCUMENT,
        "    if not name.is_(concepts.MANIFEST):\n",
        "    if not name.code:\n",
        unit("kos_rules", _BROKEN),
    ),
    access(
        "viewer-address-of-any-scheme",
        "indexer/kos/mado.py",
        "    if not _VIEWER.fullmatch(url):\n",
        "    if not url:\n",
        unit("kos_rules", _REFUSED),
    ),
    loss(
        "last-instance-of-a-series-not-read",
        _EVIDENCE,
        "instances=tuple(instances),\n            number=",
        "instances=tuple(instances[:-1] or instances),\n            number=",
        unit("kos_law", _LAW),
    ),
    loss(
        "series-of-an-unknown-address-dropped",
        _READER,
        "yield series if listed.address == common else replace(series, address=listed.address)",
        "yield series",
        unit("kos_law", _LAW),
    ),
    loss(
        "instance-without-a-name-skipped",
        _EVIDENCE,
        'raise refusal("kos-uid", f"{node.path} has no SeriesInstanceUID")',
        "return None",
        unit("kos_rules", _BROKEN),
    ),
    loss(
        "instances-listed-twice-are-not-seen",
        _VARIANT,
        "if len(set(uids)) != len(uids) or",
        "if",
        unit("kos", "test_ff18_each_broken_rule_refuses_the_manifest_by_its_name"),
    ),
    loss(
        "tree-that-lacks-instances-passes",
        _CONFORMANCE,
        "    if missing := len(listed - found):\n",
        "    if missing := len(listed & set()):\n",
        unit("kos_rules", _BROKEN),
    ),
    loss(
        "library-not-held-against-the-evidence",
        _CONFORMANCE,
        '_compare(document, _listed(document), found, "kos-evidence-library", library.where)',
        "",
        unit("kos_rules", _BROKEN),
    ),
    loss(
        "descriptors-before-an-instance-are-those-of-the-next",
        _TREE,
        "                before = {}\n",
        "",
        unit("kos_reader", "test_descriptors_before_an_instance_are_not_those_of_the_next"),
    ),
    loss(
        "links-of-key-images-not-written",
        _DRIM_M,
        "if instance.sop_instance in noted:",
        "if instance.sop_instance in ():",
        unit("kos_reader", "test_a_key_image_note_told_beside_its_images_is_given_back_to_the_note"),
    ),
    loss(
        "forged-line-of-the-text-believed",
        _TREE,
        'for line in re.split(r"[\\r\\n]+", text):',
        "for line in text.splitlines():",
        unit("kos_reader", "test_a_line_of_the_text_cannot_be_forged_by_a_description"),
    ),
)
