"""`bcseg-edge build`: from a model file to a TensorRT plan for this machine's GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra
from bcseg_edge.errors import DataError

RUNTIMES = {"tensorrt": "tensorrt", "rtx": "tensorrt-rtx"}


def build(
    model: Annotated[str, typer.Argument(help="An .onnx model file, or a shipped model's name.")],
    output: Annotated[Path, typer.Option(help="FILE.engine to write; its passport goes beside it.")],
    frame_size: Annotated[
        list[str] | None,
        typer.Option(help="WxH of the frames to come: one makes a plan for exactly its patches; may be repeated."),
    ] = None,
    tiling: Annotated[str | None, typer.Option(help="paper, overlap or frame; by default the model's.")] = None,
    runtime: Annotated[str, typer.Option(help="tensorrt, or rtx (TensorRT-RTX, which needs no GPU).")] = "tensorrt",
    capability: Annotated[
        list[str] | None, typer.Option(help="With --runtime rtx: compute capability, such as 8.6; may be repeated.")
    ] = None,
    workspace: Annotated[int | None, typer.Option(min=1, help="MiB of scratch memory a layer may use.")] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="The plan also runs with later versions of the same major.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="The plan runs on every GPU since Ampere.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="Of a shipped model's files: fp32, fp16 or int8; by default fp16 where there.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="BUSI folder that the gate compares on; by default phantom frames.")
    ] = None,
    layers: Annotated[Path | None, typer.Option(help="Write the layer table to this JSON file.")] = None,
) -> None:
    """Build a TensorRT plan, or reuse one of the same inputs and versions; exits with 3 where it is not equal."""
    if runtime not in RUNTIMES:
        raise DataError(f"unknown runtime {runtime!r}", f"choose one of: {', '.join(RUNTIMES)}")
    module = load_extra("bcseg_export.build", "tensorrt")
    result = module.build(
        module.BuildOptions(
            model=model,
            output=output,
            frame_sizes=tuple(_frame_size(text) for text in frame_size or ()),
            tiling=tiling,
            runtime=RUNTIMES[runtime],
            capabilities=tuple(capability or ()),
            workspace_mib=workspace,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible,
            layers=layers,
            precision=precision,
            data=data,
        )
    )
    profile = result.passport.profile
    batches = f"{profile.min_batch} to {profile.max_batch} patches, best {profile.opt_batch}"
    megabytes = result.path.stat().st_size / 1e6
    typer.echo(f"{'up to date' if result.reused else 'built'}: {result.path} ({megabytes:.1f} MB), {batches}")
    if isinstance(result.passport.parity, str):
        typer.echo(f"parity: {result.passport.parity}; every run will say so", err=True)


def _frame_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise DataError(f"--frame-size {text!r} is not a size", "give width x height in px, e.g. 640x480")
    return int(match[1]), int(match[2])
