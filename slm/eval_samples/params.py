"""The section `eval_samples` of params.yaml: the stories that are written to be measured."""

from typing import Annotated, ClassVar

from pydantic import Field

from slm.core.config import ParamsSection
from slm.generate.params import SampleParams


class EvalSamplesParams(ParamsSection):
    """How many stories, and at which temperatures beside that of the section `sample`."""

    section: ClassVar[str] = "eval_samples"

    num_samples: Annotated[int, Field(ge=1, le=10_000)]  # of each temperature
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    temperatures: list[Annotated[float, Field(ge=0, le=1000)]]
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    def all_temperatures(self, sample: SampleParams) -> list[float]:
        """The temperatures to write at, each once, in rising order."""
        return sorted({sample.temperature, *self.temperatures})

    def sampling(self, sample: SampleParams, temperature: float) -> SampleParams:
        """How to write at a temperature: from nothing, and otherwise as the section `sample` says."""
        changes = {
            "prompts": [""],
            "num_samples": self.num_samples,
            "max_new_tokens": self.max_new_tokens,
            "temperature": temperature,
            "seed": self.seed,
        }
        return sample.model_copy(update=changes)
