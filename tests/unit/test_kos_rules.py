"""Every rule of the KOS fires by its own name, and alone, on a document that breaks it (FF-18)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from indexer.kos import check, encode
from indexer.manifest import StudyManifest
from indexer.reading import Profile
from indexer.report import Organization
from indexer.rules import catalogue
from indexer.rules.kos import RULES
from indexer.study import Address
from security.errors import BadInput
from security.identity import LocalId
from tests.fixtures.exams import INS_TEST, ORDER, PATIENT, TRAITS
from tests.fixtures.kos import EXAM, SIGNED, edited, written

Edit = Callable[[Dataset], object]


def evidence(dataset: Dataset) -> Dataset:
    return dataset.CurrentRequestedProcedureEvidenceSequence[0]  # type: ignore[no-any-return]


def series(dataset: Dataset, place: int = 0) -> Dataset:
    return evidence(dataset).ReferencedSeriesSequence[place]  # type: ignore[no-any-return]


def library(dataset: Dataset) -> Dataset:
    return dataset.ContentSequence[-1]  # type: ignore[no-any-return]


def items(node: Dataset, code: str) -> list[Dataset]:
    """The content items of this concept."""
    return [
        one
        for one in node.ContentSequence
        if "ConceptNameCodeSequence" in one and one.ConceptNameCodeSequence[0].CodeValue == code
    ]


def group(dataset: Dataset, place: int = 0) -> Dataset:
    return items(library(dataset), "126200")[place]


def entry(dataset: Dataset) -> Dataset:
    return next(one for one in group(dataset).ContentSequence if one.ValueType == "IMAGE")


def put(node: Callable[[Dataset], Dataset], name: str, value: object) -> Edit:
    return lambda dataset: setattr(node(dataset), name, value)


def root(dataset: Dataset) -> Dataset:
    return dataset


def cut(node: Callable[[Dataset], Dataset], name: str) -> Edit:
    return lambda dataset: delattr(node(dataset), name)


def request(dataset: Dataset) -> Dataset:
    return dataset.ReferencedRequestSequence[0]  # type: ignore[no-any-return]


def title(code: str, meaning: str, scheme: str = "DCM") -> Edit:
    def edit(dataset: Dataset) -> None:
        name = dataset.ConceptNameCodeSequence[0]
        name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = code, scheme, meaning

    return edit


def raw(tag: int, value: bytes) -> Edit:
    """Bytes as no writer of ours would put them."""
    return lambda dataset: dataset.add_new(tag, "OB", value)


def implicit(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def drop(node: Callable[[Dataset], Dataset], code: str) -> Edit:
    def edit(dataset: Dataset) -> None:
        kept, gone = node(dataset), items(node(dataset), code)
        kept.ContentSequence = Sequence([one for one in kept.ContentSequence if one not in gone])

    return edit


def siblings(dataset: Dataset) -> None:
    """The descriptors of the first instance stand before it."""
    held, one = group(dataset), entry(dataset)
    place = list(held.ContentSequence).index(one)
    own = list(one.ContentSequence)
    del one.ContentSequence
    held.ContentSequence = Sequence([*held.ContentSequence[:place], *own, *held.ContentSequence[place:]])


def counted_as_text(dataset: Dataset) -> None:
    (count,) = items(group(dataset), "131564")
    del count.MeasuredValueSequence
    count.ValueType, count.TextValue = "TEXT", '(2, UCUM, "instances")'


def miscounted(dataset: Dataset) -> None:
    (count,) = items(group(dataset), "131564")
    count.MeasuredValueSequence[0].NumericValue = "7"


def temporary_code(dataset: Dataset) -> None:
    (count,) = items(library(dataset), "131565")
    count.ConceptNameCodeSequence[0].CodeValue = "MADOTEMP009"
    count.ConceptNameCodeSequence[0].CodingSchemeDesignator = "99IHE"


def draft_code(dataset: Dataset) -> None:
    (count,) = items(library(dataset), "131565")
    count.ConceptNameCodeSequence[0].CodeValue = "ddd005"


def second_study(dataset: Dataset) -> None:
    other = Dataset()
    other.StudyInstanceUID, other.ReferencedSeriesSequence = "1.2.3", Sequence()
    dataset.CurrentRequestedProcedureEvidenceSequence.append(other)


def second_item(dataset: Dataset) -> None:
    second_study(dataset)
    dataset.CurrentRequestedProcedureEvidenceSequence[1].StudyInstanceUID = dataset.StudyInstanceUID


def lists_itself(dataset: Dataset) -> None:
    series(dataset).ReferencedSOPSequence[0].ReferencedSOPInstanceUID = dataset.SOPInstanceUID


def lists_twice(dataset: Dataset) -> None:
    series(dataset).ReferencedSOPSequence.append(series(dataset).ReferencedSOPSequence[0])


def empty_series(dataset: Dataset) -> None:
    empty = Dataset()
    empty.SeriesInstanceUID, empty.ReferencedSOPSequence = "1.2.3.4", Sequence()
    empty.RetrieveURL = series(dataset).RetrieveURL
    evidence(dataset).ReferencedSeriesSequence.append(empty)


def another_ins(dataset: Dataset) -> None:
    dataset.OtherPatientIDsSequence[1].IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID = INS_TEST


def repeated_request(dataset: Dataset) -> None:
    dataset.ReferencedRequestSequence.append(dataset.ReferencedRequestSequence[0])


def address_of_the_study(dataset: Dataset) -> None:
    """One RetrieveURL for the whole study instead of one for each series."""
    for one in evidence(dataset).ReferencedSeriesSequence:
        del one.RetrieveURL
    evidence(dataset).RetrieveURL = "https://db1.exemple.test/rs"


def location_of_the_study(dataset: Dataset) -> None:
    for one in evidence(dataset).ReferencedSeriesSequence:
        del one.RetrieveLocationUID
    evidence(dataset).RetrieveLocationUID = "1.2.250.1.999.4"


def coded_item(dataset: Dataset) -> None:
    empty = Dataset()
    empty.RelationshipType, empty.ValueType, empty.ContinuityOfContent = "CONTAINS", "CONTAINER", "SEPARATE"
    dataset.ContentSequence.append(empty)


def purpose(dataset: Dataset) -> None:
    dataset.ContentSequence[0].ReferencedSOPSequence[0].PurposeOfReferenceCodeSequence = Sequence()


def without_library(dataset: Dataset) -> None:
    dataset.ContentSequence = Sequence(list(dataset.ContentSequence)[:-1])


def group_without_series(dataset: Dataset) -> None:
    library(dataset).ContentSequence.append(group(dataset, 1))


def nameless_note(dataset: Dataset) -> None:
    (note,) = series(dataset).ReferencedSOPSequence[1].ReferencedSOPSequence
    del note.ConceptNameCodeSequence


def silent_text(dataset: Dataset) -> None:
    dataset.ContentSequence[-1].TextValue = "Examen : Scanner"


def empty_region(dataset: Dataset) -> None:
    (region,) = items(group(dataset), "123014")
    del region.ConceptCodeSequence[0].CodingSchemeDesignator


def both_sides(dataset: Dataset) -> None:
    (side,) = items(group(dataset), "111027")
    side.ConceptCodeSequence[0].CodeValue = "66459002"


def unresolved_scheme(dataset: Dataset) -> None:
    del dataset.CodingSchemeIdentificationSequence


def by_reference(dataset: Dataset) -> None:
    dataset.ContentSequence[0].add_new(0x0040DB73, "UL", [1, 2])


# rule, profile of the document, what was done to it
BROKEN: tuple[tuple[str, Profile, Edit], ...] = (
    ("kos-not-kos", "xds-i", put(root, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.33")),
    ("kos-iocm", "xds-i", title("113001", "Rejected for Quality Reasons")),
    ("kos-iocm", "xds-i", title("113037", "Rejected for Patient Safety Reasons")),
    ("kos-iocm", "xds-i", title("113038", "Incorrect Modality Worklist Entry")),
    ("kos-iocm", "mado", title("113039", "Data Retention Policy Expired")),
    ("kos-title", "xds-i", title("113000", "Of Interest")),
    ("kos-title", "drim-m", title("113008", "For Peer Review")),
    ("kos-title", "xds-i", cut(root, "ConceptNameCodeSequence")),
    ("kos-title-meaning", "drim-m", title("113030", "MANIFEST")),
    ("kos-mado-code", "mado", draft_code),
    ("kos-mado-code", "mado", title("ddd001", "Manifest with Description")),
    ("kos-codes-mixed", "mado", temporary_code),
    ("kos-uid", "xds-i", put(root, "SOPInstanceUID", "")),
    ("kos-uid", "xds-i", raw(0x00080018, b"1.2.03")),
    ("kos-uid", "xds-i", cut(series, "SeriesInstanceUID")),
    ("kos-content-date", "xds-i", lambda d: [delattr(d, n) for n in ("ContentDate", "InstanceCreationDate")]),
    ("kos-no-series", "xds-i", put(root, "SeriesInstanceUID", "")),
    ("kos-own-series", "xds-i", lambda d: setattr(d, "SeriesInstanceUID", series(d).SeriesInstanceUID)),
    ("kos-type-1", "xds-i", cut(root, "InstanceNumber")),
    ("kos-type-1", "xds-i", put(root, "Modality", "SR")),
    ("kos-type-2", "xds-i", cut(root, "StudyID")),
    ("kos-type-2", "mado", cut(request, "RequestedProcedureID")),
    ("kos-foreign", "xds-i", put(root, "Rows", 512)),
    ("kos-general", "xds-i", put(root, "CompletionFlag", "COMPLETE")),
    ("kos-identical-documents", "xds-i", put(root, "IdenticalDocumentsSequence", Sequence())),
    ("kos-transfer-syntax", "xds-i", implicit),
    ("kos-charset", "xds-i", lambda d: [setattr(d, "SpecificCharacterSet", "ISO_IR 100"), str(d)]),
    ("kos-charset-exact", "xds-i", raw(0x00081030, b"T\xeate")),
    ("kos-blanks", "xds-i", raw(0x00081030, b"\n      Scanner ")),
    ("kos-place", "xds-i", location_of_the_study),
    ("kos-place", "xds-i", put(root, "TextValue", "Examen : Scanner")),
    ("kos-number", "drim-m", lambda d: series(d).ReferencedSOPSequence[0].add_new(0x00200013, "OB", b"1.5 ")),
    ("kos-date", "xds-i", raw(0x00080020, b"2026.01.15")),
    ("kos-date", "xds-i", raw(0x00080030, b"8h")),
    ("kos-date", "xds-i", raw(0x00080201, b"Paris ")),
    ("kos-code", "mado", empty_region),
    ("kos-scheme", "mado", unresolved_scheme),
    ("kos-no-study", "xds-i", cut(root, "CurrentRequestedProcedureEvidenceSequence")),
    ("kos-no-study", "xds-i", cut(evidence, "StudyInstanceUID")),
    ("kos-several-studies", "xds-i", second_study),
    ("kos-study-mismatch", "xds-i", put(root, "StudyInstanceUID", "1.2.3")),
    ("kos-no-instance", "xds-i", put(evidence, "ReferencedSeriesSequence", Sequence())),
    ("kos-series-empty", "xds-i", empty_series),
    ("kos-duplicate-instance", "xds-i", lists_twice),
    ("kos-self-reference", "xds-i", lists_itself),
    ("kos-evidence-items", "xds-i", second_item),
    ("kos-study-date", "mado", put(root, "StudyTime", "")),
    ("kos-timezone", "mado", cut(root, "TimezoneOffsetFromUTC")),
    ("kos-institution", "mado", cut(root, "InstitutionName")),
    ("kos-required", "mado", put(root, "Manufacturer", "")),
    ("kos-no-ins", "drim-m", lambda d: [delattr(one, "IssuerOfPatientIDQualifiersSequence") for one in (d, )]),
    ("kos-authority", "drim-m",
     lambda d: setattr(d.IssuerOfPatientIDQualifiersSequence[0], "UniversalEntityID", "1.2.3")),
    ("kos-other-ins", "drim-m", another_ins),
    ("kos-no-trait", "drim-m", put(root, "PatientBirthDate", "")),
    ("kos-no-trait", "drim-m", put(root, "PatientName", "FANTÔME")),
    ("kos-patient-issuer", "mado", lambda d: delattr(d.OtherPatientIDsSequence[1], "IssuerOfPatientIDQualifiersSequence")),
    ("kos-other-ids", "mado", lambda d: d.OtherPatientIDsSequence.__delitem__(0)),
    ("kos-issuer-form", "mado",
     lambda d: setattr(request(d).IssuerOfAccessionNumberSequence[0], "UniversalEntityID", "HOPITAL")),
    ("kos-sex", "xds-i", raw(0x00100040, b"W ")),
    ("kos-name", "xds-i", put(root, "PatientName", "FANTÔME^LÉA^^Mme")),
    ("kos-no-accession", "drim-m", put(request, "AccessionNumber", "")),
    ("kos-accession", "xds-i", put(root, "AccessionNumber", "ACC9")),
    ("kos-accession", "drim-m", put(root, "AccessionNumber", "ACC1")),
    ("kos-accession-issuer", "mado", lambda d: [delattr(one, "IssuerOfAccessionNumberSequence") for one in (d, request(d))]),
    ("kos-placer-issuer", "mado", cut(request, "OrderPlacerIdentifierSequence")),
    ("kos-request-twice", "mado", repeated_request),
    ("kos-request-study", "mado", put(request, "StudyInstanceUID", "1.2.3")),
    ("kos-retrieve-http", "mado", put(series, "RetrieveURL", "ftp://db1.exemple.test")),
    ("kos-retrieve-none", "drim-m", cut(series, "RetrieveURL")),
    ("kos-retrieve-form", "xds-i", put(series, "RetrieveURL", "https://db1.exemple.test/rs/studies")),
    ("kos-retrieve-form", "drim-m", put(series, "RetrieveURL", "https://db1.exemple.test/rs")),
    ("kos-retrieve-other", "drim-m", put(series, "RetrieveURL", "https://db1.exemple.test/rs/studies/1.2.3/series/1")),
    ("kos-retrieve-slash", "mado", put(series, "RetrieveURL", "https://db1.exemple.test/rs/")),
    ("kos-retrieve-level", "mado", address_of_the_study),
    ("kos-location", "mado", cut(series, "RetrieveLocationUID")),
    ("kos-ae-title", "xds-i", cut(series, "RetrieveAETitle")),
    ("kos-viewer-url", "mado", lambda d: evidence(d).add_new(0x0040E012, "UR", "visionneuse")),
    ("kos-evidence-tree", "xds-i", lambda d: d.ContentSequence.__delitem__(0)),
    ("kos-value-type", "xds-i", lambda d: setattr(d.ContentSequence[0], "ValueType", "COMPOSITE")),
    ("kos-value-type", "mado", lambda d: setattr(entry(d), "ValueType", "WAVEFORM")),
    ("kos-relationship", "xds-i", lambda d: setattr(d.ContentSequence[0], "RelationshipType", "HAS PROPERTIES")),
    ("kos-by-reference", "xds-i", by_reference),
    ("kos-purpose", "xds-i", purpose),
    ("kos-continuity", "mado", cut(library, "ContinuityOfContent")),
    ("kos-continuity", "mado", cut(group, "ContinuityOfContent")),
    ("kos-template", "xds-i", cut(root, "ContentTemplateSequence")),
    ("kos-item", "xds-i", coded_item),
    ("kos-note", "drim-m", nameless_note),
    ("kos-modality", "drim-m", silent_text),
    ("kos-series-number", "drim-m", cut(series, "SeriesNumber")),
    ("kos-library", "mado", without_library),
    ("kos-evidence-library", "mado", lambda d: group(d).ContentSequence.__delitem__(-1)),
    ("kos-group", "mado", group_without_series),
    ("kos-count", "mado", miscounted),
    ("kos-count", "mado", drop(library, "131565")),
    ("kos-count-text", "mado", counted_as_text),
    ("kos-sibling", "mado", siblings),
    ("kos-library-modality", "mado", drop(library, "121139")),
    ("kos-no-region", "mado", drop(library, "123014")),
    ("kos-series-modality", "mado", drop(group, "121139")),
    ("kos-laterality", "mado", both_sides),
)  # fmt: skip


@pytest.mark.parametrize("profile", ["xds-i", "drim-m", "mado"])
def test_our_own_document_breaks_no_rule(profile: Profile) -> None:
    assert check(written(profile)) == ()


@pytest.mark.parametrize(("rule", "profile", "edit"), BROKEN, ids=[f"{rule}-{p}" for rule, p, _ in BROKEN])
def test_ff18_each_broken_rule_of_a_document_is_named_and_no_other(rule: str, profile: Profile, edit: Edit) -> None:
    found = check(edited(written(profile), edit))
    assert {one.rule for one in found} == {rule}
    assert not any(value in repr(found) for value in ("FANT", "LÉA", "2850675", "IPP-1", "ACC1"))


LOCAL = replace(EXAM, patient=replace(PATIENT, ins=None))
REFUSED: tuple[tuple[str, Profile, StudyManifest], ...] = (
    ("kos-no-patient-id", "xds-i", replace(EXAM, patient=replace(PATIENT, ins=None, local_ids=()))),
    ("kos-no-patient-id", "mado", replace(EXAM, patient=replace(PATIENT, ins=replace(PATIENT.ins, status="PROV"), local_ids=()))),  # type: ignore[type-var]  # it has one
    ("kos-authority", "mado", replace(EXAM, patient=replace(PATIENT, ins=replace(PATIENT.ins, oid="1.2.3")))),  # type: ignore[type-var]  # it has one
    ("kos-other-ins", "mado", replace(EXAM, patient=replace(PATIENT, local_ids=(LocalId(value="1", issuer=INS_TEST),)))),
    ("kos-no-instance", "xds-i", replace(EXAM, series=())),
    ("kos-duplicate-instance", "mado", replace(EXAM, series=(EXAM.series[0], EXAM.series[0]))),
    ("kos-ae-title", "xds-i", replace(EXAM, address=Address(base="", location="1.2"))),
    ("kos-ae-title", "xds-i", replace(EXAM, address=Address(base="", location="1.2", ae_title="A" * 17))),
    ("kos-location", "xds-i", replace(EXAM, address=Address(base="", ae_title="A"))),
    ("kos-location", "mado", replace(EXAM, address=Address(base=""))),
    ("kos-retrieve-base", "mado", replace(EXAM, address=Address(base="https://a.test/studies/1", location="1.2"))),
    ("kos-patient-issuer", "mado", replace(LOCAL, patient=replace(LOCAL.patient, local_ids=(LocalId(value="1", issuer=""),)))),
    ("kos-no-accession", "mado", replace(EXAM, orders=())),
    ("kos-accession-issuer", "mado", replace(EXAM, orders=(replace(ORDER, accession_issuer=""),))),
    ("kos-placer-issuer", "mado", replace(EXAM, orders=(replace(ORDER, placer_issuer=""),))),
    ("kos-study-date", "mado", replace(EXAM, time="")),
    ("kos-study-date", "mado", replace(EXAM, date="2026.01.15")),
    ("kos-institution", "mado", replace(EXAM, institution=Organization(identifier="1", system="1.2", name=" "))),
    ("kos-no-region", "mado", replace(EXAM, regions=())),
    ("kos-series-modality", "mado", replace(EXAM, series=(replace(EXAM.series[0], modality=""),))),
    ("kos-viewer-url", "mado", replace(EXAM, viewer_url="javascript:alert(1)")),
    ("kos-text", "xds-i", replace(LOCAL, patient=replace(LOCAL.patient, traits=replace(TRAITS, birth_name="F" * 65)))),
    ("bad-uid", "mado", replace(EXAM, institution=replace(EXAM.institution, system="FINESS"))),
)  # fmt: skip


@pytest.mark.parametrize(("code", "profile", "manifest"), REFUSED, ids=[f"{c}-{p}" for c, p, _ in REFUSED])
def test_ff18_each_rule_a_manifest_cannot_keep_refuses_it_by_its_name(
    code: str, profile: Profile, manifest: StudyManifest
) -> None:
    with pytest.raises(BadInput) as caught:
        encode(manifest, SIGNED, profile=profile)
    assert caught.value.code == code
    assert not any(value in str(caught.value) for value in ("FANT", "LÉA", "2850675", "IPP-1", "ACC1"))


def test_every_rule_of_the_catalogue_is_broken_by_a_test() -> None:
    broken = {rule for rule, _, _ in (*BROKEN, *REFUSED)}
    assert {rule.id for rule in RULES} == broken - {"bad-uid"}


def test_every_rule_says_what_must_hold_where_it_is_written_and_what_to_do() -> None:
    rules = catalogue(RULES)
    assert len(rules) == len(RULES)
    assert all(rule.says and rule.remedy and rule.clause and rule.id.startswith("kos-") for rule in RULES)


def test_a_document_can_be_held_against_another_profile_than_its_own() -> None:
    """The switch of FF-18: what one index takes, another refuses."""
    assert {one.rule for one in check(written("xds-i"), profile="drim-m")} == {
        "kos-accession",
        "kos-modality",
        "kos-retrieve-form",
        "kos-series-number",
    }


def test_the_profile_of_mado_is_not_that_of_a_plain_manifest_and_the_other_way_round() -> None:
    assert "kos-library" in {one.rule for one in check(written("xds-i"), profile="mado")}
    assert "kos-library" in {one.rule for one in check(written("mado"), profile="xds-i")}


def test_a_departure_that_every_instance_shows_is_told_once_with_its_number() -> None:
    (found,) = check(
        edited(written("xds-i"), lambda d: [setattr(one, "ValueType", "COMPOSITE") for one in d.ContentSequence[:3]])
    )
    assert (found.where, found.detail) == ("ContentSequence[1]", "COMPOSITE for IMAGE (3 times)")
