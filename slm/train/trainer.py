"""The training loop, and the memory that it needs."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from tqdm import tqdm

from slm.core.config import PARAMS_FILE
from slm.core.errors import UserError
from slm.core.progress import Progress
from slm.model.device import autocast, pick_dtype, setup_torch
from slm.model.gpt import count_params, meta_gpt, save_model
from slm.model.loss import MAX_LOGITS
from slm.model.params import ModelParams
from slm.results.train import TrainMetrics, TrainPoint, TrainSummary, ValidationPoint
from slm.train.checkpoints import Checkpointer, RunInputs
from slm.train.data import Batch, Batches
from slm.train.distributed import StopSignal, all_gather, all_reduce_sum, log_rank0, rank, world_size
from slm.train.params import TrainParams, learning_rate
from slm.train.state import TrainState

# Points on the training curve per evaluation.
LOGS_PER_EVAL = 10


@dataclass(frozen=True)
class TrainResult:
    """Results of a training run, beside the model. `measured` differs between runs."""

    metrics: TrainMetrics
    summary: TrainSummary
    train_curve: list[TrainPoint]
    val_curve: list[ValidationPoint]
    measured: dict[str, Any]


def train(
    model_params: ModelParams,
    params: TrainParams,
    batches: Batches,
    vocab_size: int,
    out: Path,
    run: RunInputs | None = None,
    weights: dict[str, Tensor] | None = None,
) -> TrainResult:
    """Train a model and write the weights with the lowest validation loss to the folder `out`.

    The initial weights are random unless `weights` are given. Nothing is written to `out` before the end.
    With `run`, checkpoints are saved, and an interrupted run resumes from the last one and ends with the same
    bytes as an uninterrupted one. Raises UserError if the loss is not finite, Interrupted if asked to stop.
    """
    state = TrainState(model_params, params, vocab_size)
    if weights is not None:
        state.model.load_state_dict(weights)
    with Checkpointer(run, state) as checkpointer, StopSignal() as stop:
        checkpointer.load_latest()
        measured = run_steps(state, batches, checkpointer, stop)
        state.model.load_state_dict(state.best_weights)
        if rank() == 0:
            save_model(state.model, out)
    metrics = TrainMetrics(num_params=count_params(state.model), tokens_seen=state.tokens)
    summary = TrainSummary(
        steps=state.step,
        stopped_early=state.step < params.max_steps,
        best_step=state.best.step,
        best_val_loss=state.best.val_loss,
        epochs=round(state.tokens / batches.targets_per_epoch, 4),
        dtype=state.resolved()["dtype"],
        device=state.device.type,
    )
    return TrainResult(metrics, summary, state.train_curve, state.val_curve, measured)


def run_steps(
    state: TrainState, batches: Batches, checkpointer: Checkpointer, stop: StopSignal
) -> dict[str, Any]:
    """Run the remaining steps; return their range and the throughput."""
    params = state.params
    log_interval = max(1, params.eval_interval // LOGS_PER_EVAL)
    tokens_per_step = params.batch_size * params.grad_accum_steps * state.model.params.block_size
    first_step, first_tokens, start = state.step, state.tokens, time.monotonic()

    total, initial = params.max_steps * tokens_per_step, first_step * tokens_per_step
    with Progress("training", total, "tok", initial) as progress:
        while True:
            checkpointer.save_if_due(stop)

            # Log before the step, so that step 0 has an evaluation and the last step, too.
            step = state.step
            is_eval_step = step % params.eval_interval == 0 or step == params.max_steps
            if state.unlogged and (is_eval_step or step % log_interval == 0):
                state.log_train_point(learning_rate(step - 1, params))
            if is_eval_step:
                state.log_eval(validation_loss(state, batches))
            if step == params.max_steps or 0 < params.patience <= state.evals_since_best:
                break

            batch = batches.train_batch(step, state.device)
            loss, grad_norm = train_step(state, batch, learning_rate(step, params))
            state.log_step(loss, grad_norm, batch.n_targets)
            progress.advance(tokens_per_step, _progress_note(state))

    seconds, best = time.monotonic() - start, state.best
    tokens_per_second = (state.tokens - first_tokens) / seconds
    log_rank0(
        f"best validation loss {best.val_loss:.4f} at step {best.step:,} of {state.step:,}; "
        f"{tqdm.format_interval(seconds)}, {tokens_per_second:,.0f} tok/s including evaluations"
    )
    steps = {"first_step": first_step, "last_step": state.step}
    return {**steps, "tokens_per_second": round(tokens_per_second), "processes": world_size()}


def train_step(state: TrainState, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
    """Update the weights; return mean loss in nats and gradient norm, as scalars on the device."""
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
    loss = backward(state, batch)
    # Clip the gradient at its true scale.
    for optimizer in state.optimizers:
        state.scaler.unscale_(optimizer)
    grad_norm = nn.utils.clip_grad_norm_(state.model.parameters(), state.params.grad_clip or math.inf)
    for optimizer in state.optimizers:
        state.scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    state.scaler.update()
    return loss, grad_norm


def backward(state: TrainState, batch: Batch) -> Tensor:
    """Accumulate the gradient of the mean loss over all ranks' targets; return that loss.

    `batch` is this rank's shard of the step, which is computed a micro-batch at a time.
    """
    state.model.train()
    inputs, targets, n_targets = batch
    # During the sequence-length warm-up a micro-batch has more, shorter sequences.
    n_chunks = state.model.params.block_size // inputs.size(1)
    micro_batch_size = state.params.batch_size * n_chunks
    losses = []
    for micro_batch in zip(inputs.split(micro_batch_size), targets.split(micro_batch_size), strict=True):
        with autocast(state.device, state.dtype):
            loss = state.train_loss_sum(*micro_batch) / n_targets
        state.scaler.scale(loss).backward()
        losses.append(loss.detach())
    mean = torch.stack(losses).sum()
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    all_reduce_sum([mean, *gradients])
    return mean


@torch.no_grad()
def validation_loss(state: TrainState, batches: Batches) -> float:
    """Return the mean loss in nats per token on the validation batches of all ranks.

    The first tokens of a window have little context here, so the loss is slightly higher than that of the
    evaluate stage, whose windows overlap, at a fraction of the cost.
    """
    state.model.eval()
    loss_sums, n_targets = [], 0
    for batch in batches.val_batches(state.device):
        n_targets += batch.n_targets
        # Not compiled, because the last batch may be smaller.
        with autocast(state.device, state.dtype):
            loss_sums.append(state.loss_sum(batch.inputs, batch.targets))
    rank_sum = math.fsum(torch.stack(loss_sums).tolist()) if loss_sums else 0.0
    sums, counts = zip(*all_gather((rank_sum, n_targets)), strict=True)
    return math.fsum(sums) / sum(counts)


def _progress_note(state: TrainState) -> str:
    """Return the latest losses, for the progress bar."""
    if not state.train_curve:
        return ""
    train_point, val_point = state.train_curve[-1], state.val_curve[-1]
    return f"loss {train_point.train_loss:.3f}, validation {val_point.val_loss:.3f}"


def estimate_memory(model_params: ModelParams, params: TrainParams, vocab_size: int) -> dict[str, float]:
    """Return the estimated peak memory of training in bytes, by the params that determine each part.

    The factors were measured on a CPU (benchmarks/memory.py); those for 16-bit types are an assumption.
    """
    sizes, n_tokens = model_params, params.batch_size * model_params.block_size
    n_params = count_params(meta_gpt(sizes, vocab_size))
    # Weight, gradient, best weight, and one moment (Muon) or two (AdamW), in float32.
    bytes_per_param = 4 * (4 if params.optimizer == "muon" else 5)
    # Float32 tensors of (B, T, C) that a layer keeps for the backward pass.
    n_tensors = {"gpt2": 23.0, "rope": 28.0}[sizes.architecture] + (3.5 if sizes.dropout else 0.0)
    if sizes.architecture == "rope" and sizes.activation == "swiglu":
        n_tensors += 3
    device = setup_torch(params.deterministic)
    if pick_dtype(params.dtype, device) != torch.float32:
        n_tensors *= 0.6
    activations = n_tensors * sizes.n_layer * n_tokens * sizes.n_embd * 4
    if sizes.dropout and device.type == "cpu":
        # Attention of one layer at a time, in (B, H, T, T).
        activations += 6 * n_tokens * sizes.n_head * sizes.block_size * 4
    return {
        # Libraries take some memory of their own.
        "model.n_layer or model.n_embd": 1e8 + bytes_per_param * n_params,
        "train.batch_size, model.block_size or model.n_layer": activations,
        "train.batch_size, model.block_size or tokenizer.vocab_size": (
            3 * 4 * min(n_tokens * vocab_size, MAX_LOGITS)
        ),
        # Inputs and targets of 64 bits.
        "train.grad_accum_steps, train.batch_size or model.block_size": (
            params.grad_accum_steps * n_tokens * 8 * 2
        ),
    }


def check_memory(model_params: ModelParams, params: TrainParams, vocab_size: int) -> None:
    """Raise UserError if training surely needs more memory than the device has, before it starts."""
    parts = estimate_memory(model_params, params, vocab_size)
    device = setup_torch(params.deterministic)
    # The estimate may be 20 % too high. On mps the GPU shares the machine's memory.
    needed = 0.8 * sum(parts.values())
    is_cuda = device.type == "cuda"
    available = (
        torch.cuda.get_device_properties(device).total_memory if is_cuda else psutil.virtual_memory().total
    )
    if needed > available:
        raise UserError(
            f"{PARAMS_FILE}: training needs more than {needed / 1e9:,.1f} GB of memory, {device} has "
            f"{available / 1e9:,.1f} GB: lower {max(parts, key=lambda keys: parts[keys])}"
        )
