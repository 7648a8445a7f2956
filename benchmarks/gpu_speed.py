"""Phases `speed`, `learn` and `generate` of the GPU validation (benchmarks/gpu.py)."""

import importlib.util
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from benchmarks.gpu_checks import case
from benchmarks.gpu_settings import Context, Skipped, entropy
from benchmarks.references import ReferenceTrainer, Shape
from benchmarks.train_throughput import GPT2_VOCAB_SIZE, PADDED_VOCAB_SIZE, flops_per_token
from slm.eval.perplexity import summarize_losses, token_losses
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model.device import pick_dtype, setup_torch, should_compile
from slm.model.gpt import count_params, load_model, new_gpt
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.tokenizer.tokenizer import decode, load
from slm.train.data import WindowBatches, to_device
from slm.train.params import TrainParams
from slm.train.state import TrainState
from slm.train.trainer import train, train_step
from storygrammar.checker.consistency import complaints

# Recipes and whether they are compiled, the most important case first.
CASES = [("tinystories-30m", True), ("tinystories-768", True), ("learn", True), ("quickstart", True)]
CASES += [("tinystories-60m", True), ("tinystories-30m", False), ("learn", False), ("quickstart", False)]
CASES += [("tinystories-768", False), ("tinystories-60m", False)]
# Cases of --nanogpt, and sequences per step, which are one micro-batch.
NANOGPT_CASES, NANOGPT_BATCH = ("tinystories-30m", "tinystories-768"), 256
# No case of phase speed starts with less time left: compiling a large model takes about this long.
CASE_SECONDS = 30
# Time of phase learn after training.
EVALUATION_SECONDS = 30
WARMUP_STEPS, MIN_STEPS, LR = 2, 3, 1e-4
NGRAM_ORDER, NGRAM_TIMEOUT = 5, 60
# Steps between which the training speed is measured, before phase learn.
CALIBRATION_STEPS = 10


def synchronize(device: torch.device) -> None:
    """Wait for the device, because its kernels run asynchronously."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the duration of a call, with all its work on the device."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def repeat(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the median duration of a call, repeated for about `seconds`."""
    durations: list[float] = []
    while len(durations) < MIN_STEPS or sum(durations) < seconds:
        durations.append(seconds_of(work, device))
    return median(durations)


def peak_gigabytes(device: torch.device) -> float | None:
    """Return the peak of allocated memory since the last reset; None if the device does not count it."""
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 3) if device.type == "cuda" else None


