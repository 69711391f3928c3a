"""The parity gate as a whole: equal models pass, worse ones are refused with what they lose."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bcseg_edge.cli import main
from bcseg_edge.errors import DataError
from bcseg_export.parity.command import ParityOptions, parity
from bcseg_export.parity.frames import GateFrame, collect_frames, frame_digest
from bcseg_export.parity.report import to_dict
from bcseg_export.parity.thresholds import DEFAULTS, Thresholds, read_thresholds
from tests.fixtures.checkpoints import write_checkpoint
from tests.fixtures.grey_busi import write_grey_busi
from tests.fixtures.tiny_model import seal, write_model

pytest.importorskip("onnxruntime", reason="the gate needs a backend")

CLASSES_SWAPPED = (0, 2, 1)


@pytest.fixture(scope="module")
def busi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grey_busi(tmp_path_factory.mktemp("data") / "busi")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("reference"), (64, 64))


def change_model(
    folder: Path,
    class_order: tuple[int, ...] = (0, 1, 2),
    malignant_offset: float = 0.0,
    colder: float = 1.0,
    precision: str = "int8",
) -> Path:
    """The tiny model with classes in another order, less belief in malignant lesions, or a lower temperature."""
    path = write_model(folder, (64, 64), name="changed")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name == "offsets":
            values[2] += malignant_offset
        tensor.CopyFrom(numpy_helper.from_array(values[list(class_order)] * np.float32(colder), tensor.name))
    onnx.save(model, path)
    seal(path, (64, 64), passport={"precision": precision})
    return path


def test_a_model_is_on_par_with_itself(reference: Path, busi: Path) -> None:
    report = parity(ParityOptions(reference, reference, data=busi))
    comparison = report.comparison
    assert report.passed
    assert (comparison.labels_equal, comparison.dice) == (1, (1, 1, 1))
    assert (comparison.count_lesions(), comparison.count_lost(), comparison.count_invented()) == (6, 0, 0)
    assert comparison.mean_iou == (1, 1)
    assert report.limits == DEFAULTS["fp32"]


def test_a_candidate_with_swapped_classes_is_refused(reference: Path, busi: Path, tmp_path: Path) -> None:
    report = parity(ParityOptions(reference, change_model(tmp_path, CLASSES_SWAPPED), data=busi))
    assert not report.passed
    assert report.comparison.count_reclassified() == 6
    assert report.comparison.count_lost() == 0
    assert [failure.split()[1:4] for failure in report.failures[:2]] == [
        ["Dice", "of", "benign"],
        ["Dice", "of", "malignant"],
    ]
    assert "mean IoU lost" in report.failures[2]


def test_a_candidate_without_malignant_lesions_is_refused_by_what_it_loses(
    reference: Path, busi: Path, tmp_path: Path
) -> None:
    # Benign is then the answer to malignant grey: the lesion stays, its class goes.
    report = parity(ParityOptions(reference, change_model(tmp_path, malignant_offset=-9), data=busi))
    assert report.comparison.count_reclassified() == 3
    assert any("Dice of malignant" in failure for failure in report.failures)


def test_lost_lesions_are_refused(reference: Path, busi: Path, tmp_path: Path) -> None:
    report = parity(ParityOptions(reference, change_model(tmp_path, (0, 0, 0)), data=busi))
    assert report.comparison.count_lost(20) == 6
    assert any(failure.startswith("6 lesions lost of 6 above 20 px, at most 1 %") for failure in report.failures)


def test_the_report_is_json_markdown_and_pictures(reference: Path, busi: Path, tmp_path: Path) -> None:
    candidate = change_model(tmp_path, CLASSES_SWAPPED)
    report = parity(ParityOptions(reference, candidate, data=busi, report=tmp_path / "report"))
    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert files == {"parity.json", "parity.md", *(f"worst_{rank}.png" for rank in range(1, 6))}
    content = json.loads((tmp_path / "report" / "parity.json").read_text())
    assert content == json.loads(json.dumps(to_dict(report)))
    assert content["passed"] is False
    assert content["figures"]["lesions_reclassified"] == 6
    text = (tmp_path / "report" / "parity.md").read_text()
    assert "# Parity: FAILED" in text
    assert "![worst_1](worst_1.png)" in text
    picture = cv2.imread(str(tmp_path / "report" / "worst_1.png"))
    assert picture.shape[1] > 4 * 120  # frame, truth, reference, candidate


@pytest.mark.parametrize("precision", DEFAULTS)
def test_a_candidate_of_another_temperature_is_refused(
    reference: Path, busi: Path, tmp_path: Path, precision: str
) -> None:
    report = parity(ParityOptions(reference, change_model(tmp_path, colder=129, precision=precision), data=busi))
    assert report.comparison.labels_equal == 1
    (failure,) = report.failures
    assert "mean difference of confidence" in failure


@pytest.mark.parametrize(("order", "code"), [((0, 1, 2), 0), (CLASSES_SWAPPED, 3)])
def test_the_command_exits_by_the_verdict(
    reference: Path,
    busi: Path,
    tmp_path: Path,
    order: tuple[int, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    candidate = change_model(tmp_path, order)
    monkeypatch.setattr("sys.argv", ["bcseg-edge", "parity", str(reference), str(candidate), "--data", str(busi)])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert (caught.value.code or 0) == code
    assert "| Dice of malignant |" in printed.out
    assert ("Dice of malignant against the reference" in printed.err) == (code == 3)


def test_checkpoint_against_itself_on_pytorch(busi: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    report = parity(ParityOptions(checkpoint, checkpoint, data=busi, max_images=4))
    assert report.passed
    assert report.candidate.backend == "torch"
    assert report.frame_ms > 0


def test_a_reference_that_finds_nothing_proves_nothing(reference: Path, tmp_path: Path) -> None:
    nothing = write_grey_busi(tmp_path / "normal", classes=("normal",))
    with pytest.raises(DataError, match="finds no lesion in 3 frames"):
        parity(ParityOptions(reference, reference, data=nothing))


@pytest.mark.parametrize(
    ("limits", "failures"),
    [
        (Thresholds(), []),
        (Thresholds(max_lost=0, max_invented=0, max_iou_loss=0), ["mean IoU"]),
        (Thresholds(min_labels_equal=0.99), ["labels equal to"]),
    ],
)
def test_only_given_limits_are_judged(
    reference: Path, busi: Path, tmp_path: Path, limits: Thresholds, failures: list[str]
) -> None:
    candidate = change_model(tmp_path, CLASSES_SWAPPED)
    received = parity(ParityOptions(reference, candidate, data=busi, thresholds=limits)).failures
    assert all(word in failure for word, failure in zip(failures, received, strict=True))


def test_thresholds_are_data(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(DEFAULTS["int8"].model_dump_json())
    assert read_thresholds(path) == DEFAULTS["int8"]


@pytest.mark.parametrize("text", ["", "[]", '{"min_dice": 2}', '{"min_dise": 0.9}'])
def test_thresholds_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "limits.json"
    path.write_text(text)
    with pytest.raises(DataError, match="holds no thresholds") as caught:
        read_thresholds(path)
    assert "min_dice" in caught.value.hint


def test_the_defaults_of_the_issue() -> None:
    assert (DEFAULTS["fp16"].min_dice, DEFAULTS["fp16"].max_iou_loss, DEFAULTS["fp16"].max_lost) == (0.99, 0.5, 0)
    assert (DEFAULTS["int8"].min_dice, DEFAULTS["int8"].max_iou_loss, DEFAULTS["int8"].max_lost) == (0.97, 0.5, 0.01)
    assert {limits.lesion_px for limits in DEFAULTS.values()} == {20}


@pytest.mark.parametrize("field", ["max_invented", "max_reclassified", "max_mean_confidence_difference"])
def test_a_file_of_lower_precision_may_do_more(field: str) -> None:
    fp32, fp16, int8 = (getattr(DEFAULTS[precision], field) for precision in ("fp32", "fp16", "int8"))
    assert fp32 <= fp16 < int8


def test_phantom_frames_are_the_same_every_time_and_have_no_truth() -> None:
    first, second = (collect_frames(None, max_images=2) for _ in range(2))
    assert [frame.digest for frame in first.frames] == [frame.digest for frame in second.frames]
    assert {frame.truth for frame in first.frames} == {None}


def test_a_digest_is_of_grey_values_not_of_files(busi: Path) -> None:
    image = collect_frames(busi).frames[0].image
    colour = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    assert frame_digest(colour) == frame_digest(image) == GateFrame("other name", image).digest
    assert frame_digest(image) != frame_digest(image[:, :-1])
