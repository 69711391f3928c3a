"""`import bcseg_edge` needs nothing heavier than numpy and OpenCV: with the rest blocked, the path of a frame runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "pydicom",
    "highdicom",
    "starlette",
    "uvicorn",
    "av",
    "pydantic",
    "typer",
    "rich",
)
BLOCK = f"""
import sys
from importlib.abc import MetaPathFinder

class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Block())
"""


def run(code):
    """Run `code` in a fresh interpreter with the heavy packages blocked; return what it printed."""
    process = subprocess.run(
        [sys.executable, "-c", BLOCK + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_the_import_loads_nothing_heavy_and_not_even_opencv():
    loaded = run("import bcseg_edge; print(*sorted({name.split('.')[0] for name in sys.modules}))")
    assert "bcseg_edge" in loaded
    assert not {*HEAVY, "numpy", "cv2"} & set(loaded)


def test_a_frame_is_segmented_and_measured_without_them():
    printed = run("""
import numpy as np, bcseg_edge

class Model:
    window_hw, tiling, max_batch = (32, 32), "paper", 16
    def infer(self, patches):
        logits = np.zeros((len(patches), 3, 32, 32), np.float32)
        logits[:, 1] = patches[:, 0] - 100.0
        return logits
    def close(self):
        pass

frame = np.zeros((64, 64), np.uint8)
frame[20:40, 10:30] = 255
for tiling in ("paper", "overlap"):
    (lesion,) = bcseg_edge.find_lesions(bcseg_edge.Segmenter(Model(), tiling)(frame), (0.1, 0.1))
    print(lesion.name, lesion.area_px)
print(bcseg_edge.TileGrid((64, 64), (32, 32), "paper").count, bcseg_edge.errors.BcsegError.exit_code)
""")
    assert printed == ["benign", "400", "benign", "400", "4", "1"]


def test_the_phantom_runs_without_them():
    printed = run("""
import bcseg_edge
with bcseg_edge.open_source("phantom:64x48@30") as source:
    print(next(iter(source)).image.shape[:2])
""")
    assert " ".join(printed) == "(48, 64)"


def test_a_missing_package_shows_only_where_it_is_needed():
    printed = run("""
import pathlib, types
import bcseg_edge.backends, bcseg_edge.backends.openvino, bcseg_edge.backends.onnxruntime
passport = types.SimpleNamespace(target="cpu")
try:
    bcseg_edge.backends.create_backend("openvino", pathlib.Path("a.onnx"), passport)
except bcseg_edge.BcsegError as error:
    print(error.hint)
""")
    assert " ".join(printed) == 'pip install "bcseg-edge[cpu]"'


def test_every_public_name_resolves():
    pytest.importorskip("pydantic")
    import bcseg_edge

    for name in bcseg_edge.__all__:
        assert getattr(bcseg_edge, name) is not None
    assert dir(bcseg_edge) == sorted(bcseg_edge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bcseg_edge.nothing
    assert (Path(bcseg_edge.__file__).parent / "py.typed").is_file()
