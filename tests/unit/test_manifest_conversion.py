"""A conversion: what is kept, what is refused, what each target says of its losses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.manifests import conversion, forms
from gateway.manifests.collection import Terms
from gateway.manifests.forms import TARGETS, Target, differences
from indexer.manifest import StudyManifest
from indexer.reading import Reading
from security.clock import SystemClock
from security.errors import BadInput, Broken
from security.identity import Uid
from tests.fixtures import manifest_files

TERMS = Terms(profile=None, site=manifest_files.SITE)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> StudyManifest:
    return manifest_files.manifest(tmp_path_factory.mktemp("exam"))


def convert(data: bytes, target: Target, *, is_qualified: bool = False) -> conversion.Converted:
    return conversion.convert(
        forms.read(data),
        target,
        TERMS,
        is_qualified=is_qualified,
        clock=SystemClock(),
        manufacturer="Poterne",
    )


def test_no_form_but_drim_m_qualifies_an_ins(manifest: StudyManifest):
    documents = manifest_files.documents(manifest)
    national = Target(form="kos", profile="drim-m")

    for name in ("xds-i", "mado", "mado-99ihe", "fhir"):
        with pytest.raises(BadInput) as raised:
            convert(documents[name], national)
        assert raised.value.code == "kos-no-ins"
        assert convert(documents[name], national, is_qualified=True).data
    assert convert(documents["drim-m"], national).data


def test_an_ins_without_its_key_goes_into_no_national_manifest(manifest: StudyManifest):
    assert manifest.patient.ins is not None
    wrong = replace(manifest.patient.ins, matricule=manifest_files.MATRICULE[:-1] + "8")
    data = manifest_files.documents(replace(manifest, patient=replace(manifest.patient, ins=wrong)))["drim-m"]

    with pytest.raises(BadInput) as raised:
        convert(data, Target(form="kos", profile="drim-m"), is_qualified=True)
    assert raised.value.code == "ins-key"
    assert wrong.matricule not in str(raised.value)


@pytest.mark.parametrize(
    "other",
    [
        lambda m: replace(m, study=Uid("1.2.3")),
        lambda m: replace(m, series=m.series[1:]),
        lambda m: replace(m, series=(replace(m.series[0], instances=m.series[0].instances[1:]), *m.series[1:])),
        lambda m: replace(m, patient=replace(m.patient, ins=replace(m.patient.ins, matricule="1" * 15))),
        lambda m: replace(m, patient=replace(m.patient, local_ids=())),
        lambda m: replace(
            m, patient=replace(m.patient, traits=replace(m.patient.traits, birth_name="AUTRE"))
        ),
    ],
    ids=["study", "series", "instance", "ins", "local ids", "name"],
)  # fmt: skip
def test_a_result_about_another_patient_or_without_an_instance_is_not_written(
    manifest: StudyManifest, other: object, monkeypatch: pytest.MonkeyPatch
):
    data = manifest_files.documents(manifest)["mado"]
    good = forms.read(data)
    read = iter((good, replace(good, manifest=other(good.manifest))))  # type: ignore[operator]
    monkeypatch.setattr(forms, "read", lambda _data: next(read))

    with pytest.raises(Broken) as raised:
        convert(data, Target(form="fhir", profile="mado"))
    assert raised.value.code == "conversion-differs"


def test_the_two_forms_of_one_manifest_share_their_identifier_and_a_kos_of_a_kos_does_not(manifest: StudyManifest):
    data = manifest_files.documents(manifest)["mado"]
    bundle = convert(data, Target(form="fhir", profile="mado")).data
    other = convert(data, Target(form="kos", profile="mado", codes="99IHE")).data

    made: list[Reading] = [forms.read(one) for one in (data, bundle, other)]
    assert made[0].imprint.unique_id == made[1].imprint.unique_id == manifest_files.MADE.unique_id
    assert made[2].imprint.unique_id not in {made[0].imprint.unique_id, None}
    assert made[2].imprint.series_uid != made[0].imprint.series_uid


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_what_a_form_loses_of_a_manifest_is_what_its_table_says(manifest: StudyManifest, target: Target):
    back = forms.read(forms.encode(target, manifest, manifest_files.MADE)).manifest

    for path in differences(manifest, back):
        assert conversion.why(path, target), path


def test_differences_name_paths_and_nothing_else(manifest: StudyManifest):
    changed = replace(
        manifest, study_id="9", series=(replace(manifest.series[0], number=9, date="20260101"), *manifest.series[1:])
    )

    assert list(differences(manifest, manifest)) == []
    assert list(differences(manifest, changed)) == ["study_id", "series.number", "series.date"]
