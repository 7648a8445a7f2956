"""How a text is written, and the section `sample` of params.yaml: the texts the model is asked to write."""

import secrets
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from slm.core.config import Section

DEFAULTS = {  # of writing outside of the pipeline
    "max_new_tokens": 1000,
    "temperature": 0.7,
    "top_k": None,
    "top_p": None,
    "min_p": None,
    "repetition_penalty": 1.0,
}


class DrawParams(Section):
    """How each next token is drawn; slm/generate/sampling.py has the formulas."""

    section: ClassVar[str] = "options"

    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    temperature: Annotated[float, Field(ge=0, le=1000)]  # 0 always takes the likeliest token
    top_k: Annotated[int, Field(ge=1)] | None  # draw from so many of the likeliest tokens; null is all
    top_p: Annotated[float, Field(gt=0, le=1)] | None  # from the fewest that have this share; null is all
    min_p: Annotated[float, Field(ge=0, le=1)] | None  # from those with this part of the best's; null is all
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)]  # of tokens the text has; 1 is off
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @property
    def shape(self) -> tuple[float | None, ...]:
        """What shapes the draws: texts that are alike in it can be drawn together."""
        return self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty

    def in_words(self) -> str:
        """What shapes the draws, and nothing that is off: "temperature 0.8, top-k 50"."""
        words = []
        if self.temperature == 0:
            words.append("greedy")
        else:
            words.append(f"temperature {self.temperature:g}")
            words += [f"top-k {self.top_k}"] if self.top_k else []
            words += [f"top-p {self.top_p:g}"] if self.top_p not in (None, 1) else []
            words += [f"min-p {self.min_p:g}"] if self.min_p else []
        if self.repetition_penalty != 1:
            words.append(f"repetition penalty {self.repetition_penalty:g}")
        return ", ".join(words)


class SampleParams(DrawParams):
    """Prompts, and how they are continued."""

    section: ClassVar[str] = "sample"

    prompts: Annotated[list[str], Field(min_length=1)]  # "" begins a text from nothing
    num_samples: Annotated[int, Field(ge=1, le=10_000)]  # for each prompt

    @field_validator("prompts")
    @classmethod
    def _can_be_encoded(cls, prompts: list[str]) -> list[str]:
        return [check_text(prompt) for prompt in prompts]


def draw_params(**options: Any) -> DrawParams:
    """Checked options, those left out as in DEFAULTS, and a new seed if there is none. Raises UserError."""
    seed = {"seed": secrets.randbelow(2**32)} if options.get("seed") is None else {}
    return DrawParams.check({**DEFAULTS, **options, **seed}, Path("slm"))


def check_text(text: str) -> str:
    """The text, if UTF-8 can hold it; else raises ValueError."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"{text!r} has half a surrogate pair; allowed: text that UTF-8 can hold")
    return text
