"""The section `sample` of params.yaml: the texts the trained model is asked to write."""

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from slm.params import Section


class SampleParams(Section):
    """Prompts, and how each next token is drawn."""

    section: ClassVar[str] = "sample"

    prompts: Annotated[list[str], Field(min_length=1)]  # "" begins a text from nothing
    num_samples: Annotated[int, Field(ge=1, le=10_000)]  # for each prompt
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    temperature: Annotated[float, Field(ge=0, le=1000)]  # 0 always takes the likeliest token
    top_k: Annotated[int, Field(ge=1)] | None  # draw from so many of the likeliest tokens; null is all
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @field_validator("prompts")
    @classmethod
    def _can_be_encoded(cls, prompts: list[str]) -> list[str]:
        for prompt in prompts:
            if any("\ud800" <= char <= "\udfff" for char in prompt):
                raise ValueError(f"{prompt!r} has half a surrogate pair; allowed: text that UTF-8 can hold")
        return prompts
