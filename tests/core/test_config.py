"""Reading and checking params.yaml."""

import re
import subprocess
import sys

import pytest

from slm.cli.check import check, check_values
from slm.core.config import read_yaml
from slm.core.errors import UserError
from slm.eval_samples.params import EvalSamplesParams
from tests.project import ROOT, change_params
from tests.tiny import SFT


@pytest.fixture
def params(tmp_path):
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path / "params.yaml"


def test_committed_params_are_valid(params):
    check(params)


@pytest.mark.parametrize(
    ("section", "key", "value", "line"),
    [
        ("data", "nonsense", 1, "data.nonsense: unknown key; must be one of source, max_documents"),
        ("data", "max_documents", None, "data.max_documents: must be a number for source synthetic"),
        ("tokenizer", "type", "words", "tokenizer.type: must be 'gpt2' or 'bpe', got 'words'"),
        ("model", "n_embd", 129, "model.n_embd: must be a multiple of n_head = 2, got 129"),
        ("model", "n_layer", 2.5, "model.n_layer: must be a valid integer, got 2.5"),
        ("model", "bias", "yes", "model.bias: must be a valid boolean, got 'yes'"),
        ("train", "learning_rate", "fast", "train.learning_rate: must be a valid number, got 'fast'"),
        ("train", "learning_rate", float("nan"), "train.learning_rate: must be a finite number, got nan"),
        ("train", "min_lr", 1.0, "train.min_lr: must be at most learning_rate = 0.01, got 1.0"),
        ("train", "compile", "fast", "train.compile: must be 'auto' or a valid boolean, got 'fast'"),
        ("evaluate", "stride", 0, "evaluate.stride: must be greater than or equal to 1, got 0"),
        ("sample", "top_k", 0, "sample.top_k: must be greater than or equal to 1, got 0"),
        ("sample", "prompts", "Once", "sample.prompts: must be a valid list, got 'Once'"),
    ],
)
def test_invalid_value_is_reported_with_key_and_expectation(params, section, key, value, line):
    change_params(params.parent, {section: {key: value}})
    with pytest.raises(UserError) as error:
        check(params)
    assert str(error.value).startswith(f"{params}: {line}")
    assert "\n" not in str(error.value)


def test_each_invalid_key_has_its_own_line(params):
    change_params(params.parent, {"model": {"n_layer": 0}, "sample": {"seed": -1}})
    with pytest.raises(UserError) as error:
        check(params)
    assert len(str(error.value).splitlines()) == 2


def test_unknown_section_is_reported(params):
    params.write_text(params.read_text() + "modle: {}\n")
    with pytest.raises(UserError, match="modle: unknown section; must be one of data, tokenizer, model"):
        check(params)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"quality": {}}, ["quality: was renamed to eval_samples"]),
        ({"data": {"hub": {"text": "text"}}}, ["data.hub.text: was renamed to data.hub.text_column"]),
        ({"data": {"source": "embedded"}}, ["data.source: 'embedded' was renamed to 'synthetic'"]),
        ({"tokenizer": {"kind": "bpe"}}, ["tokenizer.kind: was renamed to tokenizer.type"]),
        ({"model": {"mlp": "gelu"}}, ["model.mlp: was renamed to model.activation"]),
        ({"model": {"architecture": "classic"}}, ["model.architecture: 'classic' was renamed to 'gpt2'"]),
        (
            {"train": {"length_warmup_steps": 0}},
            ["train.length_warmup_steps: was renamed to train.seq_len_warmup_steps"],
        ),
        (
            {"evaluate": {"datasets": {"w": {"file": "w.txt", "kind": "text"}}}},
            ["evaluate.datasets.w.kind: was renamed to evaluate.datasets.w.metric"],
        ),
        (
            {"sft": {"a": SFT | {"requests": 5, "tasks": {"write": 1.0}}}},
            [
                "sft.a.tasks.write: was renamed to sft.a.tasks.story",
                "sft.a.requests: was renamed to sft.a.num_eval_prompts",
            ],
        ),
    ],
)
def test_old_name_is_reported_with_its_new_name(params, old, new):
    values = read_yaml(params)
    for section, changes in old.items():
        values.setdefault(section, {})
        for key, value in changes.items():
            values[section][key] = {**values[section].get(key, {}), **value} if key == "hub" else value
    # A file with an old name does not have the new one as well.
    for line in new:
        if key := re.search(r": was renamed to (\S+)$", line):
            *parents, last = key[1].split(".")
            target = values
            for parent in parents:
                target = target[parent]
            target.pop(last, None)
    with pytest.raises(UserError) as error:
        check_values(values, params)
    assert str(error.value).splitlines() == [f"{params}: {line}" for line in new]


def test_old_section_name_raises_in_load(params, monkeypatch):
    params.write_text(params.read_text().replace("\neval_samples:", "\nquality:"))
    monkeypatch.chdir(params.parent)
    with pytest.raises(UserError, match=r"^params\.yaml: quality: was renamed to eval_samples$"):
        EvalSamplesParams.load()


def test_missing_section_reports_its_keys(params):
    params.write_text(params.read_text().replace("\nsample:", "\nevaluate_not:"))
    with pytest.raises(UserError, match=r"sample\.prompts: missing"):
        check(params)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"model: [1, 2", "params.yaml:1: not valid YAML"),
        (b"model: \xff", "params.yaml: not UTF-8 at byte 7"),
        (b"- model", "params.yaml: must be a mapping of sections"),
        (b"model: 3\nmodel: 4\n", "params.yaml:2: not valid YAML: found duplicate key"),
    ],
)
def test_invalid_params_file_is_one_line(params, text, line):
    params.write_bytes(text)
    with pytest.raises(UserError) as error:
        check(params)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_check_prints_one_line_without_importing_torch(params):
    change_params(params.parent, {"model": {"n_head": 0}})
    code = """if True:
        import runpy, sys
        try:
            runpy.run_module("slm", run_name="__main__", alter_sys=True)
        finally:
            print("torch" in sys.modules)
    """
    command = [sys.executable, "-c", code, "check", str(params)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == "False\n"
    assert result.stderr == f"error: {params}: model.n_head: must be greater than or equal to 1, got 0\n"
