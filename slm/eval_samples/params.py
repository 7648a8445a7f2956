"""The section `eval_samples` of params.yaml."""

from typing import Annotated, ClassVar

from pydantic import Field

from slm.core.config import ParamsSection
from slm.generate.params import SampleParams


class EvalSamplesParams(ParamsSection):
    """The samples to evaluate: their number, and temperatures besides that of the section `sample`."""

    section: ClassVar[str] = "eval_samples"

    # Per temperature.
    num_samples: Annotated[int, Field(ge=1, le=10_000)]
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    temperatures: list[Annotated[float, Field(ge=0, le=1000)]]
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    def all_temperatures(self, sample: SampleParams) -> list[float]:
        """Return all temperatures, sorted and without duplicates."""
        return sorted({sample.temperature, *self.temperatures})

    def sampling(self, sample: SampleParams, temperature: float) -> SampleParams:
        """Return the parameters of one temperature: no prompt, the rest as in the section `sample`."""
        changes = {
            "prompts": [""],
            "num_samples": self.num_samples,
            "max_new_tokens": self.max_new_tokens,
            "temperature": temperature,
            "seed": self.seed,
        }
        return sample.model_copy(update=changes)
