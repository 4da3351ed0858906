"""Manifests that other makers wrote (IHE, NIST, ELGA, the national samples), and the study that one of them is of."""

from __future__ import annotations

import base64
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydicom import Dataset

from indexer import fhir, kos
from indexer.assemble import assemble
from indexer.kos import SOP_CLASS, check, encode, read
from indexer.manifest import StudyManifest, imprint
from indexer.reading import CodeSet
from indexer.report import Coded, Order
from indexer.rules import catalogue
from indexer.rules.fhir import RULES as FHIR_RULES
from indexer.rules.kos import RULES
from indexer.study import Address, Instance, KeyNote, Series
from security.errors import BadInput
from security.identity import LocalId, PatientIdentity, Traits, Uid
from security.parse.dicom import parse_untrusted
from tests.corpus import corpus
from tests.fixtures.exams import EDITION, PATIENT, REPORT, SITE, STUDY

pytestmark = pytest.mark.corpus

PAGE = Path(__file__).resolve().parents[2] / "docs" / "manifest-samples.md"
SAMPLES = (("ihe", "mado"), ("ihe", "xdsi-kos"), ("drim-m", "kos"))
SNOMED = "2.16.840.1.113883.6.96"
IHE_PARTY = "1.3.6.1.4.1.19376.1.1.202"


# -- the golden pair: a study, and the manifest that IHE made of it ----------------------------------------------


def images() -> Iterable[Dataset]:
    with zipfile.ZipFile(corpus("ihe", "mado", "Study_B.zip")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".dcm"):
                yield parse_untrusted(archive.read(name), what="image")


def instance(image: Dataset) -> Instance:
    note = None
    if image.SOPClassUID == SOP_CLASS:
        title, text = image.ConceptNameCodeSequence[0], image.ContentSequence[-1].TextValue
        note = KeyNote(
            title=Coded(code=title.CodeValue, system="1.2.840.10008.2.16.4", display=title.CodeMeaning),
            description=text,
            references=tuple(
                Uid(one.ReferencedSOPInstanceUID)
                for series in image.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
                for one in series.ReferencedSOPSequence
            ),
        )
    return Instance(
        sop_class=Uid(image.SOPClassUID),
        sop_instance=Uid(image.SOPInstanceUID),
        number=int(image.InstanceNumber),
        note=note,
    )


def golden() -> StudyManifest:
    """The manifest of the study, through the product's own way from a PACS's answer."""
    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for image in images():
        by_series[str(image.SeriesInstanceUID)].append(image)
    series = tuple(
        Series(
            uid=Uid(uid),
            modality=some[0].Modality,
            number=int(some[0].SeriesNumber),
            description=some[0].get("SeriesDescription", ""),
            body_part=some[0].get("BodyPartExamined", ""),
            instances=tuple(instance(one) for one in some),
        )
        for uid, some in by_series.items()
    )
    (first, *_) = by_series[series[0].uid]
    study = replace(
        STUDY,
        uid=Uid(first.StudyInstanceUID),
        date=first.StudyDate,
        time=str(first.StudyTime),
        description=first.StudyDescription,
        study_id="",
        referring_physician="",
        series=series,
    )
    silent = replace(REPORT, studies=(study.uid,), regions=(), procedure=None)
    manifest, _ = assemble([silent], PATIENT.ins, study, SITE)
    accessions = dict.fromkeys(some[0].AccessionNumber for some in by_series.values())
    family, given, *_ = (*str(first.PatientName).split("^"), "")
    return replace(
        manifest,
        patient=PatientIdentity(
            traits=Traits(
                birth_name=family,
                first_given_name=given,
                sex=first.PatientSex,
                birth_date=date.fromisoformat(first.PatientBirthDate),
            ),
            local_ids=(LocalId(value=first.PatientID, issuer=IHE_PARTY),),
        ),
        orders=tuple(
            Order(accession_number=one, accession_issuer=IHE_PARTY, placer_number="", placer_issuer="")
            for one in accessions
        ),
        address=Address(base="https://dicomserver.com/AET/rs", location=f"{IHE_PARTY}.1"),
    )


@pytest.mark.parametrize("codes", ["99IHE", "DCM"])
def test_our_manifest_of_ihes_study_lists_what_ihes_manifest_lists(codes: CodeSet) -> None:
    made = imprint(EDITION, zone=ZoneInfo("Europe/Paris"), manufacturer="Poterne")
    data = encode(golden(), made, profile="mado", codes=codes)
    ours, theirs = read(data).manifest, read(corpus("ihe", "mado", "MADO_KOS_B.dcm").read_bytes()).manifest
    assert check(data) == ()

    def listed(manifest: StudyManifest) -> set[tuple[str, str, str]]:
        return {
            (series.uid, one.sop_class, one.sop_instance) for series in manifest.series for one in series.instances
        }

    assert len(listed(ours)) == 21
    assert listed(ours) == listed(theirs)
    assert ours.study == theirs.study
    assert ours.modalities == theirs.modalities == ("CT", "KO")
    assert [one.accession_number for one in ours.orders] == [one.accession_number for one in theirs.orders]
    assert ours.patient.traits.birth_name == theirs.patient.traits.birth_name
    notes = [series.instances[0].note for manifest in (ours, theirs) for series in manifest.series[1:]]
    assert [(one.title.code, one.description) for one in notes if one is not None] == [
        ("113000", "Significant DICOM Instances"),
        ("113000", "Significant DICOM Instances"),
    ]
    # the images say HEAD, the official manifest says otherwise (the sample's README): ours follows the images
    assert ours.regions == (Coded(code="774007", system=SNOMED, display="Tête et cou"),)
    assert ours.series[0].region == Coded(code="69536005", system=SNOMED, display="Tête")


