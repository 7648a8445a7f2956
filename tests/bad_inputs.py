"""Cases of bad input and the messages of the stages: python -m tests.bad_inputs > tests/stages/messages.md"""

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
from tests.faults import (
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
    Context,
    Fault,
    both,
    delete,
    drop_key,
    edit,
    edit_config,
    edit_dataset,
    edit_json,
    edit_params,
    edit_sft,
    edit_weights,
    fill_head,
    full_disk,
    halve,
    init_from_export,
    limit_memory,
    lock,
    no_fault,
    parquet,
    replace_by_folder,
    replace_by_pickle,
    replace_text,
    replace_token,
    set_last_ids,
    shorten_training_split,
    to_uint32,
    truncate,
    unprivileged,
    use_sft_file,
    use_text,
    write,
    yaml_bomb,
)
from tests.pipeline import STAGES

NEEDED = ("data", "models", "reports", "requirements", "slm", "storygrammar", "stages")
NEEDED += (".slm", "params.yaml", "dvc.yaml")
ENVIRONMENT = {"SLM_PROGRESS": "off", "SLM_DEVICE": "cpu", "SLM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class Case(NamedTuple):
    """A fault and the stage that reports it."""

    name: str
    stage: str
    # Injects the fault into the current folder, in which all stages have run.
    inject: Fault
    environment: Mapping[str, str] = MappingProxyType({})
    # The context in which the stage runs.
    context: Context = nullcontext
    # Whether the stage runs in its own process.
    new_process: bool = False


CODE = f"a: !!python/object/apply:os.mkdir [{TRAP}]"
HUB = edit_params(data={"source": "hub"})
# Params of a run without checkpoints.
NEW_RUN = edit_params(train={"seed": 7})
BLOWS_UP = {"learning_rate": 10.0, "min_lr": 10.0, "warmup_steps": 0, "weight_decay": 1e30}

FILE = [
    Case("missing", "check", delete("params.yaml")),
    Case("empty", "check", write("params.yaml", "")),
    Case("a list", "check", write("params.yaml", "- model\n")),
    Case("not YAML", "check", write("params.yaml", "model: [1, 2")),
    Case("not UTF-8", "check", write("params.yaml", b"model: \xff")),
    Case("a control character", "check", write("params.yaml", "model: \0")),
    Case("a duplicate key", "check", write("params.yaml", "model: 1\nmodel: 2\n")),
    Case("a number of 5000 digits", "check", write("params.yaml", f"model: {'9' * 5000}")),
    Case("lists nested 500 deep", "check", write("params.yaml", "[" * 500)),
    Case("a tag that would run code", "check", write("params.yaml", CODE)),
    Case("unknown section", "check", replace_text("model:", "modle: {}\nmodel:")),
    Case("a section is a number", "train", replace_text("\ntrain:", "\ntrain: 3\nx:")),
    Case("a section is missing", "evaluate", replace_text("\nevaluate:", "\nx:")),
    Case("unknown key", "download", edit_params(data={"nonsense": 1})),
    Case("a mistyped key", "train", replace_text("learning_rate:", "learning_rat:")),
    Case("a number as a key", "train", edit_params(model={1: 2})),
]
VALUES = [
    Case(
        "several invalid values",
        "evaluate",
        edit_params(evaluate={"batch_size": 0, "stride": "a", "ngram_order": 99}),
    ),
    Case("text for a number", "train", edit_params(train={"learning_rate": "fast"})),
    Case("a number in quotes", "train", edit_params(train={"learning_rate": "1e-3"})),
    Case("a date for a number", "train", replace_text("max_steps: 6", "max_steps: 2026-01-01")),
    Case("a fraction for a count", "train", edit_params(model={"n_layer": 2.5})),
    Case("text for true or false", "train", edit_params(model={"bias": "yes"})),
    Case("true for a number", "train", edit_params(model={"n_layer": True})),
    Case("null for a number", "train", edit_params(train={"max_steps": None})),
    Case("a YAML alias bomb", "check", yaml_bomb()),
    Case("NaN", "train", edit_params(train={"learning_rate": float("nan")})),
    Case("infinity", "train", edit_params(train={"weight_decay": float("inf")})),
    Case("negative", "download", edit_params(data={"max_documents": -3})),
    Case("zero", "train", edit_params(train={"batch_size": 0})),
    Case("a fraction above 1", "download", edit_params(data={"validation_fraction": 1.5})),
    Case("a seed of 64 bits", "sample", edit_params(sample={"seed": 2**63})),
    Case("not one of the choices", "tokenize", edit_params(tokenizer={"type": "words"})),
    Case("fewer tokens than bytes", "tokenize", edit_params(tokenizer={"vocab_size": 256})),
    Case("unlimited synthetic stories", "download", edit_params(data={"max_documents": None})),
    Case("not the name of a dataset", "download", replace_text("roneneldan/TinyStories", "tiny stories")),
    Case("n_embd that n_head does not divide", "train", edit_params(model={"n_embd": 130, "n_head": 4})),
    Case("n_head that n_kv_head does not divide", "train", edit_params(model={"n_head": 4, "n_kv_head": 3})),
    Case("an odd head_dim", "train", edit_params(model={"n_embd": 18, "n_head": 2})),
    Case(
        "a block_size not divisible by 4",
        "train",
        edit_params(model={"block_size": 30}, train={"seq_len_warmup_steps": 1}),
    ),
    Case("min_lr above learning_rate", "train", edit_params(train={"min_lr": 0.1})),
    Case("a warm-up longer than max_steps", "train", edit_params(train={"warmup_steps": 7})),
    Case("a decay longer than max_steps", "train", edit_params(train={"schedule": "wsd", "decay_steps": 5})),
    Case("a dtype that the device does not support", "train", edit_params(train={"dtype": "float16"})),
    Case("a dataset with an unknown metric", "check", edit_dataset(metric="acc")),
    Case("a dataset at a branch of the Hub", "check", edit_dataset(hub=tiny.HUB)),
    Case("a dataset without a file", "check", edit_dataset(file="")),
    Case("an unknown task", "check", edit_sft(tasks={"sing": 1})),
    Case("no tasks", "check", edit_sft(tasks={})),
    Case("a space in the name of a run", "check", edit_params(sft={"a b": tiny.SFT})),
    Case("an unknown key of a run", "sft@a", edit_sft(steps=3)),
    Case("no samples", "eval_samples", edit_params(eval_samples={"num_samples": 0})),
    Case("text for a temperature", "eval_samples", edit_params(eval_samples={"temperatures": ["hot"]})),
    Case("a stride above block_size", "evaluate", edit_params(evaluate={"stride": WINDOW + 1})),
    Case("text for a list of prompts", "sample", edit_params(sample={"prompts": "Once"})),
    Case("no prompts", "sample", edit_params(sample={"prompts": []})),
    Case("a lone surrogate in a prompt", "sample", replace_text("Once", r'"\ud800"')),
    Case("a temperature below 0", "sample", edit_params(sample={"temperature": -0.5})),
    Case("top_k of 0", "sample", edit_params(sample={"top_k": 0})),
    Case("top_p of 0", "sample", edit_params(sample={"top_p": 0})),
    Case("a fraction above 1", "sample", edit_params(sample={"min_p": 1.5})),
    Case("a repetition penalty of 0", "sample", edit_params(sample={"repetition_penalty": 0})),
]
SIZES = [
    Case("n_embd of a billion", "train", edit_params(model={"n_embd": 10**9})),
    Case("a million layers", "train", edit_params(model={"n_layer": 10**6})),
    Case("a context of a billion tokens", "train", edit_params(model={"block_size": 10**9})),
    Case("a vocabulary of ten billion", "tokenize", edit_params(tokenizer={"vocab_size": 10**10})),
    Case("a model too large for memory", "train", edit_params(model={"n_layer": 1000, "n_embd": 100_000})),
    Case("a micro-batch too large for memory", "train", edit_params(train={"batch_size": 10**9})),
    Case("a step too large for memory", "train", edit_params(train={"grad_accum_steps": 10**9})),
    Case("out of memory", "train", edit_params(train={"batch_size": 20_000}), context=limit_memory),
]
VARIABLES = [
    Case("unknown device", "train", no_fault, {"SLM_DEVICE": "tpu"}, new_process=True),
    Case("invalid number of threads", "evaluate", no_fault, {"SLM_THREADS": "many"}),
    Case("invalid number of processes", "train", no_fault, {"SLM_PROCESSES": "x"}),
    Case("more processes than sequences", "train", no_fault, {"SLM_PROCESSES": "4"}),
    Case("unknown progress display", "sample", no_fault, {"SLM_PROGRESS": "loud"}),
    Case("invalid checkpoint interval", "train", no_fault, {"SLM_CHECKPOINT_INTERVAL": "nan"}),
    Case("the Hub in offline mode", "download", HUB, {"HF_HUB_OFFLINE": "1"}, new_process=True),
]
TEXTS = [
    Case("no such file", "download", use_text("mine.txt", None)),
    Case("an invalid path", "download", use_text("mine\0.txt", None)),
    Case("empty", "download", use_text("mine.txt", "")),
    Case("white space only", "download", use_text("mine.txt", " \n" * 50)),
    Case("one character", "download", use_text("mine.txt", "x")),
    Case("nothing held out", "download", use_text("mine.txt", "a<|endoftext|>b", validation_fraction=1e-9)),
    Case("not UTF-8", "download", use_text("mine.txt", b"na\xefve")),
    Case("truncated UTF-8", "download", use_text("mine.txt", "日本".encode()[:-1])),
    Case("an unsupported format", "download", use_text("mine.pdf", "%PDF")),
    Case("a folder without texts", "download", both(use_text("mine", None), replace_by_folder("mine"))),
    Case(
        "a folder with a binary file", "download", both(use_text("mine", None), write("mine/b.txt", b"\xff"))
    ),
    Case(
        "JSONL with a truncated line", "download", use_text("mine.jsonl", '{"text": "a"}\n\n{"text": "b"\n')
    ),
    Case("JSONL with a list", "download", use_text("mine.jsonl", '{"text": "a"}\n["b"]\n')),
    Case("JSONL without the field", "download", use_text("mine.jsonl", '{"story": "a", "id": 1}\n')),
    Case("JSONL with a number for text", "download", use_text("mine.jsonl", '{"text": 3}\n')),
    Case("JSONL that is not UTF-8", "download", use_text("mine.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n')),
    Case("JSONL with a lone surrogate", "download", use_text("mine.jsonl", r'{"text": "a\ud800"}')),
    Case("truncated Parquet", "download", use_text("mine.parquet", parquet({"text": ["a"] * 9})[:-9])),
    Case("text named .parquet", "download", use_text("mine.parquet", "PAR1, or so it says")),
    Case("Parquet without the column", "download", use_text("mine.parquet", parquet({"title": ["a"]}))),
    Case("Parquet with numbers for text", "download", use_text("mine.parquet", parquet({"text": [1, 2]}))),
    Case("pairs without an answer", "sft@a", use_sft_file('{"prompt": "Why?"}\n')),
    Case("too few pairs to hold out", "sft@a", use_sft_file('{"prompt": "Why?", "answer": "So."}\n')),
    Case("prompts longer than block_size", "sft@a", edit_sft(tasks={"summary": 1.0})),
]
CORPORA = [
    Case("missing", "tokenize", delete(CORPUS)),
    Case("truncated", "tokenize", truncate(CORPUS)),
    Case("no documents", "tokenize", write(CORPUS, parquet({"text": pa.array([], pa.string())}))),
    Case("no column of texts", "tokenize", write(CORPUS, parquet({"story": ["a"]}))),
    Case("shorter than one window", "train", shorten_training_split(WINDOW - 1)),
    Case("a summary without a split", "evaluate", drop_key("data/corpus/summary.json", "validation")),
]
BINS = [
    Case("missing", "train", delete(TRAIN_BIN)),
    Case("truncated", "train", truncate(TRAIN_BIN)),
    Case("too long", "evaluate", edit(VALIDATION_BIN, lambda ids: ids + b"\0\0")),
    Case("empty", "train", shorten_training_split(0)),
    Case("an id outside the vocabulary", "train", edit(TRAIN_BIN, set_last_ids(1, 300))),
    Case("ids outside the vocabulary", "evaluate", edit(VALIDATION_BIN, set_last_ids(9, 65535))),
    Case("ids of 32 instead of 16 bits", "train", edit(TRAIN_BIN, to_uint32)),
    Case("ids of 16 instead of 32 bits", "train", edit_json(META, dtype="uint32")),
    Case("an unknown type of ids", "train", edit_json(META, dtype="float32")),
    Case("no meta.json", "train", delete(META)),
    Case("meta.json is truncated", "evaluate", truncate(META)),
    Case("meta.json without the vocabulary", "train", drop_key(META, "vocab_size")),
    Case("end_of_text outside the vocabulary", "evaluate", edit_json(META, end_of_text=300)),
]
CHECKPOINTS = [
    Case("missing", "evaluate", delete(WEIGHTS)),
    Case("truncated", "evaluate", truncate(WEIGHTS)),
    Case("empty", "sample", write(WEIGHTS, "")),
    Case("a folder", "sample", replace_by_folder(WEIGHTS)),
    Case("a pickle, which would run code", "sample", replace_by_pickle(WEIGHTS)),
    Case("weights of another shape", "evaluate", edit_config(n_embd=32)),
    Case("weights of another type", "sample", edit_weights(halve)),
    Case("a weight is missing", "evaluate", edit_weights(lambda w: w.pop("head.weight"))),
    Case("an unknown weight", "sample", edit_weights(lambda w: w.update(zebra=torch.zeros(1)))),
    Case("a weight is NaN", "evaluate", fill_head(float("nan"))),
    Case(
        "weights that overflow in the evaluation",
        "evaluate",
        edit_weights(lambda w: w["head.weight"].mul_(1e30)),
    ),
    Case("weights that overflow in sampling", "sample", fill_head(3e38)),
    Case("another architecture", "sample", edit_json(CONFIG, architecture="llama")),
    Case("an unknown key in config.json", "sample", edit_json(CONFIG, rope=True)),
    Case("no config.json", "sample", delete(CONFIG)),
    Case("config.json is truncated", "sample", truncate(CONFIG)),
    Case("another vocab_size than the bins", "evaluate", edit_json(CONFIG, vocab_size=299)),
    Case("another vocab_size than the tokenizer", "sample", edit_json(CONFIG, vocab_size=400)),
    Case("no tokenizer", "sample", delete(TOKENIZER)),
    Case("the tokenizer is truncated", "sample", write(TOKENIZER, '{"version": "1.0"')),
]
STARTS = [
    Case("no such folder", "train", edit_params(train={"init_from": START})),
    Case("no config.json", "train", init_from_export(delete(START_CONFIG))),
    Case("truncated weights", "train", init_from_export(truncate(f"{START}/model.safetensors"))),
    Case("another model type", "train", init_from_export(edit_json(START_CONFIG, model_type="llama"))),
    Case("other rotary angles", "train", init_from_export(edit_json(START_CONFIG, rope_parameters={}))),
    Case(
        "other params", "train", init_from_export(edit_params(model={"n_layer": 2, "activation": "swiglu"}))
    ),
    Case("a larger vocabulary", "train", init_from_export(edit_json(START_CONFIG, vocab_size=301))),
    Case("another tokenizer", "train", init_from_export(edit(f"{START}/tokenizer.json", replace_token))),
]
RESULTS = [
    Case("no curve", "plot", delete(VALIDATION_CURVE)),
    Case("a curve without rows", "plot", write(VALIDATION_CURVE, "step,tokens,val_loss\n")),
    Case("a curve without a column", "plot", write(VALIDATION_CURVE, "step,tokens\n0,0\n")),
    Case("a truncated curve", "plot", write(VALIDATION_CURVE, "step,tokens,val_loss\n0,0,5.7\n3,1")),
    Case("text in a curve", "plot", write(VALIDATION_CURVE, "step,tokens,val_loss\n0,0,low\n")),
    Case("no evaluation", "plot", delete("reports/eval.json")),
    Case("an evaluation without the loss", "plot", drop_key("reports/eval.json", "val_loss")),
    Case(
        "a fraction above 1",
        "plot",
        write("reports/minimal_pairs.csv", "phenomenon,accuracy,pairs\nname,1.5,2\n"),
    ),
    Case("no samples", "report", delete("data/samples.jsonl")),
    Case("truncated samples", "report", write("data/samples.jsonl", '{"temperature": 1.0, "sam')),
    Case("an invalid figure", "report", write("reports/figures/loss.png", "PNG")),
]
WRITING = [
    Case("full disk: corpus", "download", no_fault, context=full_disk(20_000)),
    Case("full disk: bins", "tokenize", no_fault, context=full_disk(2000)),
    Case(
        "full disk: tokenizer", "tokenize", edit_params(tokenizer={"type": "gpt2"}), context=full_disk(10**6)
    ),
    Case("full disk: checkpoint", "train", NEW_RUN, context=full_disk(2000)),
    Case("full disk: model", "train", no_fault, context=full_disk(2000)),
    Case("full disk: evaluation", "evaluate", no_fault, context=full_disk(100)),
    Case("full disk: samples", "sample", no_fault, context=full_disk(100)),
    Case("full disk: samples", "eval_samples", no_fault, context=full_disk(100)),
    Case("full disk: figures", "plot", no_fault, context=full_disk(2000)),
    Case("full disk: the report", "report", no_fault, context=full_disk(2000)),
    Case("not writable: corpus", "download", lock("data/corpus"), context=unprivileged),
    Case("not writable: bins", "tokenize", lock("data/tokens"), context=unprivileged),
    Case("not writable: tokenizer", "tokenize", lock("models"), context=unprivileged),
    Case("not writable: checkpoint", "train", both(NEW_RUN, lock(".slm/checkpoints")), context=unprivileged),
    Case("not writable: model", "train", lock("models"), context=unprivileged),
    Case("not writable: evaluation", "evaluate", lock("reports"), context=unprivileged),
    Case("not writable: samples", "sample", lock("reports"), context=unprivileged),
    Case("not writable: figures", "plot", lock("reports/figures"), context=unprivileged),
    Case("a folder in place of the model", "train", replace_by_folder(WEIGHTS)),
    Case("a folder in place of the samples", "sample", replace_by_folder("reports/samples.md")),
]
READING = [
    Case("params.yaml", "check", lock("params.yaml"), context=unprivileged),
    Case("your text", "download", both(use_text("mine.txt", "a"), lock("mine.txt")), context=unprivileged),
    Case("corpus", "tokenize", lock(CORPUS), context=unprivileged),
    Case("bins", "train", lock(TRAIN_BIN), context=unprivileged),
    Case("the model", "sample", lock(WEIGHTS), context=unprivileged),
]
TRAINING = [Case("the loss turns NaN", "train", edit_params(train=BLOWS_UP))]

CASES_BY_TOPIC = {
    "params.yaml": FILE,
    "Values in params.yaml": VALUES,
    "Sizes": SIZES,
    "Environment variables": VARIABLES,
    "Your own text": TEXTS,
    "The corpus": CORPORA,
    "Bins": BINS,
    "Checkpoints": CHECKPOINTS,
    "Initial weights": STARTS,
    "Results for plot and report": RESULTS,
    "Files that cannot be written": WRITING,
    "Files that cannot be read": READING,
    "Training": TRAINING,
}


def clone_and_run(folder: Path) -> Path:
    """Clone the project and run all stages."""
    project.clone(folder)
    with chdir(folder):
        for stage in STAGES:
            status, stderr = run(Case("", stage, no_fault))
            assert status == 0, stderr
    return folder


def copy(source: Path, folder: Path) -> Path:
    """Copy the files that the stages need."""
    folder.mkdir()
    for name in NEEDED:
        copier = shutil.copytree if (source / name).is_dir() else shutil.copy2
        copier(source / name, folder / name)
    return folder


def run(case: Case) -> tuple[int, str]:
    """Run the case's stage in the current folder, after the fault. Return its status and stderr."""
    environment, stderr = {**ENVIRONMENT, **case.environment}, io.StringIO()
    if case.new_process:
        result = project.run_stage(Path(), case.stage, **environment)
        return result.returncode, result.stderr
    with (
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", [case.stage]),
        case.context(),
        redirect_stdout(io.StringIO()),
        redirect_stderr(stderr),
    ):
        try:
            if case.stage == "check":
                run_command(lambda: check.check(Path("params.yaml")))
            else:
                module = f"stages.{case.stage.partition('@')[0]}"
                run_stage(case.stage, import_module(module).main)
        except SystemExit as end:
            return int(end.code or 0), stderr.getvalue()
    return 0, stderr.getvalue()


def row(case: Case, stderr: str) -> str:
    """Return the table row of a case, without parts that depend on the machine or the code."""
    lines = [line.removeprefix("error: ") for line in stderr.splitlines() if line.startswith("error: ")]
    cell = "<br>".join(f"`` {line} ``" for line in lines).replace("|", "\\|").replace(f"{Path.cwd()}/", "")
    cell = re.sub(r"has [\d,.]+ GB", "has … GB", cell)
    cell = re.sub(r"[0-9a-f]{16}-[0-9a-f]{16}", "…", cell)
    return f"| {case.name} | {case.stage} | {cell} |"


INTRODUCTION = """# Error messages

A stage reports an error in one line after `error: ` (one line per wrong key of `params.yaml`) and exits with
status 1. It leaves no partial output, and existing files stay unchanged. Only DVC deletes the outputs of a
stage before it runs; if the stage fails, `dvc checkout && git checkout reports` restores them.

`python -m tests.bad_inputs > tests/stages/messages.md` generates this page by running each case; the tests
compare it with the messages. An ellipsis replaces parts that depend on the machine or the code. A limit on
the file size simulates a full disk.
"""


def page() -> str:
    """Run all cases and return the page in Markdown."""
    parts = [INTRODUCTION]
    with tempfile.TemporaryDirectory() as folder:
        source = clone_and_run(Path(folder, "clone"))
        for topic, cases in CASES_BY_TOPIC.items():
            parts.append(f"\n## {topic}\n\n| case | stage | message |\n|---|---|---|\n")
            for case in cases:
                with chdir(copy(source, Path(tempfile.mkdtemp(dir=folder), "copy"))):
                    case.inject()
                    parts.append(row(case, run(case)[1]) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
