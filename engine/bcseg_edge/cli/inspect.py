"""`bcseg-edge inspect`: what a model file says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from bcseg_edge.models import Model


def inspect(
    model: Annotated[str, typer.Argument(help="A shipped model's name (edge) or a model file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the passport as JSON.")] = False,
) -> None:
    """Verify a model file against its passport and print the passport."""
    from bcseg_edge.models import read_model

    found = read_model(model)
    if as_json:
        typer.echo(found.passport.model_dump_json(indent=2))
        return
    from rich.console import Console

    Console().print(_table(found))


def _table(model: Model) -> Table:
    from rich.table import Table

    passport = model.passport
    architecture = passport.architecture
    height, width = passport.window_hw
    profile = passport.profile
    rows = {
        "file": f"{model.path} ({model.path.stat().st_size / 1e6:.1f} MB)",
        "sha256": passport.sha256,
        "classes": ", ".join(passport.classes),
        "window": f"{width}x{height} px",
        "tiling": passport.tiling,
        "architecture": f"{architecture.name}: U-Net, encoder {architecture.encoder}, "
        f"{architecture.parameters:,} parameters",
        "precision": passport.precision + (f", {len(passport.layers)} layers differ" if passport.layers else ""),
        "weights": passport.weights,
        "temperature": f"{passport.temperature:g} (applied)",
        "patches per call": f"{profile.min_batch} to {profile.max_batch}, best {profile.opt_batch}",
        "outputs": ", ".join(f"{name} ({kind})" for name, kind in passport.outputs.items()),
        "trained as": passport.source_sha256 or "unknown",
        "created": passport.created,
        "accuracy": _accuracy(model),
        "parity": _parity(model),
    }
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
    verdict = "passed" if parity.passed else "FAILED"
    return (
        f"{verdict} against {parity.reference} on {', '.join(parity.backends)}: "
        f"labels equal {parity.labels_equal:.6f}, "
        f"logits within {parity.max_abs_logit_difference:.2g}, {parity.patches} patches of {parity.data}"
    )