def test_ihes_manifest_is_read_with_all_that_it_says() -> None:
    found = read(corpus("ihe", "mado", "MADO_KOS_B.dcm").read_bytes())
    manifest = found.manifest
    assert (found.profile, found.codes) == ("mado", "99IHE")
    assert found.imprint.created_at == datetime(2026, 2, 24, 23, 57, 59, 988, tzinfo=UTC)
    assert [len(one.instances) for one in manifest.series] == [20, 1]
    assert [one.number for one in manifest.series[0].instances] == list(range(1, 21))
    assert (manifest.series[0].date, manifest.series[0].time) == ("20231018", "164758.337000")
    assert manifest.regions == (Coded(code="63337009", system=SNOMED, display="Lower trunk"),)
    assert manifest.address.base == "https://dicomserver.com/AET/rs"
    assert manifest.series[1].address == replace(manifest.address, location=f"{IHE_PARTY}.2")


def test_the_national_sample_tells_which_image_its_note_points_at() -> None:
    manifest = read(corpus("drim-m", "kos", "KIN_Manifest_rebuilt.dcm").read_bytes()).manifest
    note = manifest.series[2].instances[0].note
    assert note is not None
    assert note.references == ("1.2.250.1.213.4.5.2.3.101.202.31",)
    assert note.title.code == "113000"
    assert manifest.patient.ins is not None
    assert manifest.patient.traits.birthplace == "63220"


# -- every sample, on one page -----------------------------------------------------------------------------------


BUNDLE = "mado-1.2.250.1.59.40211.22756022.2.1.102-bundle.json"
BINARY = "mado-kos-1.2.250.1.59.40211.22756022.2.1.102-binary.json"


def samples() -> list[tuple[str, bytes]]:
    """Every manifest by its file's name; that of a FHIR Binary is the KOS inside."""
    files = sorted(path for folder in SAMPLES for path in corpus(*folder).glob("*.dcm"))
    bundle, binary = (corpus("ihe", "mado", name).read_bytes() for name in (BUNDLE, BINARY))
    return [
        *((path.name, path.read_bytes()) for path in files),
        (BINARY, base64.b64decode(json.loads(binary)["data"])),
        (BUNDLE, bundle),
    ]


def row(name: str, data: bytes) -> str:
    form = fhir if name == BUNDLE else kos
    try:
        found = form.read(data)
    except BadInput as fault:
        return f"| `{name}` | refused: `{fault.code}` | | | |"
    profile = f"{found.profile}, {found.codes}" if found.codes else found.profile
    instances = sum(len(series.instances) for series in found.manifest.series)
    told = Counter(
        f"`{one.rule}`" if form is fhir else f"`{one.rule}` {one.detail}".strip() for one in found.deviations
    )
    read_with = "<br>".join(text if times == 1 else f"{text} ({times} times)" for text, times in told.items())
    known = {(one.rule, one.where) for one in found.deviations}
    beyond = dict.fromkeys(one.rule for one in form.check(data) if (one.rule, one.where) not in known)
    listed = ", ".join(f"`{rule}`" for rule in beyond)
    return f"| `{name}` | read as {profile} | {instances} | {read_with} | {listed} |"


def page() -> str:
    rows, known = [row(name, data) for name, data in samples()], catalogue(RULES, FHIR_RULES)
    named = sorted({rule for one in rows for rule in known if f"`{rule}`" in one})
    rules = [f"| `{one}` | {known[one].severity} | {known[one].says} |" for one in named]
    return "\n".join(
        (
            "# Manifests of other makers, and what our reader makes of them",
            "",
            "Every manifest of the material beside the repository, read by `kos.read` or `fhir.read` and held against the",
            "rules of its own profile by `check`. The page is made by `tests/integration/test_manifest_samples.py`, which fails when it",
            "differs; the samples are of IHE (MADO), NIST (XDS-I.b), ELGA (Austria) and the French agency, patients",
            "invented by them.",
            "",
            "A document that is read may still be out of rule: the reader understands, the check tells.",
            "",
            "| sample | outcome | instances | understood although | further rules broken |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "| rule | severity | what must hold |",
            "|---|---|---|",
            *rules,
            "",
        )
    )


def test_every_sample_is_read_or_refused_as_the_page_says() -> None:
    assert len(samples()) == 15
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_two_titles_that_share_nothing_are_refused_by_their_rule() -> None:
    refused = {}
    for name, data in samples():
        try:
            (fhir if name == BUNDLE else kos).read(data)
        except BadInput as fault:
            refused[name] = fault.code
    assert refused == {"elga-GK17285-title113000.kos.dcm": "kos-title"}
