"""The recipes: no default values, correct headers, and each runs from download to report."""

import json
import math
import os
import re
import shutil
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from dvc.repo import Repo
from transformers import GPT2Config, GPT2LMHeadModel

from slm.cli.recipes import apply_recipe, read_recipe
from slm.core.config import read_yaml
from slm.data.documents import is_validation
from slm.model.gpt import count_params, new_gpt
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.tokenizer.params import TokenizerParams
from slm.tokenizer.tokenizer import decode, load
from storygrammar.grammar.generator import stories
from tests.hub import serve
from tests.pipeline import STAGES
from tests.project import ROOT, change_params, clone, run_slm, run_stage, run_stages

DEFAULTS = (ROOT / "params.yaml").read_text(encoding="utf-8")
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
# DVC runs this recipe. The stages of the other recipes run in this process, which has imported torch.
BY_DVC = "tinystories-cpu"
# Its additional stages are tested in test_sft.py.
SFT_RECIPE = "assistant"
# These are slow even when shortened.
LARGE = {"tinystories-60m", "tinystories-768", "gpt2-tinystories"}
SHORT = {
    "train": {
        "max_steps": 1,
        "warmup_steps": 1,
        "decay_steps": 0,
        "batch_size": 1,
        "grad_accum_steps": 2,
        "eval_tokens": 300,
    },
    "sample": {"num_samples": 1, "max_new_tokens": 3},
    "eval_samples": {"num_samples": 1, "max_new_tokens": 3, "temperatures": []},
}
STORIES = {"train": [story.text for story in islice(stories(seed=3), 60)]}
STORIES["validation"] = [story.text for story in islice(stories(seed=4), 3)]
SCRIPTS = [
    f"<b>FADE IN:</b>\r\n\r\n\x0c<b>INT. HOUSE {n}</b>\x00&nbsp;<|endoftext|>\x1b[0m\x85\ufeff\t\n"
    + f"    <pre>MAN {n}</pre> (V.O.)\n  It is late – go home.\n\n" * (20_000 if n == 0 else 40)
    for n in range(12)
]
PLAY = "ROMEO:\nO, she doth teach the torches to burn bright!\n\n" * 40


def path_of(recipe):
    return ROOT / f"recipes/{recipe}.yaml"


def values_of(recipe):
    """Return a recipe's full params, on the defaults of the working tree."""
    return read_recipe(str(path_of(recipe)), DEFAULTS)


def changes_of(recipe):
    """Return the keys of a recipe's file."""
    return read_yaml(path_of(recipe))


def header_of(recipe):
    return path_of(recipe).read_text(encoding="utf-8").split("\n\n")[0]


def leaves(values, prefix=""):
    """Return the values of nested mappings by their key with dots; an empty mapping is a value."""
    result = {}
    for key, value in values.items():
        is_branch = isinstance(value, dict) and value
        result |= leaves(value, f"{prefix}{key}.") if is_branch else {f"{prefix}{key}": value}
    return result


def count_in_header(recipe):
    return re.search(r"^# Parameters: ([\d,]+)\.$", header_of(recipe), re.MULTILINE)[1]


def test_quickstart_equals_the_defaults():
    assert apply_recipe(path_of("quickstart"), DEFAULTS) == DEFAULTS


def test_assistant_is_the_quickstart_with_one_sft_run():
    assistant = values_of(SFT_RECIPE)
    assert assistant.pop("sft").keys() == {"wishes"}
    assert {**assistant, "sft": {}} == values_of("quickstart")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_has_no_default_values(recipe):
    defaults = leaves(read_yaml(ROOT / "params.yaml"))
    repeated = [key for key, value in leaves(changes_of(recipe)).items() if defaults.get(key, ...) == value]
    assert repeated == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_applied_recipe_changes_only_the_lines_of_its_keys(recipe):
    """Compare as text: no other line of params.yaml is wrapped, quoted or moved, and no comment is lost."""
    applied = apply_recipe(path_of(recipe), DEFAULTS)
    old, new = DEFAULTS.splitlines(), applied.splitlines()
    if recipe != "quickstart":
        assert new.pop(0) == f"# Recipe: {path_of(recipe)}"
    # Only this recipe has new keys, which add lines.
    if recipe == SFT_RECIPE:
        i = next(number for number, line in enumerate(old) if line.startswith("sft:"))
        assert new[:i] == old[:i]
        assert new[i] == old[i].replace("{}", "  ")
    else:
        assert len(new) == len(old)
        assert sum(a != b for a, b in zip(old, new, strict=True)) == len(leaves(changes_of(recipe)))
        assert [comment_of(line) for line in new] == [comment_of(line) for line in old]


def comment_of(line):
    return line.partition(" #")[2]


@pytest.mark.parametrize("recipe", RECIPES)
def test_header_has_parameters_source_and_cost(recipe):
    lines = header_of(recipe).splitlines()
    assert all(line.startswith("# ") for line in lines)
    for part in ("Parameters", "Source", "Cost"):
        assert sum(line.startswith(f"# {part}: ") for line in lines) == 1, part


