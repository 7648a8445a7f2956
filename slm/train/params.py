"""The section `train` of params.yaml."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from slm.core.config import ParamsSection

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


class TrainParams(ParamsSection):
    """Batches, the optimizer, its learning-rate schedule, and evaluations during training."""

    section: ClassVar[str] = "train"

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    # A folder with a model in Hugging Face's layout, or NOT_SET.
    init_from: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
    # Sequences per forward pass (the micro-batch).
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
    # Of wsd: the length of the decay phase; 0 keeps the learning rate constant.
    decay_steps: CountOrZero
    # In the first steps sequences are cut into 4 pieces, then into 2.
    seq_len_warmup_steps: CountOrZero
    weight_decay: Annotated[float, Field(ge=0)]
    beta1: Annotated[float, Field(ge=0, lt=1)]
    beta2: Annotated[float, Field(ge=0, lt=1)]
    # The largest gradient norm; 0 is off.
    grad_clip: Annotated[float, Field(ge=0)]
    # Steps between evaluations, and tokens of the validation split per evaluation; 0 is all of it.
    eval_interval: Count
    eval_tokens: CountOrZero
    # Evaluations without improvement before training stops; 0 is never.
    patience: CountOrZero
    # Of matrix products; weights are float32.
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: Literal["auto"] | bool
    # On a GPU; a CPU is always deterministic.
    deterministic: bool

    # A field that is wrong itself is missing from info.data.
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
