"""Energy and temperature from made-up sysfs trees."""

from __future__ import annotations

from time import monotonic

import pytest

from bcseg_benchmarks.sensors import PowerMeter, governor, temperature_c


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def rapl(root, package, energy_uj, name="package"):
    folder = root / "sys/class/powercap" / package
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")


def test_rapl_sums_packages_without_their_parts_and_corrects_the_wrap(tmp_path):
    for package, energy_uj in (("intel-rapl:0", 9_000_000), ("intel-rapl:1", 0), ("intel-rapl:0:0", 0)):
        rapl(tmp_path, package, energy_uj)
    with PowerMeter(tmp_path) as meter:
        for package, energy_uj in (("intel-rapl:0", 1_000_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 7)):
            rapl(tmp_path, package, energy_uj)
    assert meter.power.energy_j == pytest.approx(2.5)
    assert meter.power.per_frame_j(10) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("names", "joules", "source"),
    [
        (("package-0", "psys"), 1, "RAPL, CPU packages"),
        (("psys", "package-0", "package-1"), 2, "RAPL, CPU packages"),
        (("psys",), 1, "RAPL, whole platform (psys)"),
    ],
)
def test_the_platforms_zone_counts_only_alone(names, joules, source, tmp_path):
    """It holds what the packages take; each zone here takes 1 J."""
    for number, name in enumerate(names):
        rapl(tmp_path, f"intel-rapl:{number}", 0, name)
    with PowerMeter(tmp_path) as meter:
        for number, name in enumerate(names):
            rapl(tmp_path, f"intel-rapl:{number}", 1_000_000, name)
    assert (meter.power.energy_j, meter.power.energy_source) == (pytest.approx(joules), source)


def test_a_jetsons_board_power_is_integrated(tmp_path):
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    folder.mkdir(parents=True)
    for name, text in (("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "2000"), ("in2_label", "SOC")):
        (folder / name).write_text(text)
    (folder / "in2_input").write_text("5000")
    (folder / "curr2_input").write_text("500")
    meter = PowerMeter(tmp_path)
    started_s = monotonic()
    with meter:
        meter._done.wait(0.15)  # less than an interval: the end counts too
        asked_s = monotonic() - started_s
    elapsed_s = monotonic() - started_s
    assert 10 * asked_s * 0.95 <= meter.power.energy_j <= 10 * elapsed_s


def test_a_machine_that_shows_nothing_says_so(tmp_path):
    with PowerMeter(tmp_path) as meter:
        pass
    assert meter.power.energy_j is None
    assert meter.power.per_frame_j(5) is None
    assert "none" in meter.power.energy_source
    assert temperature_c(tmp_path) is None
    assert governor(tmp_path).startswith("not shown")


def test_the_hottest_sensor_counts(tmp_path):
    write(tmp_path, sys__class__thermal__thermal_zone0__temp=41000, sys__class__hwmon__hwmon0__temp1_input=52500)
    assert temperature_c(tmp_path) == 52.5
