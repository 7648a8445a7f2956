"""The section `sft` of params.yaml: models that are tuned to answer, by name."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from slm.core.config import Section
from slm.data.params import Name
from slm.train.params import Count, TrainParams

Task = Literal["story", "continuation", "summary", "qa", "chat"]


class SFTRun(BaseModel):
    """What a model is tuned on, how long, and how it is asked afterwards."""

    model_config = Section.model_config

    file: Name  # of pairs, .jsonl or .txt; with `tasks` any file, which is not read
    tasks: Annotated[dict[Task, Annotated[float, Field(gt=0)]], Field(min_length=1)] | None  # by weight
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    max_steps: Count
    batch_size: Count  # conversations in a step
    learning_rate: Annotated[float, Field(gt=0, le=10)]  # the highest
    num_eval_prompts: Annotated[int, Field(ge=1, le=100_000)]  # held out, to be asked and measured
    temperature: Annotated[float, Field(ge=0, le=1000)]  # of the answers; 0: greedy

    def train_params(self, train: TrainParams) -> TrainParams:
        """How to train: as in pretraining, but for a schedule of its own: a short warm-up, then down to 0."""
        warmup_steps = self.max_steps // 20
        own = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "grad_accum_steps": 1,
            "max_steps": self.max_steps,
            "schedule": "wsd",
            "learning_rate": self.learning_rate,
            "min_lr": 0.0,
            "warmup_steps": warmup_steps,
            "decay_steps": self.max_steps - warmup_steps,
            "length_warmup_steps": 0,
            "patience": 0,
        }
        return TrainParams.check(train.model_dump() | own)


class SFTParams(Section):
    """Each key is the name of a model, and of the stages sft@NAME and eval_sft@NAME."""

    section: ClassVar[str] = "sft"
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], SFTRun]

    def __getitem__(self, name: str) -> SFTRun:
        return self.__pydantic_extra__[name]