def matmul_flops(context: Context, device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a product of two large square matrices."""
    size = context.settings.matmul_size
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    for _ in range(3):
        a @ b
    # Several products per measurement hide the time of the launches.
    n_products = 10
    seconds = repeat(lambda: [a @ b for _ in range(n_products)], device, context.settings.measure_seconds / 3)
    return n_products * 2 * size**3 / seconds


def run_speed(context: Context) -> None:
    """Measure the training steps of recipes, eager and compiled."""
    device, peak = setup_torch(), 0.0
    with case(context, "matmul"):
        dtype = pick_dtype("auto", device)
        peak = matmul_flops(context, device, dtype)
        context.record("matmul", dtype=str(dtype).removeprefix("torch."), tflops=round(peak / 1e12, 3))
    for recipe, compiled in CASES:
        check = f"{recipe}, {'compiled' if compiled else 'eager'}"
        with case(context, check):
            if compiled and not should_compile("auto", device):
                raise Skipped("torch.compile needs a GPU with Triton, and a C compiler")
            if context.seconds_left < CASE_SECONDS:
                raise Skipped("no time left; raise --minutes")
            measure_recipe(context, check, recipe, compiled, peak)
    if context.nanogpt:
        for recipe in NANOGPT_CASES:
            for compiled in {False, should_compile("auto", device)}:
                check = f"{recipe} without dropout, {'compiled' if compiled else 'eager'}"
                with case(context, check):
                    measure_nanogpt(context, check, recipe, compiled)


def measure_recipe(context: Context, check: str, recipe: str, compiled: bool, peak_flops: float) -> None:
    """Measure tokens per second, utilization, memory and the parts of a training step."""
    values, device = context.params(recipe), setup_torch()
    vocab_size = vocab_size_of(context, values)
    model_params = ModelParams.check(values["model"])
    params = TrainParams.check(values["train"] | {"compile": compiled, "seq_len_warmup_steps": 0})
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    state = TrainState(model_params, params, vocab_size)
    # Random tokens, because the corpus has fewer than GPT-2's vocabulary. Their values do not matter.
    n_tokens = 4 * params.batch_size * params.grad_accum_steps * model_params.block_size
    tokens = np.random.default_rng(0).integers(vocab_size, size=n_tokens).astype(np.uint16)
    batches = WindowBatches(tokens, tokens[: model_params.block_size], model_params.block_size, params)

    steps = 0

    def step() -> None:
        nonlocal steps
        train_step(state, batches.train_batch(steps), LR)
        steps += 1

    # The first step compiles the model; the next ones tune kernels and allocate memory.
    first_seconds = seconds_of(step, device)
    for _ in range(WARMUP_STEPS):
        step()
    step_seconds = repeat(step, device, context.settings.measure_seconds)
    tokens_per_step = params.batch_size * params.grad_accum_steps * model_params.block_size
    shape = Shape(model_params.n_layer, model_params.n_head, model_params.n_embd, model_params.block_size, vocab_size)
    flops = flops_per_token(state.model, shape) * tokens_per_step / step_seconds
    context.record(
        check,
        parameters=count_params(state.model),
        sequences=f"{params.grad_accum_steps} × {params.batch_size} × {model_params.block_size}",
        dtype=state.resolved()["dtype"],
        tokens_per_second=round(tokens_per_step / step_seconds),
        mfu=round(flops / peak_flops, 4) if peak_flops else None,
        step_ms=round(step_seconds * 1e3, 3),
        peak_gb=peak_gigabytes(device),
        compile_seconds=round(first_seconds - step_seconds, 1) if compiled else None,
        **{name: round(seconds / step_seconds, 4) for name, seconds in parts(state, batches, device).items()},
    )


def parts(state: TrainState, batches: WindowBatches, device: torch.device) -> dict[str, float]:
    """Return the seconds of parts of a step.

    `data` makes a batch and copies it, `host` is the time until `train_step` returns while the device still
    computes: a value near the whole step means that the device waits for the host. `optimizer` updates the
    weights, without clipping.
    """
    data = repeat(lambda: to_device(batches.train_batch(0), device), device, 0.1)
    batch = batches.train_batch(0)
    host = []
    for _ in range(MIN_STEPS):
        synchronize(device)
        start = time.perf_counter()
        train_step(state, batch, LR)
        host.append(time.perf_counter() - start)
    # The gradients are gone after a step; their values do not matter.
    for parameter in state.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer = repeat(lambda: [optimizer.step() for optimizer in state.optimizers], device, 0.1)
    state.model.zero_grad(set_to_none=True)
    return {"optimizer": optimizer, "data": data, "host": median(host)}


def vocab_size_of(context: Context, values: dict[str, Any]) -> int:
    """Return the vocabulary size of a recipe."""
    is_gpt2 = values["tokenizer"]["type"] == "gpt2" and not context.is_cpu
    size: int = GPT2_VOCAB_SIZE if is_gpt2 else values["tokenizer"]["vocab_size"]
    return size


def measure_nanogpt(context: Context, check: str, recipe: str, compiled: bool) -> None:
    """Measure this project and nanoGPT in turns, with the same sizes, AdamW, no biases and no dropout."""
    values, device = context.params(recipe), setup_torch()
    vocab_size = vocab_size_of(context, values)
    changes = {"dropout": 0.0, "bias": False}
    model_params = ModelParams.check(values["model"] | changes)
    batch_size = 4 if context.is_cpu else NANOGPT_BATCH
    changes = {"batch_size": batch_size, "grad_accum_steps": 1, "compile": compiled, "optimizer": "adamw"}
    params = TrainParams.check(values["train"] | changes | {"grad_clip": 1.0, "weight_decay": 0.1})
    shape = Shape(model_params.n_layer, model_params.n_head, model_params.n_embd, model_params.block_size, vocab_size)
    padded = PADDED_VOCAB_SIZE if vocab_size == GPT2_VOCAB_SIZE else vocab_size
    state = TrainState(model_params, params, vocab_size)
    dtype = state.resolved()["dtype"]
    other = ReferenceTrainer("nanogpt", shape._replace(vocab_size=padded), context.nanogpt, compiled, dtype)
    ids = torch.randint(vocab_size, (batch_size, model_params.block_size + 1))
    batch = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    steps = {"slm": lambda: train_step(state, batch, LR), "nanogpt": lambda: other.step(batch, LR)}
    for step in steps.values():
        for _ in range(1 + WARMUP_STEPS):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(3):
        for name, step in steps.items():
            seconds[name].append(repeat(step, device, context.settings.measure_seconds / 3))
    rates = {name: batch[0].numel() / median(durations) for name, durations in seconds.items()}
    context.record(
        check,
        sequences=f"{batch_size} × {model_params.block_size}",
        dtype=dtype,
        tokens_per_second=round(rates["slm"]),
        nanogpt_tokens_per_second=round(rates["nanogpt"]),
        times_nanogpt=round(rates["slm"] / rates["nanogpt"], 3),
    )


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
    state = TrainState(model_params, params, meta.vocab_size)
    start = time.perf_counter()
    train_step(state, batches.train_batch(0), LR)
    synchronize(device)
    first_seconds = time.perf_counter() - start
    train_step(state, batches.train_batch(1), LR)
    steps = iter(range(2, 2 + CALIBRATION_STEPS))
    seconds = seconds_of(
        lambda: [train_step(state, batches.train_batch(step), LR) for step in steps], device
    )
    del state
    train_seconds = min(context.settings.learn_seconds, context.seconds_left - EVALUATION_SECONDS)
    max_steps = max(10, int(train_seconds * CALIBRATION_STEPS / seconds))
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
    context.record(
        "training",
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
    consistent = sum(not complaints(text) for text in texts)
    (context.out / "stories.txt").write_text("\n\n".join(texts), encoding="utf-8")
    context.record(
        "stories", consistent=round(consistent / n_samples, 4), samples=n_samples, bits_per_byte=round(bits, 5)
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


def ngram_bits_per_byte(context: Context) -> float:
    """Return the bits per byte of the n-gram model on the validation split.

    It counts the first tokens of the training split only: counting all would take minutes.
    """
    # The module imports pyarrow for functions that are not used here.
    if importlib.util.find_spec("pyarrow") is None:
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

