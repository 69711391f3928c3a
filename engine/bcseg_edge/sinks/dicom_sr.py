"""The lesions of a DICOM image or cine as one measurement report: DICOM SR by template TID 1500 (PS3.16).

Each lesion is a group of its own (TID 1410, planar region), measured in the frame in which it is largest: its tracking
id, the frame of the segmentation and of the source that it was measured in, axes and area, class and certainty. Lengths
and areas are given in mm and mm2, or not at all: where the size of a pixel is unknown there is no unit that a reader
could not mistake. Where nothing was found there is no report: the template has no empty one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcseg_edge.frames import Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.dicom_file import write_dicom
from bcseg_edge.sinks.dicom_seg import SEGMENTATION_CLASS, DicomSegSink
from bcseg_edge.sinks.dicom_text import (
    BREAST,
    COPIED,
    LESION,
    MODIFIERS,
    PRIVATE_SCHEME,
    SegmentationFacts,
    concept,
    sct,
)
from bcseg_edge.sinks.lesion_links import LesionLinks, LinkedLesion
from bcseg_edge.sources.dicom import DicomSource

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# DICOM has no code for a program's guess at a class ("Assessment" is a radiologist's): a private one, in its scheme.
_CLASS = ("LESION_CLASS", PRIVATE_SCHEME, "Class of lesion, estimated by a program")


class DicomSrSink:
    """Writes the lesions of a `DicomSource` as a Comprehensive SR; the file gets its name when it is closed.

    Args:
        path: the file; its folder is made.
        source: that the frames come from.
        facts: about the model.
        segmentation: sink of the labels, which the report refers to; it gets the same frames.
        deidentify: leave the patient's and the study's tags empty but for the study's UID.
    """

    def __init__(
        self,
        path: Path,
        source: DicomSource,
        facts: SegmentationFacts,
        segmentation: DicomSegSink,
        deidentify: bool = False,
    ) -> None:
        self.path = path
        self._source = source
        self._facts = facts
        self._segmentation = segmentation
        self._deidentify = deidentify
        self._links = LesionLinks()
        self._closed = False

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Keep one frame's lesions."""
        self._links.add(frame.index, lesions)

    def close(self) -> None:
        """Write the file, unless nothing was found; a second call does nothing. DataError where that fails."""
        if self._closed or not self._links.lesions:  # the template asks for at least one group
            return
        self._closed = True
        write_dicom(self.path, self._report)

    def _report(self) -> Any:
        import highdicom
        from highdicom import sr
        from pydicom.sr.codedict import codes

        header = self._source.header
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=self._observer()),
            procedure_reported=codes.SCT.UltrasonographyOfBreast,
            imaging_measurements=[self._group(linked) for linked in self._links.lesions],
            referenced_images=[self._source_evidence()],
        )
        report: Any = sr.ComprehensiveSR(
            evidence=[self._source_evidence(), self._segmentation_evidence()],
            content=content,
            series_instance_uid=highdicom.UID(),
            series_number=(int(header.get("SeriesNumber") or 0) % 10_000) + 20_000,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="bcseg-edge",
            manufacturer_model_name=self._facts.model,
            device_serial_number=self._facts.model_sha256[:16],
            software_versions=self._facts.version,
            is_complete=True,
        )
        report.SeriesDescription = "Breast lesion measurements, research only"
        return report

    def _observer(self) -> Any:
        import highdicom
        from highdicom import sr
        from pydicom.sr.codedict import codes

        device = sr.DeviceObserverIdentifyingAttributes(
            uid=highdicom.UID(),
            name="bcseg-edge",
            manufacturer_name="bcseg-edge",
            model_name=self._facts.model,
            serial_number=self._facts.model_sha256[:16],
        )
        return sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)

    def _group(self, linked: LinkedLesion) -> Any:
        """One lesion."""
        import highdicom
        from highdicom import sr

        lesion = linked.lesion
        shown = sr.ReferencedSegmentationFrame(
            sop_class_uid=SEGMENTATION_CLASS,
            sop_instance_uid=self._segmentation.sop_instance_uid,
            frame_number=self._segmentation.frame_number(lesion.label, linked.index),
            segment_number=lesion.label,
            source_image=sr.SourceImageForSegmentation(*self._source_frame(linked.index)),
        )
        # highdicom names both. The frame alone tells the segment, whose number is not allowed then (PS3.3 table 10-3).
        del shown[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(highdicom.UID(), f"Lesion {linked.number}"),
            referenced_segment=shown,
            finding_type=sct(*LESION),
            finding_sites=[sr.FindingSite(sct(*BREAST))],
            algorithm_id=sr.AlgorithmIdentification(
                name=f"bcseg-edge {self._facts.model}",
                version=self._facts.version,
                parameters=[f"model_sha256={self._facts.model_sha256}"],
            ),
            measurements=self._measurements(linked),
            qualitative_evaluations=[sr.QualitativeEvaluation(sr.CodedConcept(*_CLASS), sct(*MODIFIERS[lesion.label]))],
        )

    def _measurements(self, linked: LinkedLesion) -> list[Any]:
        """Axes and area where they are known in mm, and how sure the program is."""
        from highdicom import sr
        from pydicom.sr.codedict import codes

        lesion = linked.lesion
        certainty = sr.Measurement(
            concept(codes.DCM.CertaintyOfFinding), round(100 * lesion.confidence, 1), codes.UCUM.Percent
        )
        if lesion.long_axis_mm is None or lesion.short_axis_mm is None or lesion.area_mm2 is None:
            return [certainty]
        millimetres, squared = codes.UCUM.Millimeter, codes.UCUM.SquareMillimeter
        return [
            sr.Measurement(codes.SCT.LongAxis, round(lesion.long_axis_mm, 2), millimetres),
            sr.Measurement(codes.SCT.ShortAxis, round(lesion.short_axis_mm, 2), millimetres),
            sr.Measurement(codes.SCT.Area, round(lesion.area_mm2, 2), squared),
            certainty,
        ]

    def _source_frame(self, index: int) -> tuple[str, str, list[int] | None]:
        """SOP class, instance and frame number (None for a still image) of a frame of the source."""
        header = self._source.header
        is_cine = int(header.get("NumberOfFrames") or 1) > 1
        return header.SOPClassUID, header.SOPInstanceUID, [index + 1] if is_cine else None

    def _source_evidence(self) -> Dataset:
        """What highdicom may know of the source: it copies all of the patient and study that it finds."""
        from pydicom.dataset import Dataset

        header = self._source.header
        evidence = Dataset()
        for keyword in COPIED.values():
            setattr(evidence, keyword, None if self._deidentify else header.get(keyword) or None)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality"):
            setattr(evidence, keyword, header.get(keyword))
        evidence.Rows, evidence.Columns = self._source.frame_hw
        evidence.SpecificCharacterSet = "ISO_IR 192"
        return evidence

    def _segmentation_evidence(self) -> Dataset:
        from pydicom.dataset import Dataset

        evidence = Dataset()
        evidence.StudyInstanceUID = self._source.header.StudyInstanceUID
        evidence.SeriesInstanceUID = self._segmentation.series_instance_uid
        evidence.SOPInstanceUID = self._segmentation.sop_instance_uid
        evidence.SOPClassUID = SEGMENTATION_CLASS
        return evidence
