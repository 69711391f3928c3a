"""The robustness table: every perturbation scored, on the frames it changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bcseg_edge.errors import DataError
from bcseg_train.perturbations import PERTURBATIONS
from bcseg_train.robustness import ELSEWHERE, RobustnessOptions, markdown, robustness, to_dict
from tests.fixtures.grey_busi import write_grey_busi
from tests.fixtures.pretraining import write_pretraining_sets
from tests.fixtures.tiny_model import write_model


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> RobustnessOptions:
    folder = tmp_path_factory.mktemp("robustness")
    return RobustnessOptions(
        model=write_model(folder),
        data=write_grey_busi(folder / "busi", images=2),
        other_lesions=write_pretraining_sets(folder / "sets", videos=20),
    )


def test_a_model_that_reads_grey_levels_fails_where_these_change(options: RobustnessOptions) -> None:
    result = robustness(options)
    assert list(result.rows) == list(PERTURBATIONS)
    figures = {name: scores.whole_images.lesion_iou for name, scores in result.rows.items()}
    assert figures["as it is"] == 1
    assert figures["letterbox 30 %"] > 0.99
    assert figures["gain x 0.5"] < 0.6
    assert result.elsewhere is not None
    assert json.loads(json.dumps(to_dict(result)))["perturbations"]["as it is"]["mean_iou"] == 1
    table = markdown(result)
    assert "| as it is | 100.00 | +0.0 |" in table
    assert ELSEWHERE in table


def test_what_evaluate_refuses_is_refused(options: RobustnessOptions, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        robustness(RobustnessOptions(model=options.model, data=tmp_path / "nowhere"))
