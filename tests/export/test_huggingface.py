"""Exported folders in transformers: same logits, tokens and texts."""

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
from tests.export_models import BLOCK_SIZE, MODELS, TEXT, write_project
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
    """Return a model, its tokenizer, and the folder that they were exported to."""
    root = tmp_path_factory.mktemp("project")
    model, tokenizer, facts = write_project(root, request.param)
    write_folder(model, tokenizer, facts, root / "out/exported")
    return model, tokenizer, root / "out/exported"


@torch.no_grad()
def test_logits_equal_those_of_the_model(exported):
    model, _, folder = exported
    exported_model, loading = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=False, output_loading_info=True
    )
    assert not any(loading.values()), loading
    ids = torch.randint(model.vocab_size, (3, BLOCK_SIZE), generator=torch.Generator().manual_seed(0))
    expected = model(ids)
    assert expected.std() > 0.5
    torch.testing.assert_close(exported_model(ids).logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_equals_that_of_the_model(exported, prompt):
    model, tokenizer, folder = exported
    exported_model = AutoModelForCausalLM.from_pretrained(folder)
    exported_tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = encode(tokenizer, prompt)
    # Only Qwen3 has a sliding window, so only its text may exceed the context.
    longest = 3 * BLOCK_SIZE if model_type(model.params) == "qwen3" else BLOCK_SIZE
    n_new = longest - 1 - len(ids)
    params = sample_params(temperature=0.0, num_samples=1, max_new_tokens=n_new)
    [[story]] = generate(model, [ids], params, tokenizer.token_to_id(END_OF_TEXT))
    assert len(story) > 5
    ids = exported_model.generate(**exported_tokenizer(prompt, return_tensors="pt"), max_new_tokens=n_new)[0]
    assert exported_tokenizer.decode(ids, skip_special_tokens=True) == prompt + tokenizer.decode(story)


def test_tokens_equal_those_of_the_tokenizer_after_bos(exported):
    _, tokenizer, folder = exported
    exported_tokenizer, end_of_text = (
        AutoTokenizer.from_pretrained(folder),
        tokenizer.token_to_id(END_OF_TEXT),
    )
    for text in ["", TEXT, "  two  spaces\n", "naïve 日本 🦆", "it's 3 o'clock\t!"]:
        assert exported_tokenizer(text)["input_ids"] == [end_of_text, *encode(tokenizer, text)]
        assert exported_tokenizer(text, add_special_tokens=False)["input_ids"] == encode(tokenizer, text)
        assert exported_tokenizer.decode(encode(tokenizer, text)) == text
    assert exported_tokenizer.bos_token_id == exported_tokenizer.eos_token_id == end_of_text
    assert exported_tokenizer.pad_token_id is None


def test_export_is_deterministic_and_leaves_no_other_files(exported, tmp_path):
    model, tokenizer, folder = exported
    _, _, facts = write_project(tmp_path, "gelu")
    (tmp_path / "empty").mkdir()
    write_folder(model, tokenizer, facts, tmp_path / "empty")
    assert {path.name for path in folder.iterdir()} == FILES
    for name in FILES - {"README.md"}:
        assert (tmp_path / "empty" / name).read_bytes() == (folder / name).read_bytes()
    assert {path.name for path in folder.parent.iterdir()} == {"exported"}


def test_card_has_data_metrics_and_context(exported):
    model, _, folder = exported
    card = (folder / "README.md").read_text()
    assert "\ndatasets: [owner/tales]\n" in card
    # Only data of the story grammar has a known license.
    assert "\nlicense:" not in card
    for row in (
        "| Size | 5,000 parameters, ",
        "| loss | 2.0000 nats per token |",
        "| bits per byte | 1.0000 |",
    ):
        assert row in card
    context = {"gpt2": "has 32 positions", "nanochat": "within 32 tokens", "qwen3": "(`sliding_window`)"}
    architecture = model_type(model.params)
    assert [context[name] in card for name in context] == [name == architecture for name in context]


def test_card_names_the_initial_weights(tmp_path):
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


def test_command_writes_a_folder_or_a_file(tmp_path, monkeypatch):
    write_project(tmp_path, "swiglu")
    monkeypatch.chdir(tmp_path)
    assert run("--to", "hf", "a/b") == "a/b\n"
    assert {path.name for path in (tmp_path / "a/b").iterdir()} == FILES
    assert run("--to", "gguf", "c.gguf", "--quantize", "q8_0") == "c.gguf\n"
    assert (tmp_path / "c.gguf").read_bytes().startswith(b"GGUF")


def test_fine_tuned_model_gets_a_card_without_metrics(tmp_path, monkeypatch):
    model, _, _ = write_project(tmp_path, "gelu")
    shutil.copytree(tmp_path / "models", tmp_path / "models/wishes")
    monkeypatch.chdir(tmp_path)
    assert run("--to", "hf", "--model", "models/wishes", "new") == "new\n"
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES
    card = (tmp_path / "new/README.md").read_text()
    assert f"# A language model of {count_params(model):,} parameters\n" in card
    assert "\n| Architecture | Transformer (" in card
    assert "within 32 tokens" in card
    assert not any(word in card for word in ("held-out", "owner/tales", "nats", "license:"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--to", "hf", "models"], "models: already exists; delete it, or choose another name"),
        (["--to", "hf", "models/config.json"], "models/config.json: already exists; delete it, or"),
        (["--to", "gguf", "models"], "models: already exists; delete it, or choose another name"),
        (["--to", "gguf", "models/config.json"], "models/config.json: already exists; delete it, or"),
        (["--to", "hf", "new", "--quantize", "q8_0"], "--quantize: requires --to gguf, got --to hf"),
        (["--to", "hf", "new", "--model", "none"], "none/tokenizer.json: no such file"),
        (["--to", "hf", "models/config.json/new"], "models/config.json/new: could not be written: "),
        (
            ["--to", "gguf", "new"],
            "model.activation: must be swiglu for llama.cpp, or model.architecture must be gpt2, got gelu",
        ),
    ],
)
def test_error_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, arguments, line):
    write_project(tmp_path, "gelu")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    output = run(*arguments)
    assert output.startswith(f"1: error: {line}")
    assert output.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_result_is_named(tmp_path):
    model, tokenizer, facts = write_project(tmp_path, "gelu")
    (tmp_path / "reports/eval.json").unlink()
    with pytest.raises(UserError, match=r"reports/eval\.json: no such file; `dvc repro` makes it"):
        find_facts(tmp_path / "models")
    write_folder(model, tokenizer, facts, tmp_path / "new")
    assert json.loads((tmp_path / "new/config.json").read_text())["model_type"] == "nanochat"


def test_full_disk_leaves_no_files(tmp_path):
    model, tokenizer, facts = write_project(tmp_path, "gelu")
    before = sorted(tmp_path.rglob("*"))
    with (
        file_size_limit(20_000),
        pytest.raises(UserError, match="new: could not be written: File too large"),
    ):
        write_folder(model, tokenizer, facts, tmp_path / "new")
    assert sorted(tmp_path.rglob("*")) == before
