"""Whole objects made pseudonymous: nothing stays, everything still refers (§11.4 of the audit's rules, FF-50, T51)."""

from __future__ import annotations

import random
import struct
from datetime import date
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset

from sampler.pseudonym.identifiers import Identifiers, registered
from sampler.pseudonym.keys import CampaignKeys, Pseudonyms
from sampler.pseudonym.objects import Seen, originals
from security.errors import BadInput, Fault, Refused
from tests.fixtures.pseudonym_objects import (
    CT,
    MARKER,
    MASTER,
    ROOT,
    SC,
    STUDY,
    SUBJECT,
    US,
    a_case,
    base,
    code,
    compressed,
    exam,
    image,
    item,
    key_objects,
    made,
    plant,
    presentation,
    read,
    report,
    structure_set,
    written,
)

PLAIN_SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"]


def flat(data: bytes) -> bytes:
    """The bytes of a file with its data set inflated, lower case, beside UTF-16 read as one byte a letter."""
    inflated = BytesIO()
    data_set = dcmread(BytesIO(data))
    if data_set.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1.99":
        data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data_set.save_as(inflated)
    return (data + inflated.getvalue()).lower()


def holds(data: bytes, *values: str) -> list[str]:
    whole = flat(data)
    return [value for value in values if value.lower().encode() in whole or value.lower().encode("latin-1") in whole]


ORIGINALS = (
    "GOFF", "BERTIN", "Maëlle", "Maelle", "QUEMENEUR", "Loïc", "MANIP", "Solène", "778812", "ACC26030477", "ETU4411", "Trois Moulins",
    "Rennes", "SN-99812", "SCANNER-SUD", "06 12 34", "19310102", "20260304", "20260305", "04/03/2026", ROOT, "Kerviel", "LINAC", "10001234567",
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(exam())))
@pytest.mark.parametrize("syntax", PLAIN_SYNTAXES)
def test_t51_nothing_of_the_originals_is_in_any_object_of_an_exam(number, syntax):
    original = exam()[number]
    result = made(original, syntax=syntax)
    assert holds(written(original, syntax=syntax), "GOFF", "QUEMENEUR", "20260304") == [
        "GOFF",
        "QUEMENEUR",
        "20260304",
    ]
    assert holds(result.data, *ORIGINALS) == []
    assert read(result).file_meta.TransferSyntaxUID == syntax


def test_references_between_images_report_note_presentation_and_plan_still_meet():
    objects = [read(made(one)) for one in exam()]
    instances = {one.SOPInstanceUID for one in objects}
    assert len(instances) == 8
    study = {one.StudyInstanceUID for one in objects}
    assert len(study) == 1
    known = instances | study | {one.SeriesInstanceUID for one in objects} | {objects[0].FrameOfReferenceUID}
    referred: set[str] = set()
    for one in objects:
        for element in one.iterall():
            if element.VR == "UI" and not registered(str(element.value)):
                referred.add(str(element.value))
    assert referred == known
    _, _, sr, note, shown, structures, plan, dose = objects
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    for one in (sr, note):
        evidence = one.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert [r.ReferencedSOPInstanceUID for r in evidence.ReferencedSOPSequence] == [
            o.SOPInstanceUID for o in objects[:2]
        ]
    assert shown.ReferencedSeriesSequence[0].SeriesInstanceUID == objects[0].SeriesInstanceUID


def test_what_the_auditor_needs_stays():
    ct = read(made(image()))
    assert (ct.Modality, ct.Manufacturer, ct.ManufacturerModelName, ct.SoftwareVersions) == (
        "CT",
        "ACME Imaging",
        "Scanner 7",
        "v7.1",
    )
    assert (ct.PatientSex, ct.PatientAge, ct.BodyPartExamined, ct.StudyTime) == ("F", "090Y", "CHEST", "101112")
    sr = read(made(report([image()])))
    observer, birth, finding, coded, figure, _ = sr.ContentSequence
    assert observer.PersonName == "AUDIT"
    assert birth.Date == "19000101"
    shift = Pseudonyms(CampaignKeys.derive(MASTER, "rad-2026-01"), SUBJECT).shift
    assert finding.TextValue == (
        f"Nodule du lobe supérieur droit, pas de fracture. Vu avec Dr [...] le {date(2026, 3, 5) + shift:%d/%m/%Y}."
    )
    assert coded.ConceptCodeSequence[0].CodeMeaning == "Nodule selon [...]"
    assert coded.ConceptNameCodeSequence[0].CodeMeaning == "Finding"
    assert (figure.MeasuredValueSequence[0].NumericValue, figure.ConceptNameCodeSequence[0].CodeMeaning) == (
        7.31,
        "Mean CTDIvol",
    )
    assert (sr.CompletionFlag, sr.VerificationFlag) == ("COMPLETE", "VERIFIED")
    shown = read(made(presentation([image()])))
    note = shown.GraphicAnnotationSequence[0]
    assert note.TextObjectSequence[0].UnformattedTextValue == "nodule 8 mm, [...]"
    assert list(note.GraphicObjectSequence[0].GraphicData) == [1.5, 2.5]


