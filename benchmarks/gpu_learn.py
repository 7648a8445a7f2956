"""Phases `learn` and `generate` of the GPU validation (benchmarks/gpu.py)."""

import importlib
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest.mock import MagicMock

import numpy as np
import torch

from benchmarks.gpu_checks import case
from benchmarks.gpu_settings import Context, entropy
from benchmarks.gpu_speed import LR, peak_gigabytes, seconds_of, synchronize
from slm.eval.perplexity import summarize_losses, token_losses
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model.device import setup_torch
from slm.model.gpt import load_model, new_gpt
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.tokenizer.tokenizer import decode, load
from slm.train.data import WindowBatches
from slm.train.params import TrainParams
from slm.train.state import TrainState
from slm.train.trainer import train, train_step
from storygrammar.checker.consistency import find_contradictions

NGRAM_ORDER, NGRAM_TIMEOUT = 5, 60
# Time of phase learn after training.
EVALUATION_SECONDS = 30
# Steps that measure the training speed before phase learn.
CALIBRATION_STEPS = 10


def run_learn(context: Context) -> None:
    """Train for about a minute, then measure the n-gram gap closed and the consistency of stories."""
    # The n-gram model takes a CPU core and half a minute; training needs neither.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ngram = pool.submit(ngram_bits_per_byte, context)
        with case(context, "learn"):
            learn(context, ngram.result)


