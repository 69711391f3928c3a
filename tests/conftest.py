"""What tests in every folder share."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from bcseg_edge.cuda.driver import find_gpu

# A shell's background job ignores Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example of a property often pays for a compilation; a deadline would make that a failure.
settings.register_profile("bcseg", deadline=None, max_examples=60)
settings.load_profile("bcseg")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that BCSEG_DATA names; the test is skipped where it is not set."""
    value = os.environ.get("BCSEG_DATA")
    if not value:
        pytest.skip("BCSEG_DATA is not set: it names the folder with BUSI and the clips")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"BCSEG_DATA names no folder: {folder}")
    return folder


@pytest.fixture(scope="session")
def busi_dir(data_dir: Path) -> Path:
    """The BUSI folder in it."""
    return data_dir / "busi"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--must-execute`: a run in which every test was skipped fails."""
    parser.addoption("--must-execute", action="store_true", help="fail where no test was executed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `data` or `gpu` where there is none, so that the mark alone is enough."""
    lacks = {}
    if not os.environ.get("BCSEG_DATA"):
        lacks["data"] = "BCSEG_DATA is not set"
    if any(item.get_closest_marker("gpu") for item in items) and find_gpu() is None:
        lacks["gpu"] = "there is no NVIDIA GPU that CUDA can use"
    for item in items:
        for mark, reason in lacks.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """See `pytest_addoption`."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--must-execute") and reporter is not None and not reporter.stats.get("passed"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """With `--must-execute`: what was not executed, last and loud, since a skipped proof looks like a passed one."""
    yield
    if not config.getoption("--must-execute"):
        return
    executed = sum(len(terminalreporter.stats.get(outcome, [])) for outcome in ("passed", "failed"))
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.section("not executed", sep="=", red=not executed, yellow=bool(executed))
    for reason, tests in reasons.most_common():
        terminalreporter.line(f"{tests} not executed: {reason.removeprefix('Skipped: ')}")
    if not executed:
        terminalreporter.line("NO TEST WAS EXECUTED: nothing is proven by this run", red=True)
