from pathlib import Path

import pytest

from gateway.lab.phantom import LabStudy
from security.parse.dicom import Text, charsets, parse_untrusted, text


def study() -> LabStudy:
    return LabStudy(
        study_uid="1.2.250.1.999.5",
        patient_id="IPP1",
        name="FANTÔME^Zoé",
        birth_date="19700228",
        sex="F",
        accession="ACC1",
        issuer="CHU",
        referring_physician="MÉDECIN^Noëlle",
    )


@pytest.mark.parametrize("modality", ["CT", "MR", "DX", "CR", "MG", "US", "NM", "PT", "XA", "OT"])
def test_each_modality_gives_a_whole_object_with_its_patient_and_order(modality: str):
    made = study()
    made.add_series(modality, body_part="CHEST", description="Été")

    found = parse_untrusted(made.objects[0].data, what="object")

    charset = charsets(found, default="ISO_IR 6")
    assert found.Modality == modality
    assert (found.StudyInstanceUID, found.PatientID, found.AccessionNumber) == ("1.2.250.1.999.5", "IPP1", "ACC1")
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == made.objects[0].sop_instance
    assert text(parse_untrusted(made.objects[0].data, what="object"), 0x00100010, charset=charset) == Text(
        "FANTÔME^Zoé"
    )


def test_the_same_calls_give_the_same_objects():
    one, other = study(), study()
    one.add_series("CT", instances=2)
    other.add_series("CT", instances=2)

    assert one.objects == other.objects


@pytest.mark.parametrize("bundled", ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "examples_rgb_color.dcm"])
def test_an_adopted_file_keeps_its_pixels_and_loses_its_identity(bundled: str):
    made = study()
    made.adopt(bundled)

    found = parse_untrusted(made.objects[0].data, stop_before_pixels=False, what="object")

    assert found.PatientName == "FANTÔME^Zoé"
    assert found.StudyInstanceUID == "1.2.250.1.999.5"
    assert len(found.PixelData) > 200


def test_objects_are_written_as_files(tmp_path: Path):
    made = study()
    made.add_series("US", frames=3)

    assert [path.name for path in made.write(tmp_path / "out")] == ["0001.dcm"]
    assert (tmp_path / "out" / "0001.dcm").read_bytes() == made.objects[0].data
