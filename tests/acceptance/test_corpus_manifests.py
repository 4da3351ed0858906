"""IHE's sample study through the command line: its files, its two published manifests, and ours beside them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from gateway.manifests import forms
from gateway.manifests.forms import differences
from indexer.manifest import StudyManifest
from tests.acceptance.test_commands import poterne
from tests.corpus import corpus

pytestmark = pytest.mark.corpus

STUDY = "1.2.250.1.59.40211.22756022.2.1.102"
SITE = (
    *("--patient-issuer", "1.2.250.1.999.1", "--accession-issuer", "1.2.250.1.999.2", "--institution", "IHE Demo"),
    *("--retrieve-url", "https://images.example.org/rs", "--retrieve-location", "1.2.250.1.999.4"),
)


@pytest.fixture(scope="module")
def study_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study-b")
    with zipfile.ZipFile(corpus("ihe", "mado", "Study_B.zip")) as archive:
        archive.extractall(folder)
    return folder


def instances(manifest: StudyManifest) -> dict[str, set[str]]:
    """SOPInstanceUIDs by series."""
    return {series.uid: {one.sop_instance for one in series.instances} for series in manifest.series}


def test_the_manifest_of_the_files_has_the_instances_of_the_published_one(study_b: Path, tmp_path: Path):
    kos, fhir = tmp_path / "b.dcm", tmp_path / "b.json"

    ran = poterne(
        "manifest",
        "build",
        str(study_b),
        "--profile",
        "mado",
        *SITE,
        "--kos",
        str(kos),
        "--fhir",
        str(fhir),
        "--json",
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["instances"] == 21
    published = forms.read(corpus("ihe", "mado", "MADO_KOS_B.dcm").read_bytes()).manifest
    for made in (forms.read(kos.read_bytes()).manifest, forms.read(fhir.read_bytes()).manifest):
        assert made.study == published.study == STUDY
        assert instances(made) == instances(published)
        assert sum(map(len, instances(made).values())) == 21
        assert {one.accession_number for one in made.orders} == {one.accession_number for one in published.orders}
        assert made.modalities == published.modalities == ("CT", "KO")
    for path in (kos, fhir):
        assert poterne("manifest", "check", str(path)).returncode == 0


def test_ihe_s_kos_goes_to_fhir_and_back_and_keeps_what_both_carry(tmp_path: Path):
    source = corpus("ihe", "mado", "MADO_KOS_B.dcm")
    fhir, back = tmp_path / "b.json", tmp_path / "b.dcm"

    out = poterne("manifest", "convert", str(source), str(fhir), "--json")
    home = poterne("manifest", "convert", str(fhir), str(back), "--codes", "99IHE", "--json")

    assert (out.returncode, home.returncode) == (0, 0), out.stderr + home.stderr
    before, after = forms.read(source.read_bytes()), forms.read(back.read_bytes())
    lost = json.loads(out.stdout)["lost"].keys() | json.loads(home.stdout)["lost"].keys()
    assert set(differences(before.manifest, after.manifest)) == lost
    assert instances(before.manifest) == instances(after.manifest)
    assert before.imprint.unique_id == after.imprint.unique_id
    assert poterne("manifest", "check", str(back)).returncode == 0


def test_ihe_s_bundle_becomes_a_kos_once_its_issuers_have_oids(tmp_path: Path):
    source = corpus("ihe", "mado", f"mado-{STUDY}-bundle.json")
    kos = tmp_path / "b.dcm"

    bare = poterne("manifest", "convert", str(source), str(kos))
    assert (bare.returncode, "[issuer-no-oid]" in bare.stderr, kos.exists()) == (1, True, False)

    stated = poterne(
        "manifest", "convert", str(source), str(kos), *SITE, "--institution-system", "1.2.250.1.999.5"
    )  # fmt: skip
    assert (stated.returncode, stated.stderr) == (0, "")
    made, given = (forms.read(path.read_bytes()).manifest for path in (kos, source))
    assert instances(made) == instances(given)
    assert made.patient.local_ids[0].value == given.patient.local_ids[0].value
    assert poterne("manifest", "check", str(kos)).returncode == 0


def test_what_is_published_is_checked_and_its_known_faults_are_named(tmp_path: Path):
    kos = json.loads(poterne("manifest", "check", str(corpus("ihe", "mado", "MADO_KOS_B.dcm")), "--json").stdout)

    assert (kos["form"], kos["profile"], kos["codes"], kos["clean"]) == ("kos", "mado", "99IHE", False)
    assert {one["rule"] for one in kos["findings"]} == {
        "kos-continuity", "kos-count-text", "kos-sibling", "kos-retrieve-slash",
    }  # fmt: skip
