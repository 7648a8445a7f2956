"""Parameters of text generation, and the section `sample` of params.yaml."""

import secrets
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from slm.core.config import ParamsSection

# Defaults of the command line, of `slm.load(…).generate` and of the web page.
DEFAULTS: dict[str, Any] = {
    "max_new_tokens": 1000,
    "temperature": 0.6,
    "top_k": None,
    "top_p": None,
    "min_p": None,
    "repetition_penalty": 1.0,
}


class GenerationParams(ParamsSection):
    """How the next token is sampled, and when a sequence ends; slm/generate/sampling.py has the formulas."""

    section: ClassVar[str] = "options"

    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    # 0 is greedy decoding.
    temperature: Annotated[float, Field(ge=0, le=1000)]
    # Sample from the k most likely tokens; null: from all.
    top_k: Annotated[int, Field(ge=1)] | None
    # Sample from the smallest set of most likely tokens with this total probability; null: from all.
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    # Sample from tokens with at least this fraction of the highest probability; null: from all.
    min_p: Annotated[float, Field(ge=0, le=1)] | None
    # Penalty for tokens that the sequence already contains; 1: off.
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @property
    def distribution_key(self) -> tuple[float | None, ...]:
        """Return the values that shape the distribution: sequences with equal keys are sampled together."""
        return self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty

    def describe(self) -> str:
        """Return the settings that are in effect, in words: "temperature 0.8, top-k 50"."""
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


class SampleParams(GenerationParams):
    """The section `sample`: prompts, and how the model continues them."""

    section: ClassVar[str] = "sample"

    # The empty prompt starts a document from scratch.
    prompts: Annotated[list[str], Field(min_length=1)]
    num_samples: Annotated[int, Field(ge=1, le=10_000)]

    @field_validator("prompts")
    @classmethod
    def _are_valid_unicode(cls, prompts: list[str]) -> list[str]:
        return [check_text(prompt) for prompt in prompts]


def generation_params(**options: Any) -> GenerationParams:
    """Check options, fill in DEFAULTS and, without a seed, draw a new one. Raises UserError."""
    seed = {"seed": secrets.randbelow(2**32)} if options.get("seed") is None else {}
    return GenerationParams.check({**DEFAULTS, **options, **seed}, Path("slm"))


def check_text(text: str) -> str:
    """Return the text. Raises ValueError if it cannot be encoded in UTF-8."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"must be valid Unicode, got a lone surrogate in {text!r}")
    return text
