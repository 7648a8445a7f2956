"""An exported folder is all that transformers needs to do what this project does."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from slm.core.errors import UserError
from slm.export.card import find_facts, model_card
from slm.export.huggingface import write_folder
from slm.generate.batch import generate
from slm.model.gpt import count_params
from slm.model.huggingface import model_type
from slm.tokenizer.tokenizer import END_OF_TEXT, encode
from tests.exporting import BLOCK_SIZE, MODELS, TEXT, write_project
from tests.project import run_slm
from tests.tiny import file_size_limit, sample_params

PROMPTS = ["", "Once", "No – it'll"]
FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """A model, its tokenizer, and the folder that it was written to."""
    root = tmp_path_factory.mktemp("project")
    model, tokenizer, facts = write_project(root, request.param)
    write_folder(model, tokenizer, facts, root / "out/exported")
    return model, tokenizer, root / "out/exported"


@torch.no_grad()
def test_logits_are_the_models_own(exported):
    model, _, folder = exported
    other, loading = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=False, output_loading_info=True
    )
    assert not any(loading.values()), loading
    ids = torch.randint(model.vocab_size, (3, BLOCK_SIZE), generator=torch.Generator().manual_seed(0))
    expected = model(ids)
    assert expected.std() > 0.5
    torch.testing.assert_close(other(ids).logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_story_is_the_models_own(exported, prompt):
    model, tokenizer, folder = exported
    other, theirs = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = encode(tokenizer, prompt)
    longest = 3 * BLOCK_SIZE if model_type(model.params) == "qwen3" else BLOCK_SIZE  # it alone has the window
    n_new = longest - 1 - len(ids)
    params = sample_params(temperature=0.0, num_samples=1, max_new_tokens=n_new)
    [[story]] = generate(model, [ids], params, tokenizer.token_to_id(END_OF_TEXT))
    assert len(story) > 5
    written = other.generate(**theirs(prompt, return_tensors="pt"), max_new_tokens=n_new)[0]
    assert theirs.decode(written, skip_special_tokens=True) == prompt + tokenizer.decode(story)


def test_tokens_are_those_of_the_project_after_an_end_of_text(exported):
    _, tokenizer, folder = exported
    theirs, end_of_text = AutoTokenizer.from_pretrained(folder), tokenizer.token_to_id(END_OF_TEXT)
    for text in ["", TEXT, "  two  spaces\n", "naïve 日本 🦆", "it's 3 o'clock\t!"]:
        assert theirs(text)["input_ids"] == [end_of_text, *encode(tokenizer, text)]
        assert theirs(text, add_special_tokens=False)["input_ids"] == encode(tokenizer, text)
        assert theirs.decode(encode(tokenizer, text)) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (end_of_text, end_of_text, None)


def test_the_files_are_the_same_bytes_each_time_and_no_others(exported, tmp_path):
    model, tokenizer, folder = exported
    _, _, facts = write_project(tmp_path, "gelu")
    (tmp_path / "empty").mkdir()
    write_folder(model, tokenizer, facts, tmp_path / "empty")
    assert {path.name for path in folder.iterdir()} == FILES
    for name in FILES - {"README.md"}:
        assert (tmp_path / "empty" / name).read_bytes() == (folder / name).read_bytes()
    assert {path.name for path in folder.parent.iterdir()} == {"exported"}


def test_the_card_says_what_it_is_made_of_how_good_it_is_and_how_far_it_sees(exported):
    model, _, folder = exported
    card = (folder / "README.md").read_text()
    assert "\ndatasets: [owner/tales]\n" in card
    assert "\nlicense:" not in card  # it is not this project's to give
    for row in (
        "| Size | 5,000 parameters, ",
        "| loss | 2.0000 nats per token |",
        "| bits per byte | 1.0000 |",
    ):
        assert row in card
    sees = {"gpt2": "has 32 positions", "nanochat": "within 32 tokens", "qwen3": "(`sliding_window`)"}
    kind = model_type(model.params)
    assert [sees[name] in card for name in sees] == [name == kind for name in sees]


def test_the_card_names_the_weights_that_training_started_from(tmp_path):
    model, _, facts = write_project(tmp_path, "gelu")
    assert "Initial weights" not in model_card(model, facts)
    details = facts.train_details.model_copy(update={"init_from": "data/user/gpt2"})
    assert "\n| Initial weights | from data/user/gpt2 |\n" in model_card(
        model, facts._replace(train_details=details)
    )


def run(*arguments: str) -> str:
    """Return what `slm export` prints to stdout, or its exit status and what it prints to stderr."""
    result = run_slm("export", *arguments)
    return f"{result.returncode}: {result.stderr}" if result.returncode else result.stdout


def test_the_command_writes_a_folder_or_a_file(tmp_path, monkeypatch):
    write_project(tmp_path, "swiglu")
    monkeypatch.chdir(tmp_path)
    assert run("--to", "hf", "a/b") == "a/b\n"
    assert {path.name for path in (tmp_path / "a/b").iterdir()} == FILES
    assert run("--to", "gguf", "c.gguf", "--quantize", "q8_0") == "c.gguf\n"
    assert (tmp_path / "c.gguf").read_bytes().startswith(b"GGUF")


def test_a_tuned_model_beside_which_are_no_results_gets_a_card_without_figures(tmp_path, monkeypatch):
    model, _, _ = write_project(tmp_path, "gelu")
    shutil.copytree(tmp_path / "models", tmp_path / "models/wishes")
    monkeypatch.chdir(tmp_path)
    assert run("--to", "hf", "--model", "models/wishes", "new") == "new\n"
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES
    card = (tmp_path / "new/README.md").read_text()
    assert f"# A language model of {count_params(model):,} parameters\n" in card
    assert "\n| Architecture | Transformer (" in card
    assert "within 32 tokens" in card
    assert not any(word in card for word in ("held out", "owner/tales", "nats", "license:"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--to", "hf", "models"], "models: already there; give the name of a new folder"),
        (["--to", "hf", "models/config.json"], "models/config.json: already there; give the name of a new"),
        (["--to", "hf", "new", "--quantize", "q8_0"], "--quantize: requires --to gguf, got --to hf"),
        (["--to", "hf", "new", "--model", "none"], "none/tokenizer.json: no such file"),
        (["--to", "hf", "models/config.json/new"], "models/config.json/new: could not be written: "),
        (
            ["--to", "gguf", "new"],
            "model.activation: must be swiglu for llama.cpp, or model.architecture must be gpt2, got gelu",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(tmp_path, monkeypatch, arguments, line):
    write_project(tmp_path, "gelu")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    said = run(*arguments)
    assert said.startswith(f"1: error: {line}")
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_without_results_the_missing_one_is_named(tmp_path):
    model, tokenizer, facts = write_project(tmp_path, "gelu")
    (tmp_path / "reports/eval.json").unlink()
    with pytest.raises(UserError, match=r"reports/eval\.json: no such file; `dvc repro` makes it"):
        find_facts(tmp_path / "models")
    write_folder(model, tokenizer, facts, tmp_path / "new")
    assert json.loads((tmp_path / "new/config.json").read_text())["model_type"] == "nanochat"


def test_a_full_disk_leaves_nothing(tmp_path):
    model, tokenizer, facts = write_project(tmp_path, "gelu")
    before = sorted(tmp_path.rglob("*"))
    with (
        file_size_limit(20_000),
        pytest.raises(UserError, match="new: could not be written: File too large"),
    ):
        write_folder(model, tokenizer, facts, tmp_path / "new")
    assert sorted(tmp_path.rglob("*")) == before
