"""The real pipeline, run by DVC in a temporary clone."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dvc.cli import main as dvc
from dvc.repo import Repo
from ruamel.yaml import YAML

from tests.pipeline import STAGES, clone_that_ran, enter, reproduced
from tests.project import change_params, clone, git


@pytest.fixture(scope="module")
def clone_once(tmp_path_factory):
    return clone_that_ran(tmp_path_factory)


@pytest.fixture
def project(clone_once, monkeypatch):
    """Enter the clone in which the pipeline has run, and restore it afterwards."""
    enter(clone_once, monkeypatch)
    yield clone_once
    git(clone_once, "checkout", "-q", ".")
    git(clone_once, "clean", "-qfd", "reports")
    with Repo() as repo:
        repo.checkout(force=True)


def running(log: str) -> list[str]:
    """Return the names of the stages that ran according to DVC's log."""
    return re.findall(r"Running stage '([\w@]+)'", log)


def test_every_declared_output_exists(project):
    stages = YAML(typ="safe").load((project / "dvc.yaml").read_text())["stages"]
    assert [name for name in stages if "foreach" not in stages[name]] == STAGES
    for stage in (stages[name] for name in STAGES):
        for entry in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            path = project / (entry if isinstance(entry, str) else next(iter(entry)))
            assert path.exists(), path


def test_evaluation_covers_every_validation_token(project):
    result = json.loads(Path("reports/eval.json").read_text())
    tokens = np.fromfile("data/tokens/validation.bin", dtype="<u2")
    assert json.loads(Path("reports/details/eval.json").read_text())["tokens"] == len(tokens)
    assert np.exp(result["val_loss"]) == pytest.approx(result["perplexity"])
    with Path("reports/baselines.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    levels = {row["name"]: float(row["bits_per_byte"]) for row in rows}
    [(model, bits)] = [(row["name"], float(row["bits_per_byte"])) for row in rows if row["kind"] == "model"]
    [bound] = [row["name"] for row in rows if row["kind"] == "bound"]
    assert bits == pytest.approx(result["bits_per_byte"], rel=1e-5)
    assert 0 < levels[bound] < levels[model] < levels["uniform"]


def test_samples_have_num_samples_per_prompt(project):
    text = Path("reports/samples.md").read_text()
    assert text.count("> **Once**") == 2
    assert text.count("### ") == 4


def test_repro_without_changes_runs_nothing(project):
    assert reproduced() == []


def test_sampling_param_does_not_retrain(project, caplog):
    assert dvc(["exp", "run", "-S", "sample.temperature=0.5"]) == 0
    assert running(caplog.text) == ["sample", "eval_samples", "plot", "report"]
    assert "temperature 0.5" in Path("reports/samples.md").read_text()


def test_evaluation_param_does_not_retrain(project, caplog):
    assert dvc(["exp", "run", "-S", "evaluate.ngram_order=2"]) == 0
    assert running(caplog.text) == ["evaluate", "plot", "report"]


def test_dataset_in_params_adds_a_stage(project, caplog):
    Path("tales.txt").write_text("Once there was a bear.\nIt slept.\n", encoding="utf-8")
    assert dvc(["exp", "run", "-S", "+evaluate.datasets.tales={file:tales.txt,metric:word_perplexity}"]) == 0
    assert running(caplog.text) == ["check_names", "evaluate", "eval_dataset@tales", "report"]
    metrics = json.loads(Path("reports/datasets/tales.json").read_text())["tales"]
    assert metrics["word_perplexity"] > metrics["perplexity"] > 1
    assert "tales" in Path("reports/report.html").read_text(encoding="utf-8")
    Path("tales.txt").write_text("Once there was a fox.\n", encoding="utf-8")
    assert reproduced() == ["eval_dataset@tales", "report"]


def test_experiment_params_and_curves_of_two_revisions(project, caplog):
    experiment = ["exp", "run", "-n", "deeper", "-S", "model.n_layer=2", "-S", "train.learning_rate=1e-3"]
    assert dvc(experiment) == 0
    assert running(caplog.text) == ["train", "evaluate", "sample", "eval_samples", "plot", "report"]
    rates = [line.split(",")[3] for line in Path("reports/train.csv").read_text().splitlines()]
    # The peak follows two steps of warm-up.
    assert rates[:4] == ["learning_rate", "0.000333333", "0.000666667", "0.001"]
    assert json.loads(Path("models/config.json").read_text())["model"]["n_layer"] == 2

    command = [sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "deeper", "--json"]
    plots = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    points = plots["data"]["loss"][0]["content"]["data"]["values"]
    curves = {(point["rev"], point["filename::field"]) for point in points}
    columns = ("train.csv::train_loss", "val.csv::val_loss")
    assert curves == {(rev, column) for rev in ("HEAD", "deeper") for column in columns}


def test_invalid_param_is_one_line_and_adds_no_file(project, capfd):
    before = {path: path.read_bytes() for path in Path().glob("[dmr]*/**/*") if path.is_file()}
    change_params(project, {"data": {"max_documents": -3}})
    assert dvc(["repro"]) != 0
    error = capfd.readouterr().err
    assert "params.yaml: data.max_documents: must be greater than or equal to 1, got -3" in error
    assert "Traceback" not in error
    assert before.keys() >= {path for path in Path().glob("[dmr]*/**/*") if path.is_file()}


def test_edited_user_text_reruns_download_and_tokenize(tmp_path, monkeypatch):
    text = "A cat sat.\n<|endoftext|>\nA dog ran.\n<|endoftext|>\n" * 20
    folder = clone(tmp_path)
    (folder / "mine.txt").write_text(text)
    (folder / "held-out.txt").write_text(text)
    files = {"train": "mine.txt", "validation": "held-out.txt"}
    change_params(folder, {"data": {"source": "files", "files": files}})
    enter(folder, monkeypatch)
    with Repo() as repo:
        assert [stage.name for stage in repo.reproduce("tokenize")] == ["download", "tokenize"]
        assert repo.reproduce("tokenize") == []
        (folder / "mine.txt").write_text(text.replace("cat", "bat"))
        assert [stage.name for stage in repo.reproduce("tokenize")] == ["download", "tokenize"]
