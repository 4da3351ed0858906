"""The code tables that ship with the gateway, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydicom.sr._concepts_dict import concepts

from indexer.codes import TableName, displayed, table
from indexer.report import Coded
from security import conf
from security.conf import conf_dir
from security.errors import BadInput, Broken


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        (
            "modality",
            "MR",
            Coded(code="MR", system="1.2.840.10008.2.16.4", display="Magnetic Resonance"),
        ),
        (
            "modality",
            "RM",
            Coded(code="MR", system="1.2.840.10008.2.16.4", display="Magnetic Resonance"),
        ),
        ("region", "774007", Coded(code="774007", system="2.16.840.1.113883.6.96", display="Tête et cou")),
        ("confidentiality", "N", Coded(code="N", system="2.16.840.1.113883.5.25", display="Normal")),
        (
            "visibility",
            "INVISIBLE_REP_LEGAUX",
            Coded(
                code="INVISIBLE_REPRESENTANTS_LEGAUX",
                system="1.2.250.1.213.1.1.4.13",
                display="Non visible par les représentants légaux",
            ),
        ),
        ("facility-type", "SA08", Coded(code="SA08", system="1.2.250.1.71.4.2.4", display="Cabinet de groupe")),
        (
            "practice-setting",
            "AMBULATOIRE",
            Coded(code="AMBULATOIRE", system="1.2.250.1.213.1.1.4.9", display="Ambulatoire"),
        ),
        ("class", "31", Coded(code="31", system="1.2.250.1.213.1.1.4.1", display="Imagerie médicale")),
        (
            "type",
            "IMG-KOS",
            Coded(
                code="IMG-KOS", system="1.2.250.1.213.1.1.4.12", display="Reference d'objets d'un examen d'imagerie"
            ),
        ),
        (
            "format",
            "1.2.840.10008.5.1.4.1.1.88.59",
            Coded(
                code="1.2.840.10008.5.1.4.1.1.88.59",
                system="1.2.840.10008.2.6.1",
                display="Document de Références d'objets d'imagerie selon profil IHE RAD XDS-I",
            ),
        ),
    ],
)
def test_a_known_code_gets_its_system_and_display(name: TableName, code: str, expected: Coded) -> None:
    assert table(name).coded(code) == expected


def test_an_unknown_code_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(BadInput) as caught:
        table("practice-setting").coded("AMBULATOIR")
    assert caught.value.code == "unknown-code"
    assert "did you mean 'AMBULATOIRE'?" in caught.value.hint


@pytest.mark.parametrize("name", get_args(TableName))
def test_every_table_names_its_source_and_version(name: TableName) -> None:
    read = table(name)
    assert read.source
    assert read.version
    assert all(read.codes.values())


def test_every_body_part_lies_in_a_coarse_region() -> None:
    """Each BodyPartExamined leads to a concept, each concept to one of the ten regions of CID IHE-MADO1."""
    parts = table("body-part")
    assert set(parts.coarse) == set(parts.codes) == set(parts.aliases.values())
    assert set(parts.coarse.values()) <= set(table("region").codes)
    assert parts.system == table("region").system


@pytest.mark.parametrize(
    ("part", "code", "coarse"),
    [
        ("CHEST", "816094009", "67734004"),
        ("ABDOMEN", "818981001", "63337009"),
        ("HEAD", "69536005", "774007"),
        ("LSPINE", "122496007", "1141981001"),
        ("HEART", "80891009", "80891009"),
        ("BREAST", "76752008", "76752008"),
        ("KNEE", "72696002", "61685007"),
        ("HAND", "85562004", "53120007"),
        ("WHOLEBODY", "38266002", "38266002"),
        ("CAROTID", "69105007", "113257007"),
    ],
)
def test_a_body_part_has_its_concept_and_its_region(part: str, code: str, coarse: str) -> None:
    parts = table("body-part")
    assert (parts.coded(part).code, parts.coarse[code]) == (code, coarse)


def test_every_concept_of_a_body_part_is_one_that_pydicom_knows() -> None:
    """An independent copy of the codes, so that a digit mistyped is seen."""
    known = {code for values in concepts["SCT"].values() for code in values}
    assert set(table("body-part").codes) <= known


def test_both_code_sets_of_mado_name_the_same_concepts() -> None:
    assert set(table("mado-99ihe").codes.values()) == set(table("mado-dcm").codes.values())
    assert table("mado-dcm").codes["131560"] == "Manifest with Description"


def test_every_file_is_a_table() -> None:
    assert sorted(path.stem for path in (conf_dir() / "codes").iterdir()) == sorted(get_args(TableName))


def test_an_installation_without_its_data_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conf, "__file__", str(tmp_path / "site-packages" / "security" / "conf.py"))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(Broken) as caught:
        conf_dir()
    assert caught.value.code == "conf-missing"
    (tmp_path / "share" / "poterne" / "conf").mkdir(parents=True)
    assert conf_dir() == tmp_path / "share" / "poterne" / "conf"


@pytest.mark.parametrize(
    ("name", "code", "display"),
    [
        ("format-ihe", "urn:ihe:rad:MADO:fhir-manifest:2026", "MADO FHIR manifest"),
        ("study", "18748-4", "Diagnostic imaging study"),
        ("specialty", "394914008", "Radiology"),
        ("procedure-loinc", "24727-0", "CT Head W contrast IV"),
        ("procedure-ccam", "QEQK001", "Mammographie bilatérale"),
        ("role", "AUTOMATE", "Automate"),
    ],
)
def test_the_tables_of_the_other_networks_hold_what_we_write(name, code, display):
    assert table(name).coded(code).display == display


@pytest.mark.parametrize(
    ("name", "code", "near"), [("procedure-ccam", "QEQK002", "QEQK001"), ("role", "AUTOMAT", "AUTOMATE")]
)
def test_a_code_that_is_almost_one_of_ours_is_refused_and_the_right_one_named(name, code, near):
    with pytest.raises(BadInput) as caught:
        table(name).coded(code)
    assert caught.value.hint.startswith(f"did you mean '{near}'?")


def test_what_a_report_states_with_a_display_passes_untouched():
    own = Coded(code="QEQK001", system="1.2.250.1.213.2.5", display="Mammo, nos mots")
    assert displayed(own) == own
    assert displayed(Coded(code="QEQK001", system="2.25.1")).display == "QEQK001"  # their system, not the CCAM
