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
from indexer.study import Instance, Series
from security.identity import Uid
from security.parse.dicom import parse_untrusted
from tests.corpus import corpus
from tests.fixtures.exams import ECG, EDITION, MANIFEST, ORDER

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
