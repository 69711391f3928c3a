"""Averaged runs: exactly the mean of their weights, statistics that fit it, and only like with like."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bcseg_edge.cli import app
from bcseg_edge.errors import DataError
from bcseg_train.average import AverageOptions, average, estimate_statistics, mean_weights
from bcseg_train.busi import read_busi
from bcseg_train.models import load_checkpoint
from bcseg_train.recipes import load_recipe
from tests.fixtures.checkpoints import WINDOW_HW, random_network
from tests.fixtures.grey_busi import write_grey_busi

RECIPE = load_recipe("finetune").model_copy(update={"window_hw": WINDOW_HW, "batch_size": 4})


@pytest.fixture(scope="module")
def busi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grey_busi(tmp_path_factory.mktemp("data") / "busi", images=12)


def write_run(path: Path, seed: int, **changes: object) -> Path:
    network = random_network(seed)
    content = {
        "hyper_parameters": {
            "spec": dataclasses.asdict(network.spec),
            "recipe": RECIPE.model_copy(update=changes).model_dump(mode="json"),
        },
        "state_dict": {f"model.{name}": value for name, value in network.state_dict().items()},
    }
    torch.save(content, path)
    return path


def test_the_mean_is_the_mean_and_the_temperature_starts_again() -> None:
    states = [
        {"model.w": torch.tensor([1.0, 4.0]), "model.n": torch.tensor(7), "model.temperature": torch.tensor(2.0)},
        {"model.w": torch.tensor([3.0, 0.0]), "model.n": torch.tensor(9), "model.temperature": torch.tensor(4.0)},
    ]
    mean = mean_weights(states)
    assert mean["model.w"].tolist() == [2.0, 2.0]
    assert int(mean["model.n"]) == 7
    assert float(mean["model.temperature"]) == 1.0


def test_runs_become_one_checkpoint(busi: Path, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{seed}.ckpt", seed) for seed in (1, 2)]
    temperature = average(AverageOptions(runs, busi, tmp_path / "new" / "average.ckpt"))
    network, info = load_checkpoint(tmp_path / "new" / "average.ckpt")
    assert info.window_hw == WINDOW_HW
    assert float(network.temperature) == pytest.approx(temperature)
    one, two = (load_checkpoint(run)[0] for run in runs)
    for name, weight in network.named_parameters():
        expected = (one.get_parameter(name) + two.get_parameter(name)) / 2
        torch.testing.assert_close(weight, expected, msg=name)


def test_statistics_are_those_of_the_images(busi: Path) -> None:
    network = random_network()
    estimate_statistics(network, read_busi(busi), RECIPE, seed=0)
    first = network.unet.encoder.features[0]
    seen = []
    first[0].register_forward_hook(lambda module, inputs, output: seen.append(output.mean((0, 2, 3))))
    once = [buffer.clone() for buffer in network.buffers()]
    estimate_statistics(network, read_busi(busi), RECIPE, seed=0)
    torch.testing.assert_close(torch.stack(seen).mean(0), first[1].running_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close([buffer.float() for buffer in network.buffers()], [buffer.float() for buffer in once])
    assert not network.training


def test_unlike_runs_are_refused(busi: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "a.ckpt", 1)
    other = write_run(tmp_path / "b.ckpt", 2, window_hw=(96, 64))
    for checkpoints, reason in (([run], "expected two or more"), ([run, other], "another network, window or tiling")):
        with pytest.raises(DataError, match=reason):
            average(AverageOptions(checkpoints, busi, tmp_path / "average.ckpt"))
    assert not (tmp_path / "average.ckpt").exists()


def test_the_command_names_the_file(busi: Path, tmp_path: Path) -> None:
    runs = [str(write_run(tmp_path / f"{seed}.ckpt", seed)) for seed in (3, 4)]
    output = tmp_path / "average.ckpt"
    result = CliRunner().invoke(app, ["average", *runs, "--data", str(busi), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "2 runs averaged" in result.output
    assert output.is_file()
