"""The section `train` of params.yaml: how the model learns."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from slm.core.config import Section

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


class TrainParams(Section):
    """Batches, the optimizer, its learning rate over time, and when to look at the validation split."""

    section: ClassVar[str] = "train"

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    init_from: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]  # a folder; it may be empty
    batch_size: Count  # sequences in one forward pass
    grad_accum_steps: Count  # forward passes in one step
    max_steps: Count
    optimizer: Literal["muon", "adamw"]  # muon: of the blocks' matrices; the rest is AdamW's
    schedule: Literal["cosine", "wsd"]  # wsd: warm-up, stable, decay
    learning_rate: Annotated[float, Field(gt=0, le=10)]  # the highest, after the warm-up
    min_lr: Annotated[float, Field(ge=0)]  # the last
    warmup_steps: CountOrZero
    decay_steps: CountOrZero  # of wsd, the last ones; 0: the learning rate stays where it is
    length_warmup_steps: CountOrZero  # the first, in windows cut into 4 pieces, then 2
    weight_decay: Annotated[float, Field(ge=0)]
    beta1: Annotated[float, Field(ge=0, lt=1)]
    beta2: Annotated[float, Field(ge=0, lt=1)]
    grad_clip: Annotated[float, Field(ge=0)]  # the largest norm of the gradient; 0 is off
    eval_interval: Count  # steps
    eval_tokens: CountOrZero  # of the validation split, at each evaluation; 0 is all
    patience: CountOrZero  # evaluations without a better loss before training stops; 0 is never
    dtype: Literal["auto", "float32", "bfloat16", "float16"]  # of matrix products; weights are float32
    compile: Literal["auto"] | bool
    deterministic: bool  # on a GPU; a CPU always is

    @field_validator("min_lr")
    @classmethod
    def _decays(cls, min_lr: float, info: ValidationInfo) -> float:
        highest = info.data.get("learning_rate", min_lr)  # not there if it is wrong itself
        if min_lr > highest:
            raise ValueError(f"{min_lr} is not allowed; allowed: at most learning_rate, which is {highest}")
        return min_lr

    @field_validator("warmup_steps")
    @classmethod
    def _warms_up_in_time(cls, warmup_steps: int, info: ValidationInfo) -> int:
        max_steps = info.data.get("max_steps", warmup_steps)
        if warmup_steps > max_steps:
            raise ValueError(
                f"{warmup_steps} is not allowed; allowed: at most max_steps, which is {max_steps}"
            )
        return warmup_steps

    @field_validator("decay_steps")
    @classmethod
    def _decays_in_time(cls, decay_steps: int, info: ValidationInfo) -> int:
        if info.data.get("schedule") != "wsd" or not {"max_steps", "warmup_steps"} <= info.data.keys():
            return decay_steps
        most = info.data["max_steps"] - info.data["warmup_steps"]
        if decay_steps > most:
            what = "max_steps less warmup_steps"
            raise ValueError(f"{decay_steps} is not allowed; allowed: at most {what}, which is {most}")
        return decay_steps
