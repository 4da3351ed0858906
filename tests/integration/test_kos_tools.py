"""What independent tools say of our KOS: dicom3tools' validator, dcmtk's reader; and the national sample's shape."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from indexer.kos import encode
from indexer.manifest import StudyManifest, imprint
from indexer.reading import CodeSet, Profile
from indexer.study import Instance, Series
from security.identity import Uid
from security.parse.dicom import parse_untrusted
from tests.corpus import corpus
from tests.fixtures.exams import ECG, EDITION, MANIFEST, ORDER
from tests.fixtures.kos import written

EXTENSIONS = Counter(
    {
        # The profile's own additions to standard items (drim-m §4), each allowed in a Standard Extended SOP Class.
        "Warning - Attribute is not present in standard DICOM IOD - (0x0008,0x1190) UR Retrieve URL": 3,
        "Warning - Attribute is not present in standard DICOM IOD - (0x0020,0x0011) IS Series Number": 1,
        "Warning - Attribute is not present in standard DICOM IOD - (0x0020,0x0013) IS Instance Number": 2,
        "Warning - Dicom dataset contains attributes not present in standard DICOM IOD"
        " - this is a Standard Extended SOP Class": 1,
    }
)
FULL = replace(
    MANIFEST,
    orders=(ORDER, replace(ORDER, accession_number="ACC2", accession_issuer="", placer_issuer="")),
    series=(
        *MANIFEST.series,
        Series(
            uid=Uid("1.2.250.1.999.10.1.3"),
            modality="ECG",
            instances=(Instance(sop_class=ECG, sop_instance=Uid("1.2.250.1.999.10.1.3.1")),),
        ),
    ),
)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "kos.dcm"
    path.write_bytes(kos(FULL))
    return path


def kos(manifest: StudyManifest) -> bytes:
    return encode(manifest, imprint(EDITION, zone=ZoneInfo("Europe/Paris"), manufacturer="Poterne"))


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Debian tool; skip where it is missing, fail where CI must have it."""
    if shutil.which(tool) is None:
        reason = f"no {tool} on this machine (apt-get install dcmtk dicom3tools)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.dcmtk
def test_dciodvfy_finds_no_error_and_only_the_extensions_of_the_profile(document: Path) -> None:
    said = run("dciodvfy", str(document)).stderr.splitlines()
    assert [line for line in said if line.startswith("Error")] == []
    assert Counter(line.strip() for line in said if line.startswith("Warning")) == EXTENSIONS
    assert "KeyObjectSelectionDocument" in said


def not_standard(tag: str, name: str) -> str:
    return f"Warning - Attribute is not present in standard DICOM IOD - ({tag}) {name}"


EXTENDED = "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - this is a Standard Extended SOP Class"
PRIVATE_SCHEME = {  # CCAM has no designator of DICOM: ours is resolved by Coding Scheme Identification Sequence
    "Warning - Unrecognized defined term <1.2.250.1.213.2.5> for value 1 of attribute <Coding Scheme UID>": 1,
    "Warning - Unrecognized defined term <99A0CAE9A7> for value 1 of attribute <Coding Scheme Designator>": 2,
}
CP_2595 = {  # the tool knows the object as it was before CP-2595 widened its value types
    f"Error - Unrecognized enumerated value <{kind}> for value 1 of attribute <Value Type>": number
    for kind, number in (("NUM", 6), ("DATE", 1), ("TIME", 1))
}
URL, DISPLAY_URI = not_standard("0x0008,0x1190", "UR Retrieve URL"), not_standard("0x0040,0xe012", " ?")
SAID: dict[tuple[Profile, CodeSet], dict[str, int]] = {
    ("xds-i", "DCM"): {URL: 4, EXTENDED: 1},
    ("drim-m", "DCM"): {
        URL: 4,
        EXTENDED: 1,
        not_standard("0x0020,0x0011", "IS Series Number"): 4,
        not_standard("0x0020,0x0013", "IS Instance Number"): 7,
        # the key-image note told inside the evidence of its two images (drim-m §4, KIN)
        not_standard("0x0008,0x0100", "SH Code Value"): 2,
        not_standard("0x0008,0x0102", "SH Coding Scheme Designator"): 2,
        not_standard("0x0008,0x0104", "LO Code Meaning"): 2,
        not_standard("0x0008,0x1155", "UI Referenced SOP Instance UID"): 2,
        not_standard("0x0008,0x1199", "SQ Referenced SOP Sequence"): 2,
        not_standard("0x0020,0x000e", "UI Series Instance UID"): 2,
        not_standard("0x0040,0xa043", "SQ Concept Name Code Sequence"): 2,
        not_standard("0x0040,0xa160", "UT Text Value"): 2,
        not_standard("0x0040,0xa730", "SQ Content Sequence"): 2,
    },
    ("mado", "DCM"): {
        **CP_2595,
        **PRIVATE_SCHEME,
        URL: 4,
        EXTENDED: 1,
        DISPLAY_URI: 1,
        "Error - Attribute with an even group number is not a recognized standard attribute - (0x0040,0xe012)  ?": 1,
    },
    ("mado", "99IHE"): {**CP_2595, **PRIVATE_SCHEME, URL: 4, EXTENDED: 1},
}


