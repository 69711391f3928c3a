"""What a machine shows of itself while it works: energy, temperature, clocks, load. Linux; elsewhere nothing."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from bcseg_benchmarks.timing import Record

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path("/")
POWER_SAMPLE_S = 0.2  # of a board's power monitor
PLATFORM = "psys"  # RAPL's name of it


class Power(Record):
    """Energy and temperature of a stretch of work.

    Attributes:
        energy_j: joules of the whole machine or package; None where it is not shown.
        energy_source: what showed it, or why nothing did.
        temperature_before_c, temperature_after_c: hottest sensor; None where there is none.
        clock_mhz: mean of the cores' clocks at the end; None where it is not shown.
    """

    energy_j: float | None
    energy_source: str
    temperature_before_c: float | None
    temperature_after_c: float | None
    clock_mhz: float | None

    @property
    def temperatures_c(self) -> tuple[float | None, float | None]:
        """Before and after."""
        return self.temperature_before_c, self.temperature_after_c

    def per_frame_j(self, frames: int) -> float | None:
        """Joules per frame; None where energy is not shown."""
        return None if self.energy_j is None else self.energy_j / frames


class PowerMeter:
    """Measures between entering and leaving; `power` afterwards.

    x86 counts energy itself (RAPL, wraps around every few minutes to hours: corrected). A Jetson shows power only
    (INA3221 and INA238 on its boards): it is sampled five times a second and integrated.

    Args:
        root: of the file system; a test gives another.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self.power = Power(
            energy_j=None,
            energy_source="not measured",
            temperature_before_c=None,
            temperature_after_c=None,
            clock_mhz=None,
        )

    def __enter__(self) -> Self:
        self._temperature_c = temperature_c(self._root)
        self._counters = _rapl_counters(self._root)
        self._before_uj = [_number(counter / "energy_uj") for counter in self._counters]
        self._samples: list[tuple[float, float]] = []
        self._done = Event()
        self._sampler = Thread(target=self._sample, daemon=True)
        if not self._readable_counters() and _board_power_w(self._root) is not None:
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._sampler.is_alive():
            self._sampler.join()
        energy_j, source = self._energy()
        self.power = Power(
            energy_j=energy_j,
            energy_source=source,
            temperature_before_c=self._temperature_c,
            temperature_after_c=temperature_c(self._root),
            clock_mhz=clock_mhz(self._root),
        )

    def _readable_counters(self) -> bool:
        return any(value is not None for value in self._before_uj)

    def _energy(self) -> tuple[float | None, str]:
        if self._readable_counters():
            platform = _text(self._counters[0] / "name") == PLATFORM
            return self._rapl_j(), "RAPL, whole platform (psys)" if platform else "RAPL, CPU packages"
        if len(self._samples) > 1:
            times_s, watts = np.array(self._samples).T
            return float((np.diff(times_s) * (watts[1:] + watts[:-1]) / 2).sum()), "board's power monitor (INA)"
        reason = "RAPL is there but may not be read (needs root)" if self._counters else "this machine shows none"
        return None, reason

    def _rapl_j(self) -> float:
        total_uj = 0.0
        for counter, before in zip(self._counters, self._before_uj, strict=True):
            after = _number(counter / "energy_uj")
            if before is None or after is None:
                continue
            wrap = (_number(counter / "max_energy_range_uj") or 0.0) if after < before else 0.0
            total_uj += after - before + wrap
        return total_uj / 1e6

    def _sample(self) -> None:
        last = False
        while True:  # once more after the end: the last interval counts as any other
            watts = _board_power_w(self._root)
            if watts is not None:
                self._samples.append((monotonic(), watts))
            if last:
                return
            last = self._done.wait(POWER_SAMPLE_S)


def temperature_c(root: Path = ROOT) -> float | None:
    """The hottest thermal sensor, degrees Celsius."""
    paths = [*root.glob("sys/class/thermal/thermal_zone*/temp"), *root.glob("sys/class/hwmon/hwmon*/temp*_input")]
    values = [value / 1e3 for value in map(_number, paths) if value is not None and value > 0]
    return max(values, default=None)


def clock_mhz(root: Path = ROOT) -> float | None:
    """Mean clock of the cores, MHz."""
    paths = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [value / 1e3 for value in map(_number, paths) if value]
    if not clocks:
        text = _text(root / "proc/cpuinfo")
        clocks = [float(line.partition(":")[2]) for line in text.splitlines() if line.startswith("cpu MHz")]
    return float(np.mean(clocks)) if clocks else None


def governor(root: Path = ROOT) -> str:
    """What rules the cores' clocks (performance, powersave, schedutil); why not, where it is not shown."""
    paths = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    return ", ".join(sorted({_text(path) for path in paths})) or "not shown (a virtual machine, or no cpufreq)"


def load_average() -> float | None:
    """Processes that wanted to run, mean of the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _rapl_counters(root: Path) -> list[Path]:
    """Packages, without what would count them twice.

    Their parts (`intel-rapl:0:0`) are left out, and so is the zone `psys`: it is the whole platform, packages included.
    Where it is the only zone it is taken.
    """
    zones = [path for path in sorted(root.glob("sys/class/powercap/intel-rapl:*")) if path.name.count(":") == 1]
    packages = [zone for zone in zones if _text(zone / "name") != PLATFORM]
    return packages or zones


def _board_power_w(root: Path) -> float | None:
    """What a Jetson's power monitor says that the whole board takes, W.

    The rail named VDD_IN is the board's; without one the rails are summed. Voltage is in mV, current in mA.
    """
    rails: dict[str, float] = {}
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina*/*/hwmon/hwmon*/in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        millivolt = _number(label.with_name(f"in{number}_input"))
        milliampere = _number(label.with_name(f"curr{number}_input"))
        if millivolt is not None and milliampere is not None:
            rails[_text(label)] = millivolt * milliampere / 1e6
    return rails.get("VDD_IN", sum(rails.values())) if rails else None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
