"""``poterne manifest`` from the command line: what is built, what stands in the way, what a conversion loses."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from gateway.manifests import forms
from gateway.manifests.forms import differences
from tests.acceptance.test_commands import ANSWERS, Ran, poterne
from tests.fixtures.manifest_files import INS_OPTIONS, MATRICULE, OPTIONS, STUDY, exam

PERSON = ("FANTÔME", "Zoé", "IPP0042", "19700228", MATRICULE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    exam().write(tmp_path / "exam")
    return tmp_path / "exam"


def build(folder: Path, *words: str, lang: str = "en") -> Ran:
    return poterne("manifest", "build", str(folder), *OPTIONS, *words, lang=lang)


def codes(ran: Ran) -> list[str]:
    """The codes of what stands in the way, from --json."""
    return [one["code"] for one in json.loads(ran.stdout)["problems"] if one["severity"] == "error"]


def nameless(*told: str) -> bool:
    return not [value for value in PERSON for text in told if value in text]


@pytest.mark.parametrize(
    ("profile", "words"), [("drim-m", INS_OPTIONS), ("xds-i", ()), ("mado", ()), ("mado", ("--codes", "99IHE"))]
)
def test_a_folder_becomes_two_documents_that_break_no_rule(
    folder: Path, tmp_path: Path, profile: str, words: tuple[str, ...]
):
    kos, fhir = tmp_path / "out.dcm", tmp_path / "out.json"

    ran = build(folder, "--profile", profile, *words, "--kos", str(kos), "--fhir", str(fhir))

    assert (ran.returncode, ran.stderr) == (0, "")
    for path, expected in ((kos, profile), (fhir, "mado")):
        checked = json.loads(poterne("manifest", "check", str(path), "--json").stdout)
        assert (checked["profile"], checked["counts"]["error"], checked["counts"]["warning"]) == (expected, 0, 0)
        assert path.stat().st_mode & 0o777 == 0o600
    of_kos, of_fhir = forms.read(kos.read_bytes()), forms.read(fhir.read_bytes())
    assert of_kos.imprint.unique_id == of_fhir.imprint.unique_id
    assert nameless(ran.stdout, ran.stderr)


def test_a_summary_says_what_the_manifest_would_hold_and_writes_nothing(folder: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    told, facts = build(folder), json.loads(build(folder, "--json").stdout)

    assert told.returncode == 0
    assert f"Study {STUDY}" in told.stdout
    for line in ("3 series", "7 instances", "CT, DX, KO", "1 order", "1 key-image note"):
        assert line in told.stdout
    assert [(one["modality"], len(one["instances"])) for one in facts["study"]["series"]] == [
        ("CT", 4),
        ("DX", 2),
        ("KO", 1),
    ]
    assert facts["written"] == {}
    assert sorted(tmp_path.rglob("*")) == before
    assert nameless(told.stdout, json.dumps(facts, ensure_ascii=False))


def test_what_is_no_image_is_reported_and_left_out(folder: Path):
    (folder / "README.txt").write_text("read me")
    os.mkfifo(folder / "pipe")
    shutil.copy(folder / "0001.dcm", folder / "copy.dcm")

    ran = build(folder, "--json")

    facts = json.loads(ran.stdout)
    assert (ran.returncode, facts["files"], facts["instances"]) == (0, 10, 7)
    assert [(Path(one["file"]).name, one["why"]) for one in facts["skipped"]] == [
        ("README.txt", "no DICOM file"),
        ("pipe", "no regular file"),
    ]
    assert [Path(path).name for path in facts["copies"]] == ["copy.dcm"]


def test_several_studies_are_named_and_nothing_is_written(folder: Path, tmp_path: Path):
    exam(study_uid="1.2.250.1.999.8.8").write(folder / "other")
    out = tmp_path / "out.dcm"

    ran = build(folder, "--profile", "mado", "--kos", str(out))

    assert (ran.returncode, ran.stdout, out.exists()) == (1, "", False)
    assert STUDY in ran.stderr
    assert "1.2.250.1.999.8.8" in ran.stderr
    assert str(folder / "other" / "0001.dcm") in ran.stderr
    assert "Il y a là 2 examens" in build(folder, "--profile", "mado", lang="fr").stderr


def rewrite(path: Path, **values: Any) -> None:
    found = dcmread(path)
    for keyword, value in values.items():
        setattr(found, keyword, value)
    found.save_as(path)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"PatientID": ""}, "no-patient-id"),
        ({"PatientID": "IPP0043"}, "patient-conflict"),
        ({"PatientName": "FANTÔME^Zoë"}, "patient-conflict"),
        ({"PatientBirthDate": "19700227"}, "patient-conflict"),
        ({"PatientSex": "M"}, "patient-conflict"),
        ({"IssuerOfPatientID": "1.2.3.4"}, "issuer-differs"),
    ],
)
def test_files_that_are_not_sure_of_the_patient_stand_in_the_way_and_are_named(
    folder: Path, values: dict[str, Any], code: str
):
    rewrite(folder / "0003.dcm", **values)

    ran, told = build(folder, "--profile", "mado", "--json"), build(folder, "--profile", "mado")

    assert (ran.returncode, codes(ran)) == (1, [code])
    assert told.returncode == 1
    if code != "issuer-differs":
        assert "0003.dcm" in told.stderr
    assert nameless(ran.stdout, ran.stderr, told.stderr)
    assert [value for value in values.values() if value and len(value) > 1 and value in told.stderr] == []


def test_a_name_that_only_ends_in_empty_components_is_no_conflict(folder: Path):
    rewrite(folder / "0003.dcm", PatientName="FANTÔME^Zoé^^^")
    rewrite(folder / "0002.dcm", PatientBirthDate="", PatientSex="")

    assert build(folder, "--profile", "mado").returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--profile", "drim-m"), "no-ins"),
        (("--profile", "drim-m", *INS_OPTIONS[2:], "--ins", MATRICULE[:-1] + "8"), "ins-key"),
        (("--profile", "drim-m", "--ins", MATRICULE, "--ins-authority", "1.2.3"), "ins-key"),
        (("--profile", "drim-m", *INS_OPTIONS[2:], "--ins", "170029999900189"), "ins-digits"),
    ],
)
def test_an_ins_that_is_missing_or_does_not_fit_the_person_stands_in_the_way(
    folder: Path, words: tuple[str, ...], code: str
):
    ran = build(folder, *words, "--json")

    assert (ran.returncode, codes(ran)) == (1, [code])
    assert nameless(ran.stdout, ran.stderr)


def test_profile_mado_without_an_issuer_names_the_option(folder: Path):
    ran = poterne("manifest", "build", str(folder), "--profile", "mado")

    assert ran.returncode == 1
    assert "--patient-issuer" in ran.stderr


def test_the_same_instance_in_two_different_files_stands_in_the_way(folder: Path):
    rewrite(folder / "0002.dcm", SOPInstanceUID=dcmread(folder / "0001.dcm").SOPInstanceUID)

    ran = build(folder)

    assert ran.returncode == 1
    assert dcmread(folder / "0001.dcm").SOPInstanceUID in ran.stderr
    assert str(folder / "0001.dcm") in ran.stderr
    assert str(folder / "0002.dcm") in ran.stderr


def test_ff18_a_damaged_file_stands_in_the_way_since_its_instance_would_be_missing(folder: Path):
    data = (folder / "0002.dcm").read_bytes()
    (folder / "0002.dcm").write_bytes(data[:-100])

    ran = build(folder)

    assert ran.returncode == 1
    assert str(folder / "0002.dcm") in ran.stderr
    assert "dicom-truncated" in ran.stderr


def test_a_form_that_cannot_be_written_leaves_no_file_and_names_the_option(folder: Path, tmp_path: Path):
    kos, fhir = tmp_path / "out.dcm", tmp_path / "out.json"
    lacking = [pair for pair in zip(OPTIONS[::2], OPTIONS[1::2], strict=True) if pair[0] != "--retrieve-location"]
    words = [word for pair in lacking for word in pair]

    ran = poterne(
        "manifest", "build", str(folder), *words, "--profile", "mado", "--fhir", str(fhir), "--kos", str(kos)
    )

    assert ran.returncode == 1
    assert "--retrieve-location" in ran.stderr
    assert (kos.exists(), fhir.exists()) == (False, False)


def test_a_file_that_is_there_stays_unless_force_is_given(folder: Path, tmp_path: Path):
    kos, fhir = tmp_path / "out.dcm", tmp_path / "out.json"
    fhir.write_text("mine")
    words = ("--profile", "mado", "--kos", str(kos), "--fhir", str(fhir))

    refused = build(folder, *words)
    assert (refused.returncode, "[file-exists]" in refused.stderr) == (2, True)
    assert (fhir.read_text(), kos.exists()) == ("mine", False)

    assert build(folder, *words, "--force").returncode == 0
    assert fhir.read_bytes().startswith(b"{")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exam", "out.dcm", "out.json"]


@pytest.mark.parametrize(
    "words",
    [
        ("--kos", "out.dcm"),
        ("--profile", "hospital"),
        ("--retrieve-url", "images.example.org"),
        ("--retrieve-url", "https://images.example.org/rs/studies"),
        ("--patient-issuer", "CHU"),
        ("--charset", "klingon"),
        ("--region", "chest"),
        ("--timezone", "Mars/Olympus"),
        ("--profile", "mado", "--kos", "/nowhere/out.dcm"),
        ("--conf", "/nowhere/poterne.toml"),
    ],
)
def test_bad_usage_is_2_and_writes_nothing(folder: Path, tmp_path: Path, words: tuple[str, ...]):
    ran = poterne("manifest", "build", str(folder), *OPTIONS, *words)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exam"]


def test_what_a_site_always_states_may_come_from_its_configuration(folder: Path, tmp_path: Path):
    assert poterne("init", str(tmp_path / "site"), *ANSWERS).returncode == 0
    conf, out = str(tmp_path / "site" / "poterne.toml"), tmp_path / "out.dcm"

    ran = poterne(
        "manifest", "build", str(folder), "--profile", "drim-m", *INS_OPTIONS, "--conf", conf, "--kos", str(out)
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    manifest = forms.read(out.read_bytes()).manifest
    assert (manifest.institution.name, manifest.institution.identifier) == ("Centre FANTÔME", "101999999")
    assert manifest.address.base.startswith("http")


def test_a_manifest_written_into_its_folder_again_does_not_list_itself(folder: Path):
    words = ("--profile", "mado", "--kos", str(folder / "out.dcm"), "--force", "--json")

    first, second = (json.loads(build(folder, *words).stdout) for _ in "12")

    assert first["instances"] == second["instances"] == 7
    assert [one["why"] for one in second["skipped"]] == ["the file that is to be written"]


CHAIN = [
    ("mado", ("--codes", "99IHE"), "two.json", ()),
    ("mado", (), "two.json", ()),
    ("mado", (), "two.dcm", ("--codes", "99IHE")),
    ("mado", (), "two.dcm", ("--profile", "xds-i", "--retrieve-aet", "FANTOME")),
    ("mado", INS_OPTIONS, "two.dcm", ("--profile", "drim-m", "--ins-qualified")),
    ("drim-m", INS_OPTIONS, "two.json", ("--region", "67734004")),
    ("drim-m", INS_OPTIONS, "two.dcm", ("--profile", "xds-i", "--retrieve-aet", "FANTOME")),
    ("drim-m", INS_OPTIONS, "two.dcm", ()),
    ("xds-i", (), "two.dcm", ("--profile", "mado", "--region", "67734004")),
]


@pytest.mark.parametrize(("profile", "stated", "out", "words"), CHAIN, ids=str)
def test_a_conversion_keeps_patient_study_and_instances_and_names_what_it_loses(
    folder: Path, tmp_path: Path, profile: str, stated: tuple[str, ...], out: str, words: tuple[str, ...]
):
    one, two = tmp_path / "one.dcm", tmp_path / out
    assert build(folder, "--profile", profile, *stated, "--kos", str(one)).returncode == 0

    ran = poterne("manifest", "convert", str(one), str(two), *words, "--json")

    assert (ran.returncode, ran.stderr) == (0, "")
    before, after = forms.read(one.read_bytes()).manifest, forms.read(two.read_bytes()).manifest
    assert [i.sop_instance for s in after.series for i in s.instances] == [
        i.sop_instance for s in before.series for i in s.instances
    ]
    assert after.patient.traits.birth_name == "FANTÔME"
    told = json.loads(ran.stdout)
    gone = {path for path in differences(before, after) if not _filled(path, before)}
    assert gone <= told["lost"].keys() | {"patient.ins.status"}
    assert poterne("manifest", "check", str(two)).returncode == 0
    assert nameless(ran.stdout)


def _filled(path: str, before: Any) -> bool:
    """What the command line stated where the document was silent is no loss."""
    value = before
    for name in path.split("."):
        value = getattr(value, name, None) if not isinstance(value, tuple) else None
    return value in ("", (), None) and path in {"regions", "address.ae_title"}


def test_there_and_back_through_fhir_keeps_what_both_carry(folder: Path, tmp_path: Path):
    places = [tmp_path / name for name in ("one.dcm", "two.json", "three.dcm", "four.json")]
    assert build(folder, "--profile", "mado", "--kos", str(places[0])).returncode == 0
    for source, out in pairwise(places):
        assert poterne("manifest", "convert", str(source), str(out)).returncode == 0

    first, third = (forms.read(place.read_bytes()) for place in (places[0], places[2]))
    assert set(differences(first.manifest, third.manifest)) <= {"study_id"}
    assert first.imprint.unique_id == third.imprint.unique_id
    assert places[1].read_bytes() == places[3].read_bytes()


def test_what_a_conversion_loses_is_said_in_both_languages(folder: Path, tmp_path: Path):
    one = tmp_path / "one.dcm"
    assert build(folder, "--profile", "mado", "--kos", str(one)).returncode == 0

    for lang, expected in (("en", "not in the standard's items"), ("fr", "absent des éléments de la norme")):
        words = (str(one), str(tmp_path / f"{lang}.dcm"), "--profile", "xds-i", "--retrieve-aet", "FANTOME")
        ran = poterne("manifest", "convert", *words, lang=lang)
        assert ran.returncode == 0
        assert f"series.number — {expected}" in ran.stdout


@pytest.mark.parametrize(
    ("out", "words", "code", "told"),
    [
        ("two.dcm", ("--profile", "drim-m"), 1, "kos-no-ins"),
        ("two.txt", (), 2, "form-needed"),
        ("two.json", ("--profile", "xds-i"), 2, "no-such-form"),
        ("one.dcm", (), 2, "file-exists"),
    ],
)
def test_a_conversion_that_cannot_be_says_why_and_writes_nothing(
    folder: Path, tmp_path: Path, out: str, words: tuple[str, ...], code: int, told: str
):
    one = tmp_path / "one.dcm"
    assert build(folder, "--profile", "mado", "--kos", str(one)).returncode == 0
    before = one.read_bytes()

    ran = poterne("manifest", "convert", str(one), str(tmp_path / out), *words)

    assert (ran.returncode, f"[{told}]" in ran.stderr, ran.stdout) == (code, True, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exam", "one.dcm"]
    assert one.read_bytes() == before


def test_check_is_0_for_a_good_document_1_for_a_broken_or_strange_one_2_for_bad_usage(folder: Path, tmp_path: Path):
    one, broken, strange = (tmp_path / name for name in ("one.dcm", "broken.dcm", "strange.txt"))
    assert build(folder, "--profile", "mado", "--kos", str(one)).returncode == 0
    shutil.copy(one, broken)
    rewrite(broken, StudyTime="")
    strange.write_text("hello")

    ran = [poterne("manifest", "check", str(path)) for path in (one, broken, strange, tmp_path / "absent", folder)]
    assert [one.returncode for one in ran] == [0, 1, 1, 2, 2]
    assert "kos-study-date" in ran[1].stdout
    assert "[manifest-form]" in ran[2].stdout
    french = poterne("manifest", "check", str(broken), lang="fr").stdout
    assert "StudyDate et StudyTime ont une valeur" in french
    assert "corriger l’examen dans l’archive" in french
    facts = json.loads(poterne("manifest", "check", str(broken), "--json").stdout)
    assert [(one["rule"], one["severity"], one["where"]) for one in facts["findings"]] == [
        ("kos-study-date", "error", "StudyTime")
    ]
    assert poterne("manifest", "check", str(one), "--profile", "drim-m").returncode == 1


@pytest.mark.parametrize("command", ["build", "check", "convert"])
def test_every_command_has_its_help(command: str):
    ran = poterne("manifest", command, "--help")

    assert ran.returncode == 0
    assert "--json" in ran.stdout
    assert "--lang" in ran.stdout
