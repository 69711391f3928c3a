"""The wheel carries all that a cart needs: installed elsewhere, it segments with the shipped model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    process = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", ".", str(ROOT), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel), cwd=folder)
    return target


@pytest.mark.slow
def test_an_installed_wheel_segments_with_its_own_model(installed: Path, tmp_path: Path) -> None:
    where = run(
        "-c", "import bcseg_edge, bcseg_train; print(bcseg_edge.__file__)", cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert Path(where.strip()).is_relative_to(installed), "the source tree was imported instead"
    arguments = ["run", "phantom:320x240@30", "--max-frames", "3", "--output", "out", "--json"]
    summary = json.loads(run("-m", "bcseg_edge", *arguments, cwd=tmp_path, PYTHONPATH=str(installed)))
    assert summary["frames"] == 3
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 3
    assert (installed / "bcseg_edge" / "py.typed").is_file()
    assert (installed / "bcseg_edge" / "cuda" / "kernels.cu").is_file()
    assert {path.suffix for path in (installed / "bcseg_edge" / "live" / "view").iterdir()} >= {".html", ".css", ".js"}
    assert (installed / "bcseg_train" / "recipes" / "strong.toml").is_file()
