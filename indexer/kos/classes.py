"""What a SOP class says of its instances: the value type of a reference to them, the modality that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal

from pydicom.uid import UID

from security.identity import Uid

SOP_CLASS = Uid("1.2.840.10008.5.1.4.1.1.88.59")  # Key Object Selection Document Storage

ValueType = Literal["IMAGE", "WAVEFORM", "COMPOSITE"]

_IMAGES_BY_ANOTHER_NAME = frozenset(  # PS3.3 image IODs whose SOP class is not called "… Image Storage"
    {
        "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume
        "1.2.840.10008.5.1.4.1.1.77.1.5.8",  # Ophthalmic OCT B-scan Volume Analysis
        "1.2.840.10008.5.1.4.1.1.81.1",  # Ophthalmic Thickness Map
        "1.2.840.10008.5.1.4.1.1.82.1",  # Corneal Topography Map
    }
)
_MODALITIES: Mapping[str, str] = MappingProxyType(
    {
        "Computed Radiography Image Storage": "CR",
        "Digital X-Ray Image": "DX",
        "Digital Mammography": "MG",
        "Breast Tomosynthesis": "MG",
        "CT Image Storage": "CT",
        "MR Image Storage": "MR",
        "MR Color Image Storage": "MR",
        "Ultrasound": "US",
        "X-Ray Angiographic": "XA",
        "X-Ray Radiofluoroscopic": "RF",
        "Nuclear Medicine": "NM",
        "Positron Emission Tomography": "PT",
        "PET Image Storage": "PT",
        "Key Object Selection": "KO",
        "Presentation State": "PR",
        " SR Storage": "SR",
    }
)


@cache
def value_type(sop_class: str) -> ValueType:
    """Value type of a reference to an instance of this class (PS3.3 C.18.3 to C.18.5).

    By the registered name, retired classes included; a private class is a COMPOSITE: nothing says it is an image.
    """
    name = UID(sop_class).name
    if "Image Storage" in name or sop_class in _IMAGES_BY_ANOTHER_NAME:
        return "IMAGE"
    return "WAVEFORM" if "Waveform Storage" in name else "COMPOSITE"


@cache
def modality(sop_class: str) -> str:
    """The modality that alone makes instances of this class, "" where several do (Secondary Capture) or none is.

    A conclusion of ours from the class's registered name, for documents that state no modality.
    """
    name = UID(sop_class).name
    return next((code for part, code in _MODALITIES.items() if part in name), "")
