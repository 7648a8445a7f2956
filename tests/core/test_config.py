"""The whole of params.yaml, checked by one command."""

import subprocess
import sys

import pytest

from slm.cli.check import check
from slm.core.errors import UserError
from tests.project import ROOT, change_params


@pytest.fixture
def params(tmp_path):
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path / "params.yaml"


def test_the_committed_params_pass(params):
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
        ("train", "compile", "fast", "train.compile: must be 'auto' or be a valid boolean, got 'fast'"),
        ("evaluate", "stride", 0, "evaluate.stride: must be greater than or equal to 1, got 0"),
        ("sample", "top_k", 0, "sample.top_k: must be greater than or equal to 1, got 0"),
        ("sample", "prompts", "Once", "sample.prompts: must be a valid list, got 'Once'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(params, section, key, value, line):
    change_params(params.parent, {section: {key: value}})
    with pytest.raises(UserError) as error:
        check(params)
    assert str(error.value).startswith(f"{params}: {line}")
    assert "\n" not in str(error.value)


def test_each_wrong_key_has_its_line(params):
    change_params(params.parent, {"model": {"n_layer": 0}, "sample": {"seed": -1}})
    with pytest.raises(UserError) as error:
        check(params)
    assert len(str(error.value).splitlines()) == 2


def test_an_unknown_section_is_named(params):
    params.write_text(params.read_text() + "modle: {}\n")
    with pytest.raises(UserError, match="modle: unknown section; must be one of data, tokenizer, model"):
        check(params)


def test_a_missing_section_names_its_missing_keys(params):
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
def test_a_file_that_is_no_params_file_is_one_line(params, text, line):
    params.write_bytes(text)
    with pytest.raises(UserError) as error:
        check(params)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_the_check_needs_no_torch_and_prints_no_traceback(params):
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
