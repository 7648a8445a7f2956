"""Phase `speed` of the GPU validation (benchmarks/gpu.py)."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_checks import case
from benchmarks.gpu_settings import Context, SkippedError
from benchmarks.references import ReferenceTrainer, Shape
from benchmarks.train_throughput import GPT2_VOCAB_SIZE, PADDED_VOCAB_SIZE, flops_per_token
from slm.model.device import pick_dtype, setup_torch, should_compile
from slm.model.gpt import count_params
from slm.model.params import ModelParams
from slm.train.data import Batch, WindowBatches, to_rank
from slm.train.params import TrainParams
from slm.train.state import TrainState
from slm.train.trainer import estimate_memory, train_step

# Recipes and whether they are compiled, the most important case first.
CASES = [("tinystories-30m", True), ("tinystories-768", True), ("learn", True), ("quickstart", True)]
CASES += [("tinystories-60m", True), ("tinystories-30m", False), ("learn", False), ("quickstart", False)]
CASES += [("tinystories-768", False), ("tinystories-60m", False)]
# Cases of --nanogpt, and sequences per step, which are one micro-batch.
NANOGPT_CASES, NANOGPT_BATCH = ("tinystories-30m", "tinystories-768"), 256
# No case of phase speed starts with less time left: compiling a large model takes about this long.
COMPILED_SECONDS, EAGER_SECONDS = 30, 10
WARMUP_STEPS, MIN_STEPS, LR = 2, 3, 1e-4


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
            check_time(context, compiled, device)
            measure_recipe(context, check, recipe, compiled, peak)
    if context.nanogpt:
        for recipe in NANOGPT_CASES:
            for compiled in {False, should_compile("auto", device)}:
                check = f"{recipe} without dropout, {'compiled' if compiled else 'eager'}"
                with case(context, check):
                    check_time(context, compiled, device)
                    measure_nanogpt(context, check, recipe, compiled)


def check_time(context: Context, compiled: bool, device: torch.device) -> None:
    """Raise SkippedError if the device cannot compile, or the remaining time is too short for a case."""
    if compiled and not should_compile("auto", device):
        raise SkippedError("torch.compile needs a GPU with Triton, and a C compiler")
    if context.seconds_left < (COMPILED_SECONDS if compiled else EAGER_SECONDS):
        raise SkippedError("no time left; raise --minutes")


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
        train_step(state, batches.train_batch(steps, device), LR)
        steps += 1

    # The first step compiles the model; the next ones tune kernels and allocate memory.
    first_seconds = seconds_of(step, device)
    for _ in range(WARMUP_STEPS):
        step()
    step_seconds = repeat(step, device, context.settings.measure_seconds)
    tokens_per_step = params.batch_size * params.grad_accum_steps * model_params.block_size
    shape = Shape(
        model_params.n_layer, model_params.n_head, model_params.n_embd, model_params.block_size, vocab_size
    )
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
        estimated_gb=round(sum(estimate_memory(model_params, params, vocab_size).values()) / 1e9, 3),
        compile_seconds=round(first_seconds - step_seconds, 1) if compiled else None,
        **{name: round(seconds / step_seconds, 4) for name, seconds in parts(state, batches, device).items()},
    )


def parts(state: TrainState, batches: WindowBatches, device: torch.device) -> dict[str, float]:
    """Return the seconds of parts of a step.

    `data` makes a batch and copies it, `host` is the time until `train_step` returns while the device still
    computes: a value near the whole step means that the device waits for the host. `optimizer` updates the
    weights, without clipping.
    """
    data = repeat(lambda: batches.train_batch(0, device), device, 0.1)
    batch = batches.train_batch(0, device)
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
    shape = Shape(
        model_params.n_layer, model_params.n_head, model_params.n_embd, model_params.block_size, vocab_size
    )
    padded = PADDED_VOCAB_SIZE if vocab_size == GPT2_VOCAB_SIZE else vocab_size
    state = TrainState(model_params, params, vocab_size)
    dtype = state.resolved()["dtype"]
    other = ReferenceTrainer("nanogpt", shape._replace(vocab_size=padded), context.nanogpt, compiled, dtype)
    ids = torch.randint(vocab_size, (batch_size, model_params.block_size + 1))
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), ids[:, 1:].numel())
    steps = {
        "slm": lambda: train_step(state, to_rank(batch, device), LR),
        "nanogpt": lambda: other.step(batch, LR),
    }
    for step in steps.values():
        for _ in range(1 + WARMUP_STEPS):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(3):
        for name, step in steps.items():
            seconds[name].append(repeat(step, device, context.settings.measure_seconds / 3))
    rates = {name: batch.n_targets / median(durations) for name, durations in seconds.items()}
    context.record(
        check,
        sequences=f"{batch_size} × {model_params.block_size}",
        dtype=dtype,
        tokens_per_second=round(rates["slm"]),
        nanogpt_tokens_per_second=round(rates["nanogpt"]),
        times_nanogpt=round(rates["slm"] / rates["nanogpt"], 3),
    )