def learn(context: Context, ngram_result: Callable[..., float]) -> None:
    """Train the model of the recipe for `learn_seconds` and evaluate it."""
    values, folder, device = context.params("learn"), context.out / "corpus", setup_torch()
    meta, model_params = read_meta(folder), ModelParams.check(values["model"])
    tokens, validation = open_bin(folder, "train"), open_bin(folder, "validation")

    # Measure the training speed, and scale the schedule to the time.
    params = TrainParams.check(values["train"])
    batches = WindowBatches(tokens, validation, model_params.block_size, params)
    first_seconds, step_seconds = calibrate(TrainState(model_params, params, meta.vocab_size), batches)
    # The next model is compiled again, with the same static shapes.
    torch.compiler.reset()
    train_seconds = min(context.settings.learn_seconds, context.seconds_left - EVALUATION_SECONDS)
    max_steps = max(10, int(train_seconds / step_seconds))
    scale = max_steps / params.max_steps
    warmup_steps = min(params.warmup_steps, max_steps // 10)
    changes = {
        "max_steps": max_steps,
        "warmup_steps": warmup_steps,
        "decay_steps": min(int(params.decay_steps * scale), max_steps - warmup_steps),
        "eval_interval": max(1, max_steps // 4),
    }
    params = TrainParams.check(values["train"] | changes)
    batches = WindowBatches(tokens, validation, model_params.block_size, params)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    result = train(model_params, params, batches, meta.vocab_size, context.out / "model")
    synchronize(device)
    train_seconds = time.perf_counter() - start
    # A model that learned nothing has the loss of a uniform guess.
    has_learned = result.summary.best_val_loss < math.log(meta.vocab_size) - 1
    context.record(
        "training",
        "ok" if has_learned else "FAILED",
        parameters=result.metrics.num_params,
        steps=max_steps,
        tokens=result.metrics.tokens_seen,
        epochs=result.summary.epochs,
        seconds=round(train_seconds, 1),
        first_step_seconds=round(first_seconds, 1),
        tokens_per_second=result.measured["tokens_per_second"],
        val_loss=round(result.summary.best_val_loss, 5),
        peak_gb=peak_gigabytes(device),
    )

    model = load_model(context.out / "model", device)
    losses = token_losses(model, validation, meta.end_of_text, None, evaluation_batch_size(device))
    bits = summarize_losses(losses, meta.validation.bytes)["bits_per_byte"]
    tokenizer = load(folder / "tokenizer.json")
    n_samples = context.settings.num_samples
    sampling = {"prompts": [""], "num_samples": n_samples, "max_new_tokens": 20 if context.is_cpu else 400}
    sample_params = SampleParams.check(values["sample"] | sampling)
    [samples] = generate(model, [[]], sample_params, meta.end_of_text)
    texts = [decode(tokenizer, ids) for ids in samples]
    consistent = sum(not find_contradictions(text) for text in texts)
    (context.out / "stories.txt").write_text("\n\n".join(texts), encoding="utf-8")
    context.record(
        "stories",
        consistent=round(consistent / n_samples, 4),
        samples=n_samples,
        bits_per_byte=round(bits, 5),
    )
    ngram, bound = ngram_result(timeout=NGRAM_TIMEOUT), entropy(context.out)
    context.record(
        "n-gram gap",
        gap_closed=round((ngram - bits) / (ngram - bound), 4),
        bits_per_byte=round(bits, 5),
        ngram_bits_per_byte=round(ngram, 5),
        entropy_bits_per_byte=round(bound, 5),
        ngram_tokens=min(context.settings.ngram_tokens, meta.train.tokens),
    )


def calibrate(state: TrainState, batches: WindowBatches) -> tuple[float, float]:
    """Return the seconds of the first step, which may compile the model, and of the later ones."""

    def steps(first: int, last: int) -> None:
        for step in range(first, last):
            train_step(state, batches.train_batch(step, state.device), LR)

    first_seconds = seconds_of(lambda: steps(0, 1), state.device)
    steps(1, 3)
    return first_seconds, seconds_of(
        lambda: steps(3, 3 + CALIBRATION_STEPS), state.device
    ) / CALIBRATION_STEPS


def ngram_bits_per_byte(context: Context) -> float:
    """Return the bits per byte of the n-gram model on the validation split.

    It counts the first tokens of the training split only: counting all would take minutes.
    """
    # The module imports pyarrow for functions that are not used here.
    try:
        importlib.import_module("pyarrow")
    except ImportError:
        sys.modules["pyarrow"] = sys.modules["pyarrow.parquet"] = MagicMock()
    from slm.eval.baselines import ngram_losses

    folder = context.out / "corpus"
    meta = read_meta(folder)
    tokens = open_bin(folder, "train")[: context.settings.ngram_tokens]
    losses = ngram_losses(tokens, open_bin(folder, "validation"), NGRAM_ORDER, meta.vocab_size)
    return float(losses.sum(dtype=np.float64)) / np.log(2) / meta.validation.bytes


def evaluation_batch_size(device: torch.device) -> int:
    """Return the windows per forward pass of an evaluation."""
    return 16 if device.type == "cpu" else 128


def run_generate(context: Context) -> None:
    """Measure generation and evaluation, with the model of phase learn if there is one."""
    folder, device, values = context.out / "corpus", setup_torch(), context.params("learn")
    meta = read_meta(folder)
    is_trained = (context.out / "model" / "model.safetensors").exists()
    if is_trained:
        model = load_model(context.out / "model", device)
    else:
        model = new_gpt(ModelParams.check(values["model"]), meta.vocab_size).to(device).eval()
    n_new = context.settings.new_tokens
    for n_sequences in context.settings.batch_sizes:
        with case(context, f"{n_sequences} sequences"):
            changes = {"prompts": [""], "num_samples": n_sequences, "temperature": 1.0, "top_k": 50}
            params = SampleParams.check(values["sample"] | changes | {"max_new_tokens": 5})
            # Load the kernels.
            generate(model, [[]], params, meta.end_of_text)
            params = SampleParams.check({**params.model_dump(), "max_new_tokens": n_new})
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            synchronize(device)
            start = time.perf_counter()
            [samples] = generate(model, [[]], params, meta.end_of_text)
            synchronize(device)
            seconds = time.perf_counter() - start
            # Count the end of text, too: it takes a step.
            n_tokens = sum(min(len(sample) + 1, n_new) for sample in samples)
            rate = round(n_tokens / seconds, 1)
            context.record(
                f"{n_sequences} sequences",
                tokens_per_second=rate,
                tokens=n_tokens,
                trained=is_trained,
                peak_gb=peak_gigabytes(device),
            )
    with case(context, "evaluation"):
        tokens = open_bin(folder, "validation")
        for batch_size in sorted({16, evaluation_batch_size(device)}):
            token_losses(model, tokens[:2000], meta.end_of_text, None, batch_size)
            run = lambda: token_losses(model, tokens, meta.end_of_text, None, batch_size)  # noqa: B023, E731
            rate = round(len(tokens) / seconds_of(run, device))
            context.record(
                f"evaluation, batch size {batch_size}", tokens_per_second=rate, peak_gb=peak_gigabytes(device)
            )
