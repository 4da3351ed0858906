"""What pixels may show that no attribute says: text burnt in, drawings in unused bits, a face (FF-50).

Invariants:

* an image at risk waits for a person; the modality's risk alone is lifted by ``BurnedInAnnotation`` NO;
* what cannot be told counts as a risk.

Leaves to others: masking (``masks``); who may confirm.
"""

from __future__ import annotations

from enum import Enum

from sampler.pseudonym import classes, reading
from sampler.pseudonym.identifiers import fold
from sampler.pseudonym.reading import Level


class Risk(Enum):
    """Why a person must look at an image before an auditor does."""

    STATED = "the image says that text is burnt in"
    MODALITY = "images of this modality often hold burnt-in text, and the image does not say that it has none"
    SCREEN = "a localizer, a dose sheet or a captured screen"
    OVERLAY = "a drawing stands in unused bits of the pixels"
    LABEL = "the picture of a slide's label"


_MODALITIES = frozenset({"US", "IVUS", "SC", "XC", "ES", "OT", "XA", "RF", "PX", "GM", "SM", "DOC", ""})
_SCREENS = frozenset(
    {"LOCALIZER", "LOCALISER", "SCREEN SAVE", "SCREENSAVE", "SCREEN", "SCREENSHOT", "DOSE", "DOSE_INFO", "REPORT"}
)
_SCREEN_WORDS = (
    "dose",
    "screen save",
    "screensave",
    "screenshot",
    "patient protocol",
    "protocole patient",
    "exam summary",
)
_LABELS = frozenset({"LABEL", "OVERVIEW"})
_FACELESS = (
    "ABDOMEN ABDOMENPELVIS ACJOINT ANKLE ANUS AORTA ARM BACK BLADDER BREAST BRONCHUS CALCANEUS CALF CHEST "
    "CHESTABDOMEN CLAVICLE COCCYX COLON CTSPINE ELBOW EXTREMITY FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEART "
    "HIP HUMERUS KIDNEY KNEE LEG LIVER LSPINE LUMBAR LUNG PANCREAS PELVIS PROSTATE RIB SACRUM SCAPULA SHOULDER "
    "SIJOINT SPLEEN STERNUM THIGH THORAX TOE TSPINE URETER UTERUS WRIST"
)  # PS3.16 L: body parts whose images show no face
_WITHOUT_FACE = frozenset(_FACELESS.split())
_FACES = frozenset({"CT", "MR", "PT"})


def risks(level: Level, *, sop_class: str) -> tuple[Risk, ...]:
    """Why a person must look first; none for what has no pixels."""
    if classes.KINDS.get(sop_class) is not classes.Kind.IMAGE:
        return ()
    burnt, modality = _coded(level, 0x00280301), _coded(level, 0x00080060)
    image_type = set(_coded(level, 0x00080008).split("\\"))
    found: list[Risk] = []
    if burnt == "YES":
        found.append(Risk.STATED)
    if burnt not in {"YES", "NO"} and (modality in _MODALITIES or sop_class in classes.SECONDARY_CAPTURES):
        found.append(Risk.MODALITY)
    if image_type & _SCREENS or _says_screen(level):
        found.append(Risk.SCREEN)
    if image_type & _LABELS or _coded(level, 0x00480010) == "YES":
        found.append(Risk.LABEL)
    if _embedded_overlay(level):
        found.append(Risk.OVERLAY)
    return tuple(found)


def shows_face(level: Level, *, sop_class: str) -> bool:
    """Whether volume images may let a face be drawn from them: then they are shown, never given as files."""
    if classes.KINDS.get(sop_class) is not classes.Kind.IMAGE or _coded(level, 0x00080060) not in _FACES:
        return False
    return _coded(level, 0x00180015).replace(" ", "") not in _WITHOUT_FACE


def _says_screen(level: Level) -> bool:
    shown = (level.held[tag] for tag in (0x0008103E, 0x00204000) if tag in level.held)
    said = " ".join(fold(reading.text_of(held, level.charset).value) for held in shown)
    return any(words in said for words in _SCREEN_WORDS)


def _embedded_overlay(level: Level) -> bool:
    """An overlay without data of its own: its bits are in the pixels (PS3.5 8.1.2, retired)."""
    groups = {tag >> 16 for tag in level.held if tag >> 24 == 0x60 and not tag >> 16 & 1}
    return any(group << 16 | 0x3000 not in level.held for group in groups)


def _coded(level: Level, tag: int) -> str:
    return level.raw_text(tag).upper()