def test_regions_keep_names_of_the_nomenclature_and_the_map_of_the_others_stays_at_the_site():
    result = made(structure_set([image()]))
    structures = read(result)
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == ["Lung_L", "PTVp1_5000cGy", "ROI_3"]
    assert result.roi_names == {"ROI_3": "contour Kerviel"}
    assert "Kerviel" not in repr(result)
    assert (structures.ApprovalStatus, structures.ReviewerName) == ("APPROVED", "")
    assert list(structures.ROIContourSequence[0].ContourSequence[0].ContourData) == [0.5, -1.25, 3, 2, 2, 3, 1, 4, 3]


def test_all_dates_of_an_object_move_by_the_same_weeks_and_the_birth_date_goes():
    ct = read(made(image()))
    shift = Pseudonyms(CampaignKeys.derive(MASTER, "rad-2026-01"), SUBJECT).shift
    assert date.fromisoformat(ct.StudyDate) == date(2026, 3, 4) + shift
    assert date.fromisoformat(ct.ContentDate) == date(2026, 3, 5) + shift
    assert ct.AcquisitionDateTime == f"{date(2026, 3, 4) + shift:%Y%m%d}101300.5+0100"
    assert ct.PatientBirthDate == ""
    assert ct.LongitudinalTemporalInformationModified == "MODIFIED"


def test_an_age_that_only_the_birth_date_told_is_stated():
    ct = image()
    del ct.PatientAge
    ct.PatientBirthDate = "19800305"
    assert read(made(ct)).PatientAge == "045Y"


def test_only_methods_that_were_applied_are_told():
    ct = made(image())
    assert ct.methods == ("113100", "113105", "113107", "113108")
    told = read(ct)
    assert told.PatientIdentityRemoved == "YES"
    assert [one.CodeValue for one in told.DeidentificationMethodCodeSequence] == list(ct.methods)
    assert "manufacturer, model, software version kept" in told.DeidentificationMethod[1]
    assert made(presentation([image()])).methods == ("113100", "113103", "113105", "113107", "113108")
    assert made(report([image()])).methods == ("113100", "113104", "113105", "113107", "113108")
    assert "113109" not in ct.methods


def test_ff50_file_meta_and_preamble_are_new():
    ct = image()
    ct.file_meta.SourceApplicationEntityTitle = MARKER
    ct.file_meta.SendingApplicationEntityTitle = MARKER
    ct.file_meta.ReceivingApplicationEntityTitle = MARKER
    ct.file_meta.ImplementationVersionName = MARKER
    ct.file_meta.PrivateInformationCreatorUID = f"{ROOT}.77"
    ct.file_meta.PrivateInformation = MARKER.encode()
    source = written(ct, preamble=(MARKER * 19).encode()[:128])
    result = a_case().made(source, what="the object")
    assert source.count(MARKER.encode()) > 10
    assert MARKER.encode() not in result.data
    assert result.data[:132] == bytes(128) + b"DICM"
    meta = read(result).file_meta
    assert meta.MediaStorageSOPInstanceUID == read(result).SOPInstanceUID == result.sop_instance
    assert {int(element.tag) & 0xFFFF for element in meta} == {0, 1, 2, 3, 0x10, 0x12, 0x13}


def marked() -> Dataset:
    """Markers at the root, in a removed and in a retained sequence, in private blocks, overlays and curves."""
    ct = image()
    assert plant(ct) > 640
    return ct


