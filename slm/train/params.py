"""The section `train` of params.yaml, and the schedules that it defines."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from slm.core.config import ParamsSection

# Sequences are cut into this many chunks at the start of the sequence-length warm-up.
MAX_CHUNKS = 4
# Params that have no effect on steps before the decay phase.
DECAY_KEYS = {"max_steps", "decay_steps", "min_lr"}

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


class TrainParams(ParamsSection):
    """Batches, the optimizer, its learning-rate schedule, and evaluations during training."""

    section: ClassVar[str] = "train"

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    # A folder with a model in Hugging Face's layout, or NOT_SET.
    init_from: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
    # Sequences per forward pass: the micro-batch.
    batch_size: Count
    # Forward passes per step.
    grad_accum_steps: Count
    max_steps: Count
    # muon: Muon for the matrices of the blocks, AdamW for the rest.
    optimizer: Literal["muon", "adamw"]
    # wsd: warm-up, stable, decay.
    schedule: Literal["cosine", "wsd"]
    # The peak, after warm-up, and the final value.
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    min_lr: Annotated[float, Field(ge=0)]
    warmup_steps: CountOrZero
    # Only for wsd: the length of the decay phase; 0 keeps the learning rate constant.
    decay_steps: CountOrZero
    # Steps with shorter sequences: a quarter of block_size, then half.
    seq_len_warmup_steps: CountOrZero
    weight_decay: Annotated[float, Field(ge=0)]
    beta1: Annotated[float, Field(ge=0, lt=1)]
    beta2: Annotated[float, Field(ge=0, lt=1)]
    # Maximum gradient norm; 0 turns clipping off.
    grad_clip: Annotated[float, Field(ge=0)]
    # Steps between evaluations.
    eval_interval: Count
    # Validation tokens per evaluation; 0 is the whole split.
    eval_tokens: CountOrZero
    # Evaluations without improvement before training stops; 0 turns early stopping off.
    patience: CountOrZero
    # Data type of matrix products; weights are float32.
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: Literal["auto"] | bool
    # Only for GPUs; the CPU is always deterministic.
    deterministic: bool

    # An invalid field is missing from info.data.
    @field_validator("min_lr")
    @classmethod
    def _is_below_the_peak(cls, min_lr: float, info: ValidationInfo) -> float:
        peak = info.data.get("learning_rate", min_lr)
        if min_lr > peak:
            raise ValueError(f"must be at most learning_rate = {peak}, got {min_lr}")
        return min_lr

    @field_validator("warmup_steps")
    @classmethod
    def _warmup_fits(cls, warmup_steps: int, info: ValidationInfo) -> int:
        max_steps = info.data.get("max_steps", warmup_steps)
        if warmup_steps > max_steps:
            raise ValueError(f"must be at most max_steps = {max_steps}, got {warmup_steps}")
        return warmup_steps

    @field_validator("decay_steps")
    @classmethod
    def _decay_fits(cls, decay_steps: int, info: ValidationInfo) -> int:
        if info.data.get("schedule") != "wsd" or not {"max_steps", "warmup_steps"} <= info.data.keys():
            return decay_steps
        longest = info.data["max_steps"] - info.data["warmup_steps"]
        if decay_steps > longest:
            raise ValueError(f"must be at most max_steps - warmup_steps = {longest}, got {decay_steps}")
        return decay_steps


def learning_rate(step: int, params: TrainParams) -> float:
    """Return the learning rate of a step (counted from 0), with its peak at `warmup_steps` and never 0.

    The cosine is Loshchilov & Hutter's (2017) without restarts, after a linear warm-up (Brown et al. 2020).
    wsd is warm-up, stable, decay (Hu et al. 2024) with a linear decay (Hägele et al. 2024).
    """
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / (params.warmup_steps + 1)
    if params.schedule == "cosine":
        progress = (step - params.warmup_steps) / (params.max_steps - params.warmup_steps)
        fraction = (1 + math.cos(math.pi * progress)) / 2
    elif step < decay_start(params):
        # Exactly the peak: the sum below could differ from it in the last bit.
        return params.learning_rate
    else:
        fraction = (params.max_steps - step) / params.decay_steps
    return params.min_lr + (params.learning_rate - params.min_lr) * fraction


def decay_start(params: TrainParams) -> int:
    """Return the first step whose learning rate depends on `max_steps`; runs are identical before it."""
    return params.max_steps - params.decay_steps if params.schedule == "wsd" else 0


def n_chunks(step: int, params: TrainParams) -> int:
    """Return into how many chunks each sequence is cut at a step (sequence-length warm-up, Li et al. 2022).

    Short sequences are cheaper and enough to learn the first words. The tokens of a step stay the same.
    """
    if step >= params.seq_len_warmup_steps:
        return 1
    return MAX_CHUNKS if step < params.seq_len_warmup_steps / 2 else 2
