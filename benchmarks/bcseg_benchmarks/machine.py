"""Where a report was measured: machine, power mode, versions. What a figure is worth nothing without."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bcseg_benchmarks.sensors import clock_mhz, governor, load_average
from bcseg_benchmarks.timing import Record
from bcseg_edge.doctor import package_versions, system_facts

PACKAGES = ("torch", "torchvision", "monai", "segmentation-models-pytorch", "matplotlib")


class Machine(Record):
    """What was measured on.

    Attributes:
        facts: by name, as `bcseg-edge doctor` shows them, with governor and clocks.
        packages: version by distribution; those that are not installed are left out.
        load_before: processes that wanted to run in the minute before; more than 0.5 says that the machine was busy.
        commit: of the source checkout; None in an installed package.
    """

    facts: dict[str, str]
    packages: dict[str, str]
    load_before: float | None
    commit: str | None

    @property
    def name(self) -> str:
        """The processor with its cores, and the GPU where there is one."""
        gpu = self.facts.get("gpu", "none")
        cores = self.facts["cores"].split()[0]
        return f"{self.facts['cpu']}, {cores} cores" + ("" if gpu.startswith("none") else f", {gpu}")


def examine_machine() -> Machine:
    """Look at this machine, before anything is measured."""
    clock = clock_mhz()
    facts = {
        **system_facts(),
        "governor": governor(),
        "clock before": "not shown" if clock is None else f"{clock:.0f} MHz",
    }
    versions = package_versions(PACKAGES)
    return Machine(
        facts={name: value for name, value in facts.items() if name != "cameras"},
        packages={name: version for name, version in versions.items() if version is not None},
        load_before=load_average(),
        commit=_commit(),
    )


def _commit() -> str | None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "pyproject.toml").is_file():  # installed: another repository may lie around it
        return None
    command = ("git", "describe", "--always", "--dirty", "--abbrev=10")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