@pytest.mark.parametrize("syntax", PLAIN_SYNTAXES)
def test_ff50_of_markers_in_every_attribute_of_the_table_none_stays(syntax):
    ct = marked()
    source = written(ct, syntax=syntax)
    result = a_case().made(source, what="the object")
    assert flat(source).count(MARKER.lower().encode()) > 1500
    assert flat(result.data).count(MARKER.lower().encode()) == 0
    assert holds(result.data, "19770707", f"{ROOT}.77.7") == []
    assert read(result).PixelData == ct.PixelData


def test_ff50_texts_of_a_report_leave_no_marker():
    sr = report([image()])
    for content in sr.ContentSequence:
        content.TextValue = f"{MARKER} nodule"
        content.ConceptNameCodeSequence = code("LOC1", "99LOCAL", MARKER)
    assert holds(made(sr).data, MARKER) == []


def test_a_value_whose_vr_contradicts_the_dictionary_does_not_slip_past_the_rules_for_texts():
    ct = image()
    ct.add_new(0x00081090, "OB", MARKER.encode() + b"\0")  # ManufacturerModelName called bytes
    ct.add_new(0x00181016, "US", [0x5A51] * 6)  # SecondaryCaptureDeviceManufacturer called numbers: "QZQZ..."
    result = made(ct)
    assert holds(result.data, MARKER, "QZQZQZ") == []
    assert "ManufacturerModelName" not in read(result)


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [("PatientSex", "F", "F"), ("PatientSex", "DUPONT", ""), ("SmokingStatus", "YES", "YES"), ("SmokingStatus", "DUPONT", None),
     ("PatientSexNeutered", "ALTERED", "ALTERED"), ("EthnicGroup", "groupe Dupont", None), ("PatientSize", "1.71", 1.71)],
)  # fmt: skip
def test_characteristics_of_the_patient_stay_when_they_are_what_the_standard_lists(keyword, value, kept):
    ct = image()
    setattr(ct, keyword, value)
    assert read(made(ct)).get(keyword) == kept


def test_private_numbers_of_the_reviewed_list_stay_and_nothing_else_private():
    ct = image()
    block = ct.private_block(0x0019, "ACME DIFFUSION", create=True)
    block.add_new(0x0C, "IS", "800")
    block.add_new(0x0D, "LO", MARKER)
    block.add_new(0x0E, "DS", "1.5")
    reviewed = frozenset({("ACME DIFFUSION", 0x0019, 0x0C), ("ACME DIFFUSION", 0x0019, 0x0D)})
    result = made(ct, private=reviewed)
    kept = read(result)
    assert kept[0x0019100C].value in (800, b"800 ")
    assert [int(element.tag) for element in kept if element.tag.is_private] == [0x00190010, 0x0019100C]
    assert "113111" in result.methods
    assert [element for element in read(made(ct)) if element.tag.is_private] == []


@pytest.mark.parametrize(
    ("charset", "name", "description"),
    [
        ("ISO_IR 100", "GÉRÔME^Élise", "échographie rénale"),
        ("ISO_IR 192", "山田^太郎", "tumeur à droite"),
        ("ISO_IR 144", "Люкceмбypг^Poзa", "IRM"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", "IRM"),
        ("ISO_IR 126", "Διονυσιος", "IRM"),
    ],
)
def test_character_sets_are_read_and_texts_written_in_utf_8(charset, name, description):
    ct = image()
    ct.SpecificCharacterSet, ct.PatientName, ct.SeriesDescription = charset, name, description
    ct.ReferringPhysicianName, ct.OperatorsName = "QUEMENEUR^Loic", "MANIP^Solene"
    del ct.PatientAddress
    result = made(ct)
    assert read(result).SpecificCharacterSet == "ISO_IR 192"
    assert read(result).SeriesDescription == description
    for part in name.replace("=", "^").split("^"):
        assert part.encode() not in result.data


def test_text_that_does_not_fit_its_character_set_does_not_stay():
    ct = image()
    ct.SpecificCharacterSet, ct.SeriesDescription = "ISO_IR 192", "thorax"
    source = written(ct).replace(b"thorax", b"thor\xe9x")
    assert "SeriesDescription" not in read(a_case().made(source, what="the object"))


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.104.1",
        "1.2.840.10008.5.1.4.1.1.66",
        "1.2.840.10008.5.1.4.1.1.77.1.4.1",
        f"{ROOT}.55",
        "",
    ],
)
def test_ff50_a_class_that_is_not_allowed_is_a_persons_work(sop_class):
    ct = image()
    ct.SOPClassUID = sop_class
    with pytest.raises(Refused) as refused:
        made(ct)
    assert refused.value.code == "class-not-allowed"


