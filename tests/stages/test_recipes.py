"""The recipes: only keys that differ, headers with true counts, and each runs from download to report."""

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
BY_DVC = "tinystories-cpu"  # the others' stages run in this process, which has torch loaded
TUNED = "assistant"  # whose own stages test_sft.py runs
LARGE = {"tinystories-60m", "tinystories-768", "gpt2-tinystories"}  # which take a while even so
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
    """Return what a recipe's file has."""
    return read_yaml(path_of(recipe))


def header_of(recipe):
    return path_of(recipe).read_text(encoding="utf-8").split("\n\n")[0]


def leaves(values, prefix=""):
    """Return the values of nested mappings by their key with dots; an empty mapping is a value."""
    found = {}
    for key, value in values.items():
        is_branch = isinstance(value, dict) and value
        found |= leaves(value, f"{prefix}{key}.") if is_branch else {f"{prefix}{key}": value}
    return found


def count_in_header(recipe):
    return re.search(r"^# Parameters: ([\d,]+)\.$", header_of(recipe), re.MULTILINE)[1]


def test_quickstart_equals_the_defaults():
    assert apply_recipe(path_of("quickstart"), DEFAULTS) == DEFAULTS


def test_assistant_is_the_quickstart_with_one_sft_run():
    assistant = values_of(TUNED)
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
    if recipe == TUNED:  # new keys take new lines
        at = next(number for number, line in enumerate(old) if line.startswith("sft:"))
        assert new[:at] == old[:at]
        assert new[at] == old[at].replace("{}", "  ")
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
    """TinyStories and the movie scripts, as they lie on the Hub, with few and other texts."""
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
    """Write a file of the dataset that a recipe names."""
    asked = values_of(recipe)["data"]["hub"]
    folder = root / asked["name"] / asked["revision"] / "data"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


@pytest.fixture
def environment(hub, tmp_path, monkeypatch):
    """What stages read of the environment; models are deleted afterwards, for they are large."""
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
    """Write the recipe, shortened, to the folder's params; put a text where it expects the user's."""
    (folder / "params.yaml").write_text(apply_recipe(path_of(recipe), DEFAULTS), encoding="utf-8")
    shorten(folder, recipe)


def shorten(folder, recipe):
    """Shorten the folder's params, and write the files that the recipe expects."""
    change_params(folder, SHORT)
    if recipe == "quickstart":  # the whole of its corpus is the pipeline's own affair
        change_params(folder, {"data": {"max_documents": 300}})
    (folder / "data/user").mkdir(parents=True, exist_ok=True)
    (folder / "data/none").write_text("")
    if recipe == "shakespeare":
        (folder / values_of(recipe)["data"]["files"]["train"]).write_text(PLAY)
    if recipe == "gpt2-tinystories":
        start = folder / values_of(recipe)["train"]["init_from"]
        GPT2LMHeadModel(GPT2Config()).save_pretrained(start)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, marks=[pytest.mark.slow] if recipe in LARGE else [])
        for recipe in RECIPES
        if recipe not in {BY_DVC, TUNED}
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
    """The current folder has the recipe's model, its evaluation, its samples and all of its documents."""
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
    """The texts of each split that the recipe should find."""
    if recipe == "quickstart":
        texts = [story.text for story in islice(stories(data["seed"]), 300)]
    elif recipe == "movie-scripts":
        texts = SCRIPTS
    elif recipe == "shakespeare":
        cut = PLAY.rfind("\n", 0, round(len(PLAY) * 0.9)) + 1
        return {"train": [PLAY[:cut]], "validation": [PLAY[cut:]]}
    else:
        return STORIES
    held_out = [text for text in texts if is_validation(text, data["validation_fraction"], data["seed"])]
    return {"train": [text for text in texts if text not in held_out], "validation": held_out}


def documents():
    """The texts of both bins."""
    tokenizer, end_of_text = load(Path("models/tokenizer.json")), read_meta(Path("data/tokens")).end_of_text
    found = {}
    for split in ("train", "validation"):
        ids = open_bin(Path("data/tokens"), split)
        parts = np.split(ids, np.flatnonzero(ids == end_of_text) + 1)
        assert len(parts.pop()) == 0
        found[split] = [decode(tokenizer, part[:-1].tolist()) for part in parts]
    return found
