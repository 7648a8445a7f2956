"""Tests of sweeps, with the experiments of a real DVC repository."""

import json
import re
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from dvc.cli import main as dvc
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from slm.core.config import read_yaml
from slm.model.gpt import count_params, new_gpt
from slm.model.params import ModelParams
from slm.report.figures.style import BLUE, GRAY, GREEN, ORANGE
from tests.pipeline import enter, start_pipeline
from tests.project import ROOT, change_params, git, run_module
from tools.sweep import SWEEPS, Run, fit_power_law, plot_sweep

ENTROPY = 0.2
# A stand-in for the pipeline: the loss is a power law of the size plus a term that falls with the context.
TRAIN = """
import json
from pathlib import Path
from ruamel.yaml import YAML

model = YAML(typ="safe").load(Path("params.yaml"))["model"]
n = 1000 * model["n_layer"] * model["n_embd"]
reports = {
    "train": {"num_params": n, "tokens_seen": 1},
    "eval": {"bits_per_byte": 0.2 + 3 * n**-0.25 + 1 / model["block_size"], "perplexity": 2},
    "eval_samples": {"consistency": 0.25} if model["block_size"] > 32 else {},
    "datasets": {"bits_per_byte": 9.9},
}
for name, values in reports.items():
    Path(f"reports/{name}.json").write_text(json.dumps(values))
"""
PIPELINE = {
    "stages": {
        "train": {
            "cmd": "python train.py",
            "deps": ["train.py"],
            "params": ["model", "train"],
            "metrics": [
                {f"reports/{name}.json": {"cache": False}}
                for name in ("train", "eval", "eval_samples", "datasets")
            ],
        }
    }
}
PARAMS = {
    "data": {"seed": 1, "files": {"train": "a.txt"}},
    "model": {"n_layer": 2, "n_head": 2, "n_kv_head": None, "n_embd": 16, "block_size": 64},
    "train": {"batch_size": 8, "learning_rate": 0.1},
    "eval_samples": {"num_samples": 40},
}
EXPERIMENTS = {
    "wide": ["model.n_embd=64"],
    "deep": ["model.n_layer=4"],
    # In no sweep: a key differs that belongs to none of them.
    "deep-again": ["model.n_layer=4", "train.learning_rate=0.2"],
    "short": ["model.block_size=32", "train.batch_size=16"],
    "long": ["model.block_size=256", "train.batch_size=2"],
}