def test_video_is_refused():
    us = image(US, "US")
    us.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    us.PixelData = b"\xfe\xff\0\xe0\0\0\0\0" + b"\xfe\xff\0\xe0\x04\0\0\0abcd"
    us["PixelData"].is_undefined_length = True
    with pytest.raises(Refused) as refused:
        made(us, seen=Seen())
    assert refused.value.code == "syntax-not-allowed"


def test_an_object_of_another_patient_is_refused_without_a_value():
    ct = image()
    ct.PatientID = "IPP-000001"
    with pytest.raises(Refused) as refused:
        made(ct)
    assert refused.value.code == "other-patient"
    assert "IPP" not in str(refused.value)


def test_an_object_without_its_identifiers_is_refused():
    ct = image()
    del ct.SeriesInstanceUID
    with pytest.raises(BadInput) as refused:
        made(ct)
    assert refused.value.code == "dicom-malformed"
    assert "SeriesInstanceUID" in str(refused.value)


def test_values_that_only_another_object_of_the_case_states_do_not_stay_either():
    ct, note = image(), key_objects([image()])
    ct.SoftwareVersions = "build KERVADEC"
    note.PerformingPhysicianName = "KERVADEC^Yann"
    everything = originals([written(ct), written(note)], what="the case")
    assert "KERVADEC" in read(made(ct)).SoftwareVersions
    result = a_case(originals=everything).made(written(ct), what="the object")
    assert read(result).SoftwareVersions == "build [...]"


def test_t53_two_campaigns_share_no_value_of_patient_time_or_instance():
    one, other = (read(made(report([image()]), campaign=campaign)) for campaign in ("c-1", "c-2"))

    def told(data_set):
        own = {str(data_set.PatientID), str(data_set.PatientName), str(data_set.StudyDate), str(data_set.ContentDate)}
        return own | {str(e.value) for e in data_set.iterall() if e.VR == "UI" and not registered(str(e.value))}

    assert len(told(one)) > 5
    assert not told(one) & told(other)


def test_ff51_the_same_object_gives_the_same_bytes_again():
    assert made(report([image()])).data == made(report([image()])).data


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"])
def test_compressed_pixels_stay_as_they_are_read(syntax):
    ct = compressed(image(frames=2), syntax)
    result = read(made(ct))
    assert result.file_meta.TransferSyntaxUID == syntax
    assert (result.pixel_array == ct.pixel_array).all()


def test_the_patient_is_named_alike_at_every_level():
    ct = image()
    ct.ReferencedImageSequence = [
        item(PatientID="IPP-778812", PatientName="LE GOFF^Maëlle", ReferencedSOPInstanceUID=f"{ROOT}.9")
    ]
    result = read(made(ct))
    inner = result.ReferencedImageSequence[0]
    assert (inner.PatientID, inner.PatientName) == (result.PatientID, result.PatientName)


def test_a_refused_object_says_no_value(caplog):
    sc = image(SC, "OT")
    with pytest.raises(Refused) as refused:
        made(sc)
    assert refused.value.code == "pixels-unseen"
    assert not any(value in str(refused.value) + caplog.text for value in ORIGINALS)


def test_well_known_instances_of_the_standard_keep_their_uid():
    ct = image()
    ct.PaletteColorLookupTableUID = "1.2.840.10008.1.5.1"
    assert read(made(ct)).PaletteColorLookupTableUID == "1.2.840.10008.1.5.1"


def test_identifiers_gathered_are_those_of_every_level():
    sr = report([image()])
    found = originals([written(sr)], what="the case")
    assert {"goff", "bertin", "maelle", "quemeneur", "loic"} <= found.names
    assert {"ipp-778812", "acc26030477", "etu4411", "clinique des trois moulins", "scanner-sud"} <= found.ids
    assert {date(1931, 1, 2), date(2026, 3, 4), date(2026, 3, 5)} <= found.days
    assert STUDY in found.uids
    assert not any(registered(uid) for uid in found.uids)
    assert "goff" not in repr(found)


