"""The labels of a DICOM cine as one DICOM Segmentation (PS3.3 A.51), for a PACS or a viewer.

highdicom gives the modules and their checks. The frames are put together here, since highdicom takes only single frames
of images without a frame of reference, as ultrasound is (its issue 284): each frame of the segmentation names the
frame of the cine that it was derived from, and has its number as position in a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_edge.errors import BackendUnavailable, DataError
from bcseg_edge.frames import BENIGN, MALIGNANT, Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.dicom_file import write_dicom
from bcseg_edge.sinks.dicom_text import COPIED, SegmentationFacts, concept, segment_description
from bcseg_edge.sinks.folder import make_folder
from bcseg_edge.sources.dicom import DicomSource

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SEGMENTS = (BENIGN, MALIGNANT)  # segment numbers are the labels
SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"


class DicomSegSink:
    """Writes the labels of a `DicomSource` as a binary DICOM Segmentation; the file gets its name when it is closed.

    Frames without a label are left out, as the standard allows. Of the source's tags only those in `COPIED` appear.

    Attributes:
        sop_instance_uid, series_instance_uid: that the file will have.

    Args:
        path: the file; its folder is made.
        source: that the frames come from.
        facts: about the model.
        deidentify: leave the patient's and the study's tags empty but for the study's UID.

    Raises:
        DataError: the folder cannot be written, or the source lacks a tag that a reference to it needs.
        BackendUnavailable: highdicom is not installed.
    """

    def __init__(self, path: Path, source: DicomSource, facts: SegmentationFacts, deidentify: bool = False) -> None:
        try:
            import highdicom
        except ImportError as error:
            raise BackendUnavailable(
                "DICOM output needs the package 'highdicom', which is not installed", 'pip install "bcseg-edge[dicom]"'
            ) from error
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            if not source.header.get(keyword):
                raise DataError(
                    f"{source.path} has no {keyword}, so that no segmentation can refer to it", "leave out --output"
                )
        self.path = path
        self.sop_instance_uid: str = highdicom.UID()
        self.series_instance_uid: str = highdicom.UID()
        make_folder(path.parent)
        self._source = source
        self._facts = facts
        self._deidentify = deidentify
        self._found: list[tuple[int, int, bytes]] = []  # (segment, frame number from 1, packed bits)
        self._frames = 0
        self._closed = False

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Keep one frame's labels: an eighth of a byte a pixel and class."""
        self._frames += 1
        left, top, width, height = self._source.crop_xywh
        for label in _SEGMENTS:
            member = segmentation.labels == label
            if member.any():
                whole = np.zeros(self._source.frame_hw, np.bool_)
                whole[top : top + height, left : left + width] = member
                self._found.append((label, frame.index + 1, np.packbits(whole, bitorder="little").tobytes()))

    def frame_number(self, label: int, index: int) -> int:
        """Number in the file, from 1, of the frame that shows `label` in the source's frame `index`, once all are in.

        Raises:
            ValueError: that label was not seen in that frame.
        """
        return [(segment, number) for segment, number, _ in sorted(self._found)].index((label, index + 1)) + 1

    def close(self) -> None:
        """Write the file; a second call does nothing. DataError where that fails."""
        if self._closed or not self._frames:
            return
        self._closed = True
        write_dicom(self.path, self._dataset)

    def _dataset(self) -> Any:
        rows, columns = self._source.frame_hw
        if not self._found:  # an image has at least one frame (PS3.3 C.7.6.16): empty ones say that nothing was found
            self._found = [(label, 1, bytes((rows * columns + 7) // 8)) for label in _SEGMENTS]
        # Bits run on from frame to frame without padding (PS3.5 8.1.1): only multiples of 8 px can be joined as bytes.
        frames = sorted(self._found)
        if rows * columns % 8 == 0:
            pixels = b"".join(bits for _, _, bits in frames)
        else:
            flat = [
                np.unpackbits(np.frombuffer(bits, np.uint8), count=rows * columns, bitorder="little")
                for *_, bits in frames
            ]
            pixels = np.packbits(np.concatenate(flat), bitorder="little").tobytes()
        dataset = _empty_segmentation(self._source.header, self._facts, self._deidentify)
        dataset.SOPInstanceUID, dataset.SeriesInstanceUID = self.sop_instance_uid, self.series_instance_uid
        dataset.file_meta.MediaStorageSOPInstanceUID = self.sop_instance_uid
        dataset.Rows, dataset.Columns = rows, columns
        dataset.NumberOfFrames = len(frames)
        dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
        dataset["PixelData"].VR = "OB"
        _add_functional_groups(dataset, self._source, [(label, number) for label, number, _ in frames])
        return dataset


def _empty_segmentation(source: Dataset, facts: SegmentationFacts, deidentify: bool) -> Any:
    """All of the object but its frames: what it is, of whom, made by what, from which image."""
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian

    copied = {} if deidentify else {keyword: source.get(keyword) or None for keyword in COPIED.values()}
    dataset: Any = highdicom.SOPClass(
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=highdicom.UID(),
        series_number=(int(source.get("SeriesNumber") or 0) % 10_000) + 10_000,
        sop_instance_uid=highdicom.UID(),
        sop_class_uid=SEGMENTATION_CLASS,
        instance_number=1,
        modality="SEG",
        manufacturer="bcseg-edge",
        manufacturer_model_name=facts.model,
        device_serial_number=facts.model_sha256[:16],
        software_versions=facts.version,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **{argument: copied.get(keyword) for argument, keyword in COPIED.items()},
    )
    dataset.SeriesDescription = "Breast lesions, research only"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "LESIONS"
    dataset.ContentDescription = "Breast lesions found by a program; research only"
    dataset.ContentCreatorName = None
    dataset.PatientOrientation = None
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "NO"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    lossy = source.get("LossyImageCompression") or "00"
    dataset.LossyImageCompression = lossy
    if lossy == "01":
        dataset.LossyImageCompressionRatio = source.get("LossyImageCompressionRatio") or 1
        dataset.LossyImageCompressionMethod = source.get("LossyImageCompressionMethod") or "ISO_10918_1"
    dataset.SegmentSequence = [segment_description(label, facts) for label in _SEGMENTS]
    return dataset


def _add_functional_groups(dataset: Any, source: DicomSource, frames: Sequence[tuple[int, int]]) -> None:
    """Say of each frame which segment it shows and which frame of the cine it was derived from."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    header = source.header
    series = Dataset()
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedInstanceSequence = [_reference(header)]
    dataset.ReferencedSeriesSequence = [series]
    organization = Dataset()
    organization.DimensionOrganizationUID = generate_uid()
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionIndexSequence = [
        _dimension(organization.DimensionOrganizationUID, *pointers)
        for pointers in ((0x0062000B, 0x0062000A), (0x00209057, 0x00209111))  # segment; position in the stack
    ]
    dataset.SharedFunctionalGroupsSequence = [Dataset()]  # pixel measures would name a slice thickness: see the cine
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(header, label, number) for label, number in frames]


def _frame_groups(header: Dataset, label: int, number: int) -> Any:
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    groups: Any = Dataset()
    content = Dataset()
    content.DimensionIndexValues = [label, number]
    content.StackID, content.InStackPositionNumber = "1", number
    groups.FrameContentSequence = [content]
    segment = Dataset()
    segment.ReferencedSegmentNumber = label
    groups.SegmentIdentificationSequence = [segment]
    image = _reference(header)
    if int(header.get("NumberOfFrames") or 1) > 1:
        image.ReferencedFrameNumber = number
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [concept(codes.DCM.SourceImageForImageProcessingOperation)]
    derivation = Dataset()
    derivation.SourceImageSequence = [image]
    derivation.DerivationCodeSequence = [concept(codes.DCM.Segmentation)]
    groups.DerivationImageSequence = [derivation]
    return groups


def _reference(header: Dataset) -> Any:
    from pydicom.dataset import Dataset

    item: Any = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def _dimension(organization: str, pointer: int, group: int) -> Any:
    from pydicom.dataset import Dataset

    item: Any = Dataset()
    item.DimensionOrganizationUID = organization
    item.DimensionIndexPointer = pointer
    item.FunctionalGroupPointer = group
    return item
