"""The section `sample` of params.yaml: the texts the trained model is asked to write."""

from typing import Annotated, ClassVar

from pydantic import Field

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
