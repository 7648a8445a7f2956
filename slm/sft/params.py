"""The section `sft` of params.yaml: supervised fine-tuning runs, by name."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from slm.core.config import ITEM_NAME, NOT_SET, ParamsSection, StrictModel
from slm.data.params import Name
from slm.train.params import Count, TrainParams

Task = Literal["story", "continuation", "summary", "qa", "chat"]


class SFTRun(StrictModel):
    """The data and the length of one fine-tuning run, and how the result is evaluated."""

    # A file of conversations. With `tasks` it is not read.
    file: Name
    # Tasks of the story grammar with their weights, or null to read `file`.
    tasks: Annotated[dict[Task, Annotated[float, Field(gt=0)]], Field(min_length=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    max_steps: Count
    # Conversations per step.
    batch_size: Count
    # The peak learning rate.
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    # Held-out conversations to evaluate on.
    num_eval_prompts: Annotated[int, Field(ge=1, le=100_000)]
    # For sampling the evaluated answers; 0 is greedy.
    temperature: Annotated[float, Field(ge=0, le=1000)]

    @field_validator("tasks")
    @classmethod
    def _has_data(cls, tasks: dict[Task, float] | None, info: ValidationInfo) -> dict[Task, float] | None:
        if tasks is None and info.data.get("file") == NOT_SET:
            raise ValueError("must be a mapping of tasks, or null with a `file` of conversations")
        return tasks

    def train_params(self, train: TrainParams) -> TrainParams:
        """Return the params of pretraining with the values and the schedule of this run.

        The schedule is a short linear warm-up, then a linear decay to 0.
        """
        warmup_steps = self.max_steps // 20
        changes = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "grad_accum_steps": 1,
            "max_steps": self.max_steps,
            "schedule": "wsd",
            "learning_rate": self.learning_rate,
            "min_lr": 0.0,
            "warmup_steps": warmup_steps,
            "decay_steps": self.max_steps - warmup_steps,
            "seq_len_warmup_steps": 0,
            "patience": 0,
        }
        return TrainParams.check(train.model_dump() | changes)


class SFTParams(ParamsSection):
    """All runs. Each key names a model and the stages sft@NAME and eval_sft@NAME."""

    section: ClassVar[str] = "sft"
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Annotated[str, Field(pattern=ITEM_NAME)], SFTRun]

    def __getitem__(self, name: str) -> SFTRun:
        return self.__pydantic_extra__[name]