@pytest.mark.dcmtk
@pytest.mark.parametrize(("profile", "codes"), SAID, ids=["-".join(one) for one in SAID])
def test_dciodvfy_finds_only_what_is_listed_in_each_profile(tmp_path: Path, profile: Profile, codes: CodeSet) -> None:
    path = tmp_path / "kos.dcm"
    path.write_bytes(written(profile, codes=codes))
    said = run("dciodvfy", str(path)).stderr.splitlines()
    assert Counter(line.strip() for line in said if line.startswith(("Error", "Warning"))) == SAID[profile, codes]
    assert "KeyObjectSelectionDocument" in said


@pytest.mark.dcmtk
@pytest.mark.parametrize(("profile", "codes"), SAID, ids=["-".join(one) for one in SAID])
def test_dsrdump_loads_each_profile_as_a_key_object_selection(
    tmp_path: Path, profile: Profile, codes: CodeSet
) -> None:
    """MADO with the tool's constraints off: it knows the object as it was before CP-2595, without containers."""
    path = tmp_path / "kos.dcm"
    path.write_bytes(written(profile, codes=codes))
    done = run("dsrdump", "+Pc", *(("-Ec",) if profile == "mado" else ()), str(path))
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith(("E:", "F:"))]
    assert done.stdout.startswith("Key Object Selection Document")
    listed = 2 if profile == "mado" else 1  # the tree, and the library
    kinds = {"IMAGE": 4, "WAVEFORM": 1, "COMPOSITE": 2}
    assert {kind: done.stdout.count(f"<contains {kind}") for kind in kinds} == {
        kind: number * listed for kind, number in kinds.items()
    }


@pytest.mark.dcmtk
def test_dsrdump_loads_the_document_as_a_key_object_selection(document: Path) -> None:
    done = run("dsrdump", "+Pc", str(document))
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith(("E:", "F:"))]
    assert done.stdout.startswith("Key Object Selection Document")
    assert done.stdout.count("<contains IMAGE") == 2
    assert done.stdout.count("<contains COMPOSITE") == 1
    assert done.stdout.count("<contains WAVEFORM") == 1
    assert done.stdout.count("<contains TEXT") == 1


@pytest.mark.dcmtk
def test_dcmdump_reads_every_byte(document: Path) -> None:
    done = run("dcmdump", "-q", "+L", str(document))
    assert done.returncode == 0
    assert done.stderr == ""
    assert "(0010,0020) LO [" in done.stdout


@pytest.mark.corpus
def test_the_top_level_attributes_are_those_of_the_national_sample() -> None:
    sample = parse_untrusted(corpus("drim-m", "kos", "KIN_Manifest_rebuilt.dcm"), what="sample")
    series = tuple(
        Series(
            uid=Uid(item.SeriesInstanceUID),
            modality="CT",
            number=int(item.SeriesNumber),
            instances=tuple(
                Instance(
                    sop_class=Uid(one.ReferencedSOPClassUID),
                    sop_instance=Uid(one.ReferencedSOPInstanceUID),
                    number=int(one.InstanceNumber),
                )
                for one in item.ReferencedSOPSequence
            ),
        )
        for item in sample.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    )
    derived = replace(MANIFEST, study=Uid(sample.StudyInstanceUID), series=series)
    ours = parse_untrusted(kos(derived), what="ours")
    assert {int(e.tag) for e in ours} - {int(e.tag) for e in sample} == {0x0040A504}  # indexer.kos says why
    assert {int(e.tag) for e in sample} - {int(e.tag) for e in ours} == set()