def test_a_file_whose_meta_lies_about_the_class_is_written_by_its_data_set():
    ct = image()
    source = written(ct)
    lying = dcmread(BytesIO(source))
    lying.file_meta = FileMetaDataset(lying.file_meta)
    lying.file_meta.MediaStorageSOPClassUID = US
    stream = BytesIO()
    lying.save_as(stream)
    assert read(a_case().made(stream.getvalue(), what="the object")).file_meta.MediaStorageSOPClassUID == CT


def test_values_known_from_messages_are_looked_for_too():
    ct = image()
    ct.SoftwareVersions = "patch LANNUZEL"
    known = Identifiers.stated(names=["LANNUZEL^Enora"], days=[date(2026, 3, 1)])
    result = a_case(originals=known).made(written(ct), what="the object")
    assert read(result).SoftwareVersions == "patch [...]"


def test_base_objects_are_what_the_tests_think():
    assert base(CT, "CT").PatientID == SUBJECT.id


def test_a_long_number_under_a_local_code_is_a_dummy():
    sr = report([image()])
    sr.ContentSequence[3].ConceptCodeSequence = code("10101234567", "99RPPS", "Nodule")
    sr.ContentSequence[2].ConceptNameCodeSequence = code("363679005", "SCT", "Imaging")
    content = read(made(sr)).ContentSequence
    assert content[3].ConceptCodeSequence[0].CodeValue == "AUDIT"
    assert content[2].ConceptNameCodeSequence[0].CodeValue == "363679005"


def test_a_sequence_in_the_place_of_another_attribute_does_not_pass():
    ct = image()
    source = written(ct)
    false = struct.pack("<HH2sHL", 0x0018, 0x1016, b"SQ", 0, 0) + struct.pack("<HH2sHL", 0x0018, 0x1017, b"SQ", 0, 20)
    inner = struct.pack("<HHL", 0xFFFE, 0xE000, 12) + struct.pack("<HH2sH", 0x0008, 0x1090, b"LO", 4) + b"ZQXJ"
    at = source.index(b"\x18\x00\x20\x10LO")  # before SoftwareVersions
    result = a_case().made(source[:at] + false + inner + source[at:], what="the object")
    assert b"ZQXJ" not in result.data
    assert read(result).SoftwareVersions == "v7.1"


def test_bytes_behind_the_last_pixel_do_not_pass():
    ct = image()
    pixels = ct.PixelData
    ct.PixelData = pixels + MARKER.encode() + b"\0"
    assert read(made(ct)).PixelData == pixels


def test_a_binary_value_outside_the_list_does_not_pass():
    ct = image()
    ct.add_new(0x0008041B, "OB", MARKER.encode() + b"\0")  # RecordKey
    ct.add_new(0x00686300, "OB", MARKER.encode() + b"\0")  # HPGLDocument
    assert MARKER.encode() not in made(ct).data


def test_t51_an_object_in_which_a_value_stayed_is_blocked():
    ct = image()
    ct.PixelData = b"\0\0QUEMENEUR\0" + ct.PixelData[12:]  # what no walk over attributes sees
    with pytest.raises(Refused) as blocked:
        made(ct)
    assert blocked.value.code == "residue-found"
    assert "PixelData" in str(blocked.value)
    assert "QUEMENEUR" not in str(blocked.value).upper()


def test_t13_whatever_is_broken_comes_out_searched_or_is_refused_by_name():
    dice = random.Random(13)
    sources = [written(one, syntax=syntax) for one in exam() for syntax in PLAIN_SYNTAXES[:2]]
    case, outcomes, said = a_case(), set(), []
    for _ in range(250):
        data = bytearray(dice.choice(sources))
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(200, len(data))
            data[place : place + dice.choice([1, 1, 1, 4])] = dice.randbytes(dice.choice([1, 1, 1, 0, 4]))
        try:
            case.made(bytes(data), what="the object", seen=Seen())
            outcomes.add("made")
        except Fault as fault:
            outcomes.add(fault.code)
            said.append(str(fault))
    assert {"made", "dicom-truncated"} <= outcomes
    assert not any(value in message for message in said for value in ORIGINALS)
