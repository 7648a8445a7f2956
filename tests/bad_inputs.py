"""What may be wrong, case for case, and what the stages say: python -m tests.bad_inputs > docs/errors.md"""

import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import chdir, nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from unittest.mock import patch

import pyarrow as pa
import torch

from slm.cli import check
from slm.core.errors import run_command
from slm.core.stage import run_stage
from tests import project, tiny
from tests.pipeline import STAGES
from tests.spoiling import (
    CONFIG,
    CORPUS,
    META,
    START,
    START_CONFIG,
    TOKENIZER,
    TRAIN_BIN,
    TRAP,
    VALIDATION_BIN,
    VALIDATION_CURVE,
    WEIGHTS,
    WINDOW,
    Spoil,
    Within,
    another_token,
    as_32_bits,
    billion_for_the_seed,
    both,
    change,
    change_json,
    cut,
    filled,
    folder,
    full_disk,
    further_text,
    halve,
    last_ids,
    little_memory,
    locked,
    missing,
    nothing,
    pairs,
    params,
    params_of_model,
    params_text,
    parquet,
    pickled,
    started,
    text,
    training_tokens,
    tuned,
    weights,
    without,
    without_rights,
    write,
)

NEEDED = ("data", "models", "reports", "requirements", "slm", "storygrammar", "stages")
NEEDED += (".slm", "params.yaml", "dvc.yaml")
ENVIRONMENT = {"SLM_PROGRESS": "off", "SLM_DEVICE": "cpu", "SLM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class Case(NamedTuple):
    """Something that is wrong, and the stage that meets it."""

    name: str
    stage: str
    spoil: Spoil  # in the current folder, where all stages ran
    environment: Mapping[str, str] = MappingProxyType({})
    within: Within = nullcontext  # while the stage runs
    alone: bool = False  # in a process of its own


CODE = f"a: !!python/object/apply:os.mkdir [{TRAP}]"
HUB = params(data={"source": "hub"})
NEW = params(train={"seed": 7})  # a training of which no state is there
BLOWS_UP = {"learning_rate": 10.0, "min_lr": 10.0, "warmup_steps": 0, "weight_decay": 1e30}

FILE = [
    Case("missing", "check", missing("params.yaml")),
    Case("empty", "check", write("params.yaml", "")),
    Case("a list", "check", write("params.yaml", "- model\n")),
    Case("not YAML", "check", write("params.yaml", "model: [1, 2")),
    Case("not UTF-8", "check", write("params.yaml", b"model: \xff")),
    Case("a control character", "check", write("params.yaml", "model: \0")),
    Case("a key twice", "check", write("params.yaml", "model: 1\nmodel: 2\n")),
    Case("a number of 5000 digits", "check", write("params.yaml", f"model: {'9' * 5000}")),
    Case("lists 500 deep", "check", write("params.yaml", "[" * 500)),
    Case("a tag that would run code", "check", write("params.yaml", CODE)),
    Case("unknown section", "check", params_text("model:", "modle: {}\nmodel:")),
    Case("a section is a number", "train", params_text("\ntrain:", "\ntrain: 3\nx:")),
    Case("a section is missing", "evaluate", params_text("\nevaluate:", "\nx:")),
    Case("unknown key", "download", params(data={"nonsense": 1})),
    Case("a mistyped key", "train", params_text("learning_rate:", "learning_rat:")),
    Case("a number for a key", "train", params(model={1: 2})),
]
VALUES = [
    Case("three of them", "evaluate", params(evaluate={"batch_size": 0, "stride": "a", "ngram_order": 99})),
    Case("text for a number", "train", params(train={"learning_rate": "fast"})),
    Case("a number in quotes", "train", params(train={"learning_rate": "1e-3"})),
    Case("a date for a number", "train", params_text("max_steps: 6", "max_steps: 2026-01-01")),
    Case("a fraction for a count", "train", params(model={"n_layer": 2.5})),
    Case("text for true or false", "train", params(model={"bias": "yes"})),
    Case("true for a number", "train", params(model={"n_layer": True})),
    Case("nothing for a number", "train", params(train={"max_steps": None})),
    Case("a billion values for a number", "check", billion_for_the_seed()),
    Case("NaN", "train", params(train={"learning_rate": float("nan")})),
    Case("infinity", "train", params(train={"weight_decay": float("inf")})),
    Case("negative", "download", params(data={"max_documents": -3})),
    Case("zero", "train", params(train={"batch_size": 0})),
    Case("a fraction above 1", "download", params(data={"validation_fraction": 1.5})),
    Case("a seed of 64 bits", "sample", params(sample={"seed": 2**63})),
    Case("not one of the choices", "tokenize", params(tokenizer={"type": "words"})),
    Case("fewer tokens than bytes", "tokenize", params(tokenizer={"vocab_size": 256})),
    Case("stories without end", "download", params(data={"max_documents": None})),
    Case("not the name of a dataset", "download", params_text("roneneldan/TinyStories", "tiny stories")),
    Case("channels that the heads cannot share", "train", params(model={"n_embd": 130, "n_head": 4})),
    Case("groups of heads that are not whole", "train", params(model={"n_head": 4, "n_kv_head": 3})),
    Case("heads that cannot be turned", "train", params(model={"n_embd": 18, "n_head": 2})),
    Case(
        "a block that cannot be cut",
        "train",
        params(model={"block_size": 30}, train={"seq_len_warmup_steps": 1}),
    ),
    Case("a learning rate that rises", "train", params(train={"min_lr": 0.1})),
    Case("a warm-up longer than the training", "train", params(train={"warmup_steps": 7})),
    Case("a decay longer than the training", "train", params(train={"schedule": "wsd", "decay_steps": 5})),
    Case("a type that the device cannot train in", "train", params(train={"dtype": "float16"})),
    Case("a dataset with an unknown metric", "check", further_text(metric="acc")),
    Case("a further text of a branch", "check", further_text(hub=tiny.HUB)),
    Case("a further text without a file", "check", further_text(file="")),
    Case("a task that there is not", "check", tuned(tasks={"sing": 1})),
    Case("nothing to tune on", "check", tuned(tasks={})),
    Case("a model with a space in its name", "check", params(sft={"a b": tiny.SFT})),
    Case("an unknown key of a model", "sft@a", tuned(steps=3)),
    Case("no number of stories", "eval_samples", params(eval_samples={"num_samples": 0})),
    Case("a temperature that is text", "eval_samples", params(eval_samples={"temperatures": ["hot"]})),
    Case("windows that leave gaps", "evaluate", params(evaluate={"stride": WINDOW + 1})),
    Case("a prompt that is no list", "sample", params(sample={"prompts": "Once"})),
    Case("no prompts", "sample", params(sample={"prompts": []})),
    Case("a prompt with half a surrogate pair", "sample", params_text("Once", r'"\ud800"')),
    Case("a temperature below 0", "sample", params(sample={"temperature": -0.5})),
    Case("a choice among 0 tokens", "sample", params(sample={"top_k": 0})),
    Case("a nucleus of nothing", "sample", params(sample={"top_p": 0})),
    Case("a share above 1", "sample", params(sample={"min_p": 1.5})),
    Case("no penalty at all", "sample", params(sample={"repetition_penalty": 0})),
]
SIZES = [
    Case("a billion channels", "train", params(model={"n_embd": 10**9})),
    Case("a million layers", "train", params(model={"n_layer": 10**6})),
    Case("a context of a billion tokens", "train", params(model={"block_size": 10**9})),
    Case("ten billion tokens to know", "tokenize", params(tokenizer={"vocab_size": 10**10})),
    Case("a model that does not fit", "train", params(model={"n_layer": 1000, "n_embd": 100_000})),
    Case("a forward pass that does not fit", "train", params(train={"batch_size": 10**9})),
    Case("a step that does not fit", "train", params(train={"grad_accum_steps": 10**9})),
    Case("memory that runs out", "train", params(train={"batch_size": 20_000}), within=little_memory),
]
VARIABLES = [
    Case("unknown device", "train", nothing, {"SLM_DEVICE": "tpu"}, alone=True),
    Case("threads are no number", "evaluate", nothing, {"SLM_THREADS": "many"}),
    Case("processes are no number", "train", nothing, {"SLM_PROCESSES": "x"}),
    Case("more processes than rows", "train", nothing, {"SLM_PROCESSES": "4"}),
    Case("unknown progress", "sample", nothing, {"SLM_PROGRESS": "loud"}),
    Case("seconds are no number", "train", nothing, {"SLM_CHECKPOINT_INTERVAL": "nan"}),
    Case("the Hub is not to be asked", "download", HUB, {"HF_HUB_OFFLINE": "1"}, alone=True),
]
TEXTS = [
    Case("no such file", "download", text("mine.txt", None)),
    Case("a name that cannot be", "download", text("mine\0.txt", None)),
    Case("empty", "download", text("mine.txt", "")),
    Case("white space alone", "download", text("mine.txt", " \n" * 50)),
    Case("one character", "download", text("mine.txt", "x")),
    Case("nothing held out", "download", text("mine.txt", "a<|endoftext|>b", validation_fraction=1e-9)),
    Case("not UTF-8", "download", text("mine.txt", b"na\xefve")),
    Case("UTF-8 that is cut", "download", text("mine.txt", "日本".encode()[:-1])),
    Case("of a kind that cannot be read", "download", text("mine.pdf", "%PDF")),
    Case("a folder without texts", "download", both(text("mine", None), folder("mine"))),
    Case("a folder with a file of bytes", "download", both(text("mine", None), write("mine/b.txt", b"\xff"))),
    Case("JSONL with a broken line", "download", text("mine.jsonl", '{"text": "a"}\n\n{"text": "b"\n')),
    Case("JSONL with a line that is no object", "download", text("mine.jsonl", '{"text": "a"}\n["b"]\n')),
    Case("JSONL without the field", "download", text("mine.jsonl", '{"story": "a", "id": 1}\n')),
    Case("JSONL with a number for text", "download", text("mine.jsonl", '{"text": 3}\n')),
    Case("JSONL that is not UTF-8", "download", text("mine.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n')),
    Case("JSONL with half a surrogate pair", "download", text("mine.jsonl", r'{"text": "a\ud800"}')),
    Case("Parquet that is cut", "download", text("mine.parquet", parquet({"text": ["a"] * 9})[:-9])),
    Case("Parquet that is something else", "download", text("mine.parquet", "PAR1, or so it says")),
    Case("Parquet without the column", "download", text("mine.parquet", parquet({"title": ["a"]}))),
    Case("Parquet with numbers for text", "download", text("mine.parquet", parquet({"text": [1, 2]}))),
    Case("pairs without an answer", "sft@a", pairs('{"prompt": "Why?"}\n')),
    Case("pairs of which none is held out", "sft@a", pairs('{"prompt": "Why?", "answer": "So."}\n')),
    Case("requests longer than a block", "sft@a", tuned(tasks={"summary": 1.0})),
]
CORPORA = [
    Case("missing", "tokenize", missing(CORPUS)),
    Case("cut short", "tokenize", cut(CORPUS)),
    Case("no documents", "tokenize", write(CORPUS, parquet({"text": pa.array([], pa.string())}))),
    Case("no column of texts", "tokenize", write(CORPUS, parquet({"story": ["a"]}))),
    Case("shorter than one window", "train", training_tokens(WINDOW - 1)),
    Case("a summary without a split", "evaluate", without("data/corpus/summary.json", "validation")),
]
BINS = [
    Case("missing", "train", missing(TRAIN_BIN)),
    Case("cut short", "train", cut(TRAIN_BIN)),
    Case("too long", "evaluate", change(VALIDATION_BIN, lambda ids: ids + b"\0\0")),
    Case("empty", "train", training_tokens(0)),
    Case("an id outside the vocabulary", "train", change(TRAIN_BIN, last_ids(1, 300))),
    Case("ids outside the vocabulary", "evaluate", change(VALIDATION_BIN, last_ids(9, 65535))),
    Case("32 bits an id instead of 16", "train", change(TRAIN_BIN, as_32_bits)),
    Case("16 bits an id instead of 32", "train", change_json(META, dtype="uint32")),
    Case("a type that no ids are of", "train", change_json(META, dtype="float32")),
    Case("no meta.json", "train", missing(META)),
    Case("meta.json is cut", "evaluate", cut(META)),
    Case("meta.json without the vocabulary", "train", without(META, "vocab_size")),
    Case("the end of text is no token", "evaluate", change_json(META, end_of_text=300)),
]
CHECKPOINTS = [
    Case("missing", "evaluate", missing(WEIGHTS)),
    Case("cut short", "evaluate", cut(WEIGHTS)),
    Case("empty", "sample", write(WEIGHTS, "")),
    Case("a folder", "sample", folder(WEIGHTS)),
    Case("a pickle, which would run code", "sample", pickled(WEIGHTS)),
    Case("weights of another shape", "evaluate", params_of_model(n_embd=32)),
    Case("weights of another type", "sample", weights(halve)),
    Case("a weight is missing", "evaluate", weights(lambda w: w.pop("head.weight"))),
    Case("a weight too many", "sample", weights(lambda w: w.update(zebra=torch.zeros(1)))),
    Case("a weight is NaN", "evaluate", filled(float("nan"))),
    Case("weights too large to measure", "evaluate", weights(lambda w: w["head.weight"].mul_(1e30))),
    Case("weights too large to write with", "sample", filled(3e38)),
    Case("another architecture", "sample", change_json(CONFIG, architecture="llama")),
    Case("an unknown key in config.json", "sample", change_json(CONFIG, rope=True)),
    Case("no config.json", "sample", missing(CONFIG)),
    Case("config.json is cut", "sample", cut(CONFIG)),
    Case("of another vocabulary than the bins", "evaluate", change_json(CONFIG, vocab_size=299)),
    Case("of another vocabulary than the tokenizer", "sample", change_json(CONFIG, vocab_size=400)),
    Case("no tokenizer", "sample", missing(TOKENIZER)),
    Case("the tokenizer is cut", "sample", write(TOKENIZER, '{"version": "1.0"')),
]
STARTS = [
    Case("no such folder", "train", params(train={"init_from": START})),
    Case("no config.json", "train", started(missing(START_CONFIG))),
    Case("weights that are cut", "train", started(cut(f"{START}/model.safetensors"))),
    Case("a model of another kind", "train", started(change_json(START_CONFIG, model_type="llama"))),
    Case("other rotary angles", "train", started(change_json(START_CONFIG, rope_parameters={}))),
    Case("other params", "train", started(params(model={"n_layer": 2, "activation": "swiglu"}))),
    Case("more tokens", "train", started(change_json(START_CONFIG, vocab_size=301))),
    Case("other tokens", "train", started(change(f"{START}/tokenizer.json", another_token))),
]
RESULTS = [
    Case("no curve", "plot", missing(VALIDATION_CURVE)),
    Case("a curve without rows", "plot", write(VALIDATION_CURVE, "step,tokens,val_loss\n")),
    Case("a curve without a column", "plot", write(VALIDATION_CURVE, "step,tokens\n0,0\n")),
    Case("a curve that is cut", "plot", write(VALIDATION_CURVE, "step,tokens,val_loss\n0,0,5.7\n3,1")),
    Case("text in a curve", "plot", write(VALIDATION_CURVE, "step,tokens,val_loss\n0,0,low\n")),
    Case("no evaluation", "plot", missing("reports/eval.json")),
    Case("an evaluation without the loss", "plot", without("reports/eval.json", "val_loss")),
    Case(
        "a share above 1",
        "plot",
        write("reports/minimal_pairs.csv", "phenomenon,accuracy,pairs\nname,1.5,2\n"),
    ),
    Case("no stories", "report", missing("data/samples.jsonl")),
    Case("stories that are cut", "report", write("data/samples.jsonl", '{"temperature": 1.0, "sam')),
    Case("a picture that is none", "report", write("reports/figures/loss.png", "PNG")),
]
WRITING = [
    Case("full disk: corpus", "download", nothing, within=full_disk(20_000)),
    Case("full disk: bins", "tokenize", nothing, within=full_disk(2000)),
    Case("full disk: tokenizer", "tokenize", params(tokenizer={"type": "gpt2"}), within=full_disk(10**6)),
    Case("full disk: state", "train", NEW, within=full_disk(2000)),
    Case("full disk: model", "train", nothing, within=full_disk(2000)),
    Case("full disk: evaluation", "evaluate", nothing, within=full_disk(100)),
    Case("full disk: samples", "sample", nothing, within=full_disk(100)),
    Case("full disk: samples", "eval_samples", nothing, within=full_disk(100)),
    Case("full disk: pictures", "plot", nothing, within=full_disk(2000)),
    Case("full disk: the report", "report", nothing, within=full_disk(2000)),
    Case("no right to write: corpus", "download", locked("data/corpus"), within=without_rights),
    Case("no right to write: bins", "tokenize", locked("data/tokens"), within=without_rights),
    Case("no right to write: tokenizer", "tokenize", locked("models"), within=without_rights),
    Case("no right to write: state", "train", both(NEW, locked(".slm/checkpoints")), within=without_rights),
    Case("no right to write: model", "train", locked("models"), within=without_rights),
    Case("no right to write: evaluation", "evaluate", locked("reports"), within=without_rights),
    Case("no right to write: samples", "sample", locked("reports"), within=without_rights),
    Case("no right to write: pictures", "plot", locked("reports/figures"), within=without_rights),
    Case("a folder in the place: the model", "train", folder(WEIGHTS)),
    Case("a folder in the place: samples", "sample", folder("reports/samples.md")),
]
READING = [
    Case("params.yaml", "check", locked("params.yaml"), within=without_rights),
    Case("your text", "download", both(text("mine.txt", "a"), locked("mine.txt")), within=without_rights),
    Case("corpus", "tokenize", locked(CORPUS), within=without_rights),
    Case("bins", "train", locked(TRAIN_BIN), within=without_rights),
    Case("the model", "sample", locked(WEIGHTS), within=without_rights),
]
TRAINING = [Case("the loss turns NaN", "train", params(train=BLOWS_UP))]

KINDS = {
    "The file params.yaml": FILE,
    "Values in it": VALUES,
    "Sizes": SIZES,
    "Environment variables": VARIABLES,
    "Your own text": TEXTS,
    "The corpus": CORPORA,
    "Bins": BINS,
    "Checkpoints": CHECKPOINTS,
    "Weights to start from": STARTS,
    "Results to show": RESULTS,
    "Files that cannot be written": WRITING,
    "Files that may not be read": READING,
    "Training": TRAINING,
}


def ready(folder: Path) -> Path:
    """A project in which all stages ran."""
    project.clone(folder)
    with chdir(folder):
        for stage in STAGES:
            status, said = run(Case("", stage, nothing))
            assert status == 0, said
    return folder


def copy(made: Path, folder: Path) -> Path:
    """What the stages need of a project."""
    folder.mkdir()
    for name in NEEDED:
        copier = shutil.copytree if (made / name).is_dir() else shutil.copy2
        copier(made / name, folder / name)
    return folder


def run(case: Case) -> tuple[int, str]:
    """Run the case's stage in the current folder, spoilt already. Gives its status and what it said."""
    environment, said = {**ENVIRONMENT, **case.environment}, io.StringIO()
    if case.alone:
        result = project.run_stage(Path(), case.stage, **environment)
        return result.returncode, result.stderr
    with (
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", [case.stage]),
        case.within(),
        redirect_stdout(io.StringIO()),
        redirect_stderr(said),
    ):
        try:
            if case.stage == "check":
                run_command(lambda: check.check(Path("params.yaml")))
            else:
                module = f"stages.{case.stage.partition('@')[0]}"
                run_stage(case.stage, import_module(module).main)
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


def row(case: Case, said: str) -> str:
    """A case's row of the page, without what differs between machines or is made of all the code."""
    lines = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
    cell = "<br>".join(f"`` {line} ``" for line in lines).replace("|", "\\|").replace(f"{Path.cwd()}/", "")
    cell = re.sub(r"has [\d,.]+ GB", "has … GB", cell)
    cell = re.sub(r"[0-9a-f]{16}-[0-9a-f]{16}", "…", cell)
    return f"| {case.name} | {case.stage} | {cell} |"


INTRODUCTION = """# What you read when something is wrong

A stage that meets something wrong says what it is in one line after `error: ` (one for each wrong key of
`params.yaml`) and ends with status 1. Nothing half-written stays behind, and what was there stays as it was.
Only DVC takes away what a stage had made before it runs the stage again; if that fails,
`dvc checkout && git checkout reports` brings back what the params before had made.

`python -m tests.bad_inputs > docs/errors.md` makes this page by running each case; the tests compare it with
what the stages say. An ellipsis stands for what depends on the machine or the code; a limit to the size of
files stands in for a full disk.
"""


def page() -> str:
    """All cases, run, as Markdown."""
    parts = [INTRODUCTION]
    with tempfile.TemporaryDirectory() as folder:
        made = ready(Path(folder, "ready"))
        for kind, cases in KINDS.items():
            parts.append(f"\n## {kind}\n\n| what is wrong | stage | the line |\n|---|---|---|\n")
            for case in cases:
                with chdir(copy(made, Path(tempfile.mkdtemp(dir=folder), "copy"))):
                    case.spoil()
                    parts.append(row(case, run(case)[1]) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