@pytest.mark.parametrize("recipe", RECIPES)
def test_header_and_readme_have_the_parameter_count(recipe):
    values = values_of(recipe)
    tokenizer = TokenizerParams.check(values["tokenizer"])
    with torch.device("meta"):
        vocab_size = 50257 if tokenizer.type == "gpt2" else tokenizer.vocab_size
        count = count_params(new_gpt(ModelParams.check(values["model"]), vocab_size))
    assert count_in_header(recipe) == f"{count:,}"
    rows = re.findall(rf"^\| \[`{recipe}`\].*\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 1
    assert f"| {count:,} |" in rows[0]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Serve datasets with the names and layouts of TinyStories and the movie scripts, but other texts."""
    root = tmp_path_factory.mktemp("hub")
    half = len(STORIES["train"]) // 2
    shards = {
        "train-00000-of-00002": STORIES["train"][:half],
        "train-00001-of-00002": STORIES["train"][half:],
        "validation-00000-of-00001": STORIES["validation"],
    }
    for name, texts in shards.items():
        put(root, "tinystories-30m", name, {"text": texts})
    names = [f"Movie {n}" for n in range(len(SCRIPTS))]
    put(root, "movie-scripts", "train-00000-of-00001", {"Name": names, "Script": SCRIPTS})
    with serve(root) as server:
        yield server


def put(root, recipe, name, columns):
    """Write a file of the dataset of a recipe."""
    dataset = values_of(recipe)["data"]["hub"]
    folder = root / dataset["name"] / dataset["revision"] / "data"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


@pytest.fixture
def environment(hub, tmp_path, monkeypatch):
    """Set the environment of the stages; delete the models afterwards, because they are large."""
    variables = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "SLM_DEVICE": "cpu",
        "SLM_PROGRESS": "off",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield
    for folder in ("models", "data/user"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)


def prepare(folder, recipe):
    """Write the shortened recipe to params.yaml, and the files that it expects."""
    (folder / "params.yaml").write_text(apply_recipe(path_of(recipe), DEFAULTS), encoding="utf-8")
    shorten(folder, recipe)


def shorten(folder, recipe):
    """Shorten the folder's params, and write the files that the recipe expects."""
    change_params(folder, SHORT)
    if recipe == "quickstart":
        change_params(folder, {"data": {"max_documents": 300}})
    (folder / "data/user").mkdir(parents=True, exist_ok=True)
    (folder / "data/none").write_text("")
    if recipe == "shakespeare":
        (folder / values_of(recipe)["data"]["files"]["train"]).write_text(PLAY)
    if recipe == "gpt2-tinystories":
        GPT2LMHeadModel(GPT2Config()).save_pretrained(folder / values_of(recipe)["train"]["init_from"])


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, marks=[pytest.mark.slow] if recipe in LARGE else [])
        for recipe in RECIPES
        if recipe not in {BY_DVC, SFT_RECIPE}
    ],
)
def test_shortened_recipe_runs_from_download_to_report(environment, tmp_path, monkeypatch, recipe):
    for name in ("slm", "storygrammar", "stages", "requirements", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    prepare(tmp_path, recipe)
    monkeypatch.chdir(tmp_path)
    result = run_stage(tmp_path, "download")
    assert result.returncode == 0, result.stderr
    run_stages(*STAGES[2:])
    assert_complete(recipe)


def test_dvc_runs_an_applied_recipe(environment, tmp_path, monkeypatch):
    monkeypatch.chdir(clone(tmp_path, {}))
    assert run_slm("recipe", BY_DVC).returncode == 0
    shorten(tmp_path, BY_DVC)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    with Repo() as repo:
        assert [stage.name for stage in repo.reproduce()] == STAGES
        assert repo.reproduce() == []
    assert_complete(BY_DVC)


def assert_complete(recipe):
    """Assert that the model, evaluation, samples and documents of the recipe are complete."""
    values = values_of(recipe)
    assert json.loads(Path("models/config.json").read_text())["model"] == values["model"]
    result = json.loads(Path("reports/eval.json").read_text())
    assert math.isfinite(result["perplexity"])
    details = json.loads(Path("reports/details/eval.json").read_text())
    assert details["tokens"] == len(open_bin(Path("data/tokens"), "validation"))
    headings = re.findall("^## (.*)$", Path("reports/samples.md").read_text(), re.MULTILINE)
    assert headings == [prompt or "(empty prompt)" for prompt in values["sample"]["prompts"]]
    assert len([*Path("reports/figures").glob("*.png")]) == (9 if recipe == "quickstart" else 8)
    assert "<h1" in Path("reports/report.html").read_text(encoding="utf-8")
    assert documents() == expected_documents(recipe, values["data"])


def expected_documents(recipe, data):
    """Return the texts of each split that the recipe should have."""
    if recipe == "quickstart":
        texts = [story.text for story in islice(stories(data["seed"]), 300)]
    elif recipe == "movie-scripts":
        texts = SCRIPTS
    elif recipe == "shakespeare":
        position = PLAY.rfind("\n", 0, round(len(PLAY) * 0.9)) + 1
        return {"train": [PLAY[:position]], "validation": [PLAY[position:]]}
    else:
        return STORIES
    held_out = [text for text in texts if is_validation(text, data["validation_fraction"], data["seed"])]
    return {"train": [text for text in texts if text not in held_out], "validation": held_out}


def documents():
    """Return the texts of both bins, by split."""
    tokenizer, end_of_text = load(Path("models/tokenizer.json")), read_meta(Path("data/tokens")).end_of_text
    texts = {}
    for split in ("train", "validation"):
        ids = open_bin(Path("data/tokens"), split)
        parts = np.split(ids, np.flatnonzero(ids == end_of_text) + 1)
        assert len(parts.pop()) == 0
        texts[split] = [decode(tokenizer, part[:-1].tolist()) for part in parts]
    return texts
