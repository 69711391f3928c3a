"""The words and codes of DICOM outputs, and the tags that they take over from the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bcseg_edge.drawing import COLOURS_BGR
from bcseg_edge.frames import BENIGN, CLASSES, MALIGNANT

# All that leaves the source, besides its UIDs: argument of highdicom's SOPClass -> tag. Types 1 and 2 of the patient
# and study modules, without which a PACS cannot file the object with its patient. Nothing else is ever copied.
COPIED = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "accession_number": "AccessionNumber",
    "referring_physician_name": "ReferringPhysicianName",
}

# SNOMED CT, as DICOM's context groups name them: what is segmented is a lesion (CID 7159); the modifier (CID 6063) is
# the program's guess and not a diagnosis.
_CATEGORY = ("49755003", "Morphologically Abnormal Structure")
LESION = ("52988006", "Lesion")
BREAST = ("76752008", "Breast")
MODIFIERS = {BENIGN: ("30807003", "Benign"), MALIGNANT: ("21594007", "Malignant")}

PRIVATE_SCHEME = "99BCSEG"  # of what no standard has a code for; 99 begins private schemes (PS3.16 8)


@dataclass(frozen=True, slots=True)
class SegmentationFacts:
    """What made a segmentation.

    Attributes:
        model: name of the model.
        model_sha256: of its file.
        version: of this program.
    """

    model: str
    model_sha256: str
    version: str


def segment_description(label: int, facts: SegmentationFacts) -> Any:
    """The description of a class as a segment, with codes, the algorithm and the colour of our overlays."""
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=f"bcseg-edge {facts.model}",
        family=codes.DCM.ArtificialIntelligence,
        version=facts.version,
        parameters={"model_sha256": facts.model_sha256},
    )
    description: Any = highdicom.seg.SegmentDescription(
        segment_number=label,
        segment_label=f"{CLASSES[label]} breast lesion",
        segmented_property_category=sct(*_CATEGORY),
        segmented_property_type=sct(*LESION),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        anatomic_regions=[sct(*BREAST)],
        display_color=_cielab(COLOURS_BGR[label]),
    )
    kind = description.SegmentedPropertyTypeCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence = [sct(*MODIFIERS[label])]
    return description


def concept(code: Any) -> Any:
    """A code of pydicom's dictionary as an item of a code sequence."""
    import highdicom

    return highdicom.sr.CodedConcept(code.value, code.scheme_designator, code.meaning)


def sct(value: str, meaning: str) -> Any:
    """A code of SNOMED CT."""
    import highdicom

    return highdicom.sr.CodedConcept(value, "SCT", meaning)


def _cielab(colour_bgr: tuple[int, int, int]) -> Any:
    """Recommended Display CIELab Value of a colour."""
    import cv2
    import highdicom
    import numpy as np

    pixel = np.array([[colour_bgr]], np.float32) / 255
    lightness, a, b = cv2.cvtColor(pixel, cv2.COLOR_BGR2Lab)[0, 0].tolist()
    return highdicom.color.CIELabColor(lightness, a, b)
