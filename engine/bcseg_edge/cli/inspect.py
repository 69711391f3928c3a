"""`bcseg-edge inspect`: what a model file says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from bcseg_edge.models import Model
    from bcseg_edge.passport import Precision


def inspect(
    model: Annotated[str, typer.Argument(help="A shipped model's name (edge) or a model file.")],
    precision: Annotated[
        str | None, typer.Option(help="Of a shipped model's files: fp32 (the weights, by default), fp16 or int8.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the passport as JSON.")] = False,
) -> None:
    """Verify a model file against its passport and print the passport."""
    from bcseg_edge.models import list_files, list_models, read_model

    shipped = model in list_models()
    wanted = cast("Precision | None", precision)  # `read_model` refuses any other text
    found = read_model(model, precision=wanted or ("fp32" if shipped else None))
    if as_json:
        typer.echo(found.passport.model_dump_json(indent=2))
        return
    from rich.console import Console

    Console(markup=False).print(_table(found, list_files(model) if shipped else ()))


def _table(model: Model, files: Sequence[Path]) -> Table:
    from rich.table import Table

    passport = model.passport
    architecture = passport.architecture
    height, width = passport.window_hw
    profile = passport.profile
    rows = {
        "file": f"{model.path} ({model.path.stat().st_size / 1e6:.1f} MB)",
        **({"shipped files": ", ".join(path.name for path in files)} if files else {}),
        "sha256": passport.sha256,
        "classes": ", ".join(passport.classes),
        "window": f"{width}x{height} px",
        "tiling": passport.tiling,
        "architecture": f"{architecture.name}: U-Net, encoder {architecture.encoder}, "
        f"{architecture.parameters:,} parameters",
        "precision": passport.precision + (f", laid out for {passport.target}" if passport.target != "any" else ""),
        "weights": passport.weights,
        "temperature": f"{passport.temperature:g} (applied)",
        "patches per call": f"{profile.min_batch} to {profile.max_batch}, best {profile.opt_batch}",
        "outputs": ", ".join(f"{name} ({kind})" for name, kind in passport.outputs.items()),
        "trained as": passport.source_sha256 or "unknown",
        "created": passport.created,
        "accuracy": _accuracy(model),
        "parity": _parity(model),
    }
    if passport.calibration_sha256 is not None:
        rows["calibrated on"] = passport.calibration_sha256
    if passport.layers:
        rows["other precision"] = "\n".join(
            f"{name}: {precision}, damage {passport.layer_damage.get(name, 0):.4f}"
            for name, precision in passport.layers.items()
        )
    if passport.compiled is not None:
        rows["compiled"] = f"{passport.compiled.runtime} {passport.compiled.runtime_version}, {passport.compiled.gpu}"
    table = Table(title=f"{passport.name}, passport format {passport.format_version}", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a hash is for copying: never shortened
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _accuracy(model: Model) -> str:
    accuracy = model.passport.accuracy
    if isinstance(accuracy, str):
        return accuracy
    figures = "\n".join(f"  {name} {value:.4f}" for name, value in accuracy.figures.items())
    return f"{accuracy.data}, {accuracy.images} images, tiling {accuracy.tiling}, {accuracy.backend}\n{figures}"


def _parity(model: Model) -> str:
    parity = model.passport.parity
    if isinstance(parity, str):
        return parity
    verdict = "passed" if parity.passed else f"FAILED ({'; '.join(parity.failures)})"
    counted = f"{parity.patches} patches" if parity.patches else f"{parity.frames} frames"
    figures = [f"labels equal {parity.labels_equal:.6f}"]
    if parity.max_abs_logit_difference is not None:
        figures.append(f"logits within {parity.max_abs_logit_difference:.2g}")
    figures += [f"{name} {value:g}" for name, value in parity.figures.items() if name != "labels_equal"]
    return (
        f"{verdict} against {parity.reference} on {', '.join(parity.backends)}, {counted} of {parity.data}\n  "
        + "\n  ".join(figures)
    )
