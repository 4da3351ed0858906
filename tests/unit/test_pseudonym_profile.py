"""The table of PS3.15 and what is done by it (PS3.15 E.1, E.3)."""

from __future__ import annotations

import pytest
from pydicom.datadict import tag_for_keyword

from sampler.pseudonym import classes, profile
from sampler.pseudonym.profile import Action
from sampler.pseudonym.rois import is_nomenclature, kept_name
from tests.fixtures.pseudonym_objects import COMPREHENSIVE_SR, CT, PLAN


def action(keyword: str, *, sop_class: str = CT, root: bool = True) -> Action:
    return profile.action(tag_for_keyword(keyword), sop_class=sop_class, root=root)


def test_the_table_has_the_rows_of_the_edition():
    rows = profile.table()
    assert len(rows) == 656
    assert {key for key in rows if isinstance(key, str)} == {"odd", "50xxxxxx", "60xx3000", "60xx4000"}
    assert rows[0x00080050].basic == "Z"
    assert rows[0x00080022] == profile.Row(vr="DA", basic="X/Z", options=frozenset({"dates"}))
    assert rows[0x00102110].options == {"descriptors", "patient:C"}


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("AccessionNumber", Action.EMPTY),
        ("PatientBirthDate", Action.EMPTY),
        ("InstitutionAddress", Action.REMOVE),
        ("StudyInstanceUID", Action.UID),
        ("StudyDate", Action.MOVE),
        ("AcquisitionDateTime", Action.MOVE),
        ("StudyTime", Action.KEEP),
        ("SeriesDescription", Action.WORDS),
        ("Allergies", Action.WORDS),
        ("UnformattedTextValue", Action.WORDS),
        ("TextValue", Action.WORDS),
        ("PatientWeight", Action.KEEP),
        ("PatientAge", Action.KEEP),
        ("Manufacturer", Action.KEEP),
        ("DeviceUID", Action.UID),
        ("GantryID", Action.REMOVE),
        ("ContentSequence", Action.NEST),
        ("GraphicAnnotationSequence", Action.NEST),
        ("ReferencedImageSequence", Action.NEST),
        ("OriginalAttributesSequence", Action.REMOVE),
        ("IconImageSequence", Action.REMOVE),
        ("PersonIdentificationCodeSequence", Action.DUMMY),
        ("MakerNote", Action.REMOVE),
    ],
)
def test_each_row_acts_by_the_options_that_are_applied(keyword, expected):
    assert action(keyword) is expected


@pytest.mark.parametrize(
    ("keyword", "sop_class", "root", "expected"),
    [
        ("StationName", CT, True, Action.REMOVE),  # type 3 in General Equipment
        ("StationName", CT, False, Action.DUMMY),  # X/Z/D, type not known inside a sequence
        ("DeviceSerialNumber", CT, True, Action.REMOVE),
        ("DeviceSerialNumber", COMPREHENSIVE_SR, True, Action.DUMMY),  # type 1 in Enhanced General Equipment
        ("OperatorsName", CT, True, Action.REMOVE),
        ("OperatorsName", PLAN, True, Action.EMPTY),  # type 2 in RT Series
        ("ReviewerName", PLAN, True, Action.EMPTY),  # X/Z, type 2C
        ("TreatmentMachineName", PLAN, False, Action.EMPTY),  # X/Z, type not known
        ("DetectorID", CT, False, Action.DUMMY),  # X/D, type not known
        ("ContentCreatorName", CT, True, Action.EMPTY),  # Z/D, type 2
        ("ContentCreatorName", CT, False, Action.DUMMY),
    ],
)
def test_compound_actions_are_chosen_by_the_type_of_the_attribute(keyword, sop_class, root, expected):
    assert action(keyword, sop_class=sop_class, root=root) is expected


def test_every_compound_row_has_an_action_that_stays_valid():
    for tag, row in profile.table().items():
        if isinstance(tag, int) and "/" in row.basic:
            nested = profile.without_value(tag, sop_class=CT, root=False)
            assert nested is (Action.DUMMY if "D" in row.basic.split("/") else Action.EMPTY), f"{tag:08x}"


def test_the_allow_list_has_no_documents_raw_data_video_or_private_class():
    root = "1.2.840.10008.5.1.4.1.1."
    refused = {"104.1", "104.2", "104.3", "66", "77.1.1.1", "77.1.2.1", "77.1.4.1", "4.2", "9.7"}
    assert not {root + suffix for suffix in refused} & set(classes.KINDS)
    assert classes.KINDS[root + "88.67"] is classes.Kind.REPORT  # X-Ray Radiation Dose SR
    assert len(classes.KINDS) == 91


@pytest.mark.parametrize(
    "name",
    ["Lung_L", "SpinalCord", "SpinalCord_PRV05", "PTVp1_5000cGy", "CTVn", "GTVp", "PTV_High", "Glnd_Thyroid", "Lungs-GTV",
     "zPTVp2_6000", "Femur_Head_R", "brainstem", "Kidney_L", "ITV", "Bowel_Small"],
)  # fmt: skip
def test_region_names_of_the_nomenclature_stay(name):
    assert kept_name(name, "4", own_names=frozenset()) == name


@pytest.mark.parametrize(
    "name", ["contour Kerviel", "PTV LE GOFF", "Lung_L Dr K", "Dupont_L", "GTV_Kerviel", "", "A"]
)
def test_any_other_region_name_is_numbered(name):
    assert not is_nomenclature(name)
    assert kept_name(name, "4", own_names=frozenset()) == "ROI_4"
    assert kept_name(name, "Dupont", own_names=frozenset()) == "ROI_0"


def test_the_sites_own_dictionary_of_regions_is_kept():
    assert kept_name("Anneau 2cm", "9", own_names=frozenset({"Anneau 2cm"})) == "Anneau 2cm"