@pytest.fixture(scope="module")
def repository_once(tmp_path_factory):
    """Create a repository with a run, experiments, and one more experiment in the queue."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "train.py").write_text(TRAIN)
    (folder / "reports").mkdir()
    (folder / "data/corpus").mkdir(parents=True)
    split = {"documents": 3, "bytes": 90, "entropy": {"bits_per_byte": ENTROPY, "standard_error": 0.001}}
    summary = {"source": "synthetic: stories", "train": split, "validation": split}
    (folder / "data/corpus/summary.json").write_text(json.dumps(summary))
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        start_pipeline(folder, PIPELINE, PARAMS)
        for name, changes in EXPERIMENTS.items():
            settings = [part for change in changes for part in ("-S", change)]
            assert dvc(["exp", "run", "-q", "-n", name, *settings]) == 0
            git(folder, "checkout", "-q", ".")
        assert dvc(["exp", "run", "-q", "--queue", "-S", "model.n_layer=8"]) == 0
    return folder


@pytest.fixture
def repository(repository_once, monkeypatch):
    """Enter the repository; restore its files afterwards."""
    enter(repository_once, monkeypatch)
    yield repository_once
    git(repository_once, "checkout", "-q", ".")


def rows(result: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """Return the cells of the printed table, without its header."""
    assert (result.returncode, result.stderr) == (0, "")
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines()[2:]]


def has_color(path: Path, color: str) -> bool:
    """Return whether an image has pixels of a color."""
    pixels = matplotlib.image.imread(path)[..., :3]
    return bool((np.abs(pixels - to_rgb(color)).max(axis=-1) < 0.01).any())


def test_sizes_has_experiments_that_differ_in_size_only(repository, tmp_path):
    assert rows(run_module("tools.sweep", "sizes", "-o", str(tmp_path / "sizes.png"))) == [
        ["main", "2 × 16", "64", "32,000", f"{0.2 + 3 * 32_000**-0.25 + 1 / 64:.4f}", "25% of 40"],
        ["deep", "4 × 16", "64", "64,000", f"{0.2 + 3 * 64_000**-0.25 + 1 / 64:.4f}", "25% of 40"],
        ["wide", "2 × 64", "64", "128,000", f"{0.2 + 3 * 128_000**-0.25 + 1 / 64:.4f}", "25% of 40"],
    ]
    assert all(has_color(tmp_path / "sizes.png", color) for color in (BLUE, ORANGE, GREEN))


def test_blocks_has_experiments_that_differ_in_context_only(repository, tmp_path):
    cells = rows(run_module("tools.sweep", "blocks", "-o", str(tmp_path / "blocks.png")))
    assert [(row[0], row[2], row[5]) for row in cells] == [
        ("short", "32", ""),
        ("main", "64", "25% of 40"),
        ("long", "256", "25% of 40"),
    ]
    assert all(has_color(tmp_path / "blocks.png", color) for color in (BLUE, GREEN, GRAY))


def test_other_keys_must_equal_the_params_file(repository, tmp_path):
    change_params(repository, {"train": {"learning_rate": 0.2}})
    result = run_module("tools.sweep", "sizes", "-o", str(tmp_path / "sizes.png"))
    assert result.returncode == 1
    keys = "model.n_layer, model.n_embd, model.n_head, model.n_kv_head"
    assert result.stderr == f"error: a sweep needs at least 2 runs that differ only in {keys}, got 1\n"
    assert list(tmp_path.iterdir()) == []


def test_error_outside_of_a_repository_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_module("tools.sweep", "sizes", "-o", "sizes.png")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: dvc exp show: ")
    assert result.stderr.count("\n") == 1


def make_runs(*sizes: int, consistency: float | None = None) -> list[Run]:
    """Return runs whose loss is a power law of their size."""
    return [Run("x", 1, n, 64, n, 0.2 + 3 * n**-0.25, consistency, 10) for n in sizes]


def test_fit_needs_three_runs_and_consistency_panel_known_values(tmp_path):
    plot_sweep(SWEEPS["sizes"], make_runs(100, 1000), 0.2, tmp_path / "two.png")
    plot_sweep(SWEEPS["sizes"], make_runs(100, 1000, 10_000, consistency=0.0), 0.2, tmp_path / "three.png")
    assert not has_color(tmp_path / "two.png", ORANGE)
    assert not has_color(tmp_path / "two.png", GREEN)
    assert has_color(tmp_path / "three.png", ORANGE)
    assert has_color(tmp_path / "three.png", GREEN)


@pytest.mark.parametrize("name", SWEEPS)
def test_plot_sweep_is_deterministic(tmp_path, name):
    for file in ("a.png", "b.png"):
        plot_sweep(SWEEPS[name], make_runs(100, 1000, 10_000, consistency=0.5), None, tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@given(st.floats(0.01, 100), st.floats(-1, 2), st.integers(2, 9))
def test_fit_power_law_recovers_its_parameters(factor, exponent, n):
    xs = np.geomspace(1e5, 1e7, n)
    assert fit_power_law(xs, factor * xs**-exponent) == pytest.approx((factor, exponent), rel=1e-6, abs=1e-9)


def test_fit_power_law_is_least_squares_of_logarithms():
    # Computed by hand: the logarithms are 0, 1, 2 and 3, 3, 0, so the slope is −1.5 through (1, 2).
    factor, exponent = fit_power_law(np.exp([0, 1, 2]), np.exp([3, 3, 0]))
    assert (np.log(factor), exponent) == pytest.approx((3.5, 1.5))


@pytest.fixture(scope="module")
def docs():
    """Return the page about sweeps, and the params that they change."""
    return (ROOT / "docs/experiments.md").read_text("utf-8"), read_yaml(ROOT / "params.yaml")


def test_documented_sizes_have_the_documented_num_params(docs):
    page, params = docs
    for key in ("n_embd", "n_layer"):
        counts = []
        for value in map(int, re.search(rf"-S 'model\.{key}=([\d,]+)'", page)[1].split(",")):
            model = ModelParams.check(params["model"] | {key: value})
            with torch.device("meta"):
                counts.append(count_params(new_gpt(model, params["tokenizer"]["vocab_size"])))
        assert f"({counts[0]:,} to {counts[-1]:,}" in page


def test_documented_blocks_have_equal_tokens_per_step(docs):
    page, params = docs
    tokens = params["model"]["block_size"] * params["train"]["batch_size"]
    blocks = [int(block) for block in re.search(r"for block in ([\d ]+);", page)[1].split()]
    assert params["model"]["block_size"] not in blocks
    assert f"train.batch_size=$(({tokens} / block))" in page
    assert f"each step has {tokens:,} tokens" in page
    assert all(tokens % block == 0 for block in blocks)
