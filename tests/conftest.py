"""What tests in every folder share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `data` where there is no data, so that the mark alone is enough."""
    if os.environ.get("BCSEG_DATA"):
        return
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason="BCSEG_DATA is not set"))
