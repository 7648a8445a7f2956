"""What a client may ask for: the body of POST /v1/completions, with OpenAI's names and some of vLLM's."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from slm.params import SHORT, Section
from slm.text.params import check_text

MODEL = "slm"  # the name of the one model that is served
MAX_BYTES = 256 * 1024  # of a body
MAX_PROMPT = 2048  # tokens of each
MAX_TOKENS = 4096  # that are written of each text
MAX_TEXTS = 64  # of a request
MAX_LOGPROBS = 10
MAX_STOPS, MAX_STOP = 4, 100  # strings, characters of each

# OpenAI's fields that are not supported, with the values that change nothing: clients like to send them.
WITHOUT_EFFECT: dict[str, list[Any]] = {
    "best_of": [1],
    "echo": [False],
    "frequency_penalty": [0],
    "logit_bias": [{}],
    "presence_penalty": [0],
    "suffix": [""],
}


class StreamOptions(BaseModel):
    """What a stream has besides texts."""

    model_config = Section.model_config

    include_usage: bool = False  # a last event that counts tokens


class CompletionRequest(BaseModel):
    """The body; all fields have OpenAI's defaults, and null is as good as nothing."""

    model_config = Section.model_config

    model: str = MODEL
    prompt: list[str] = [""]  # or one string; "" begins a text from nothing
    n: Annotated[int, Field(ge=1, le=MAX_TEXTS)] = 1  # texts for each prompt
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] = 0  # 0 and -1 are all
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None  # None: other texts each time
    stop: list[Annotated[str, Field(min_length=1, max_length=MAX_STOP)]] = Field([], max_length=MAX_STOPS)
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None  # likeliest tokens to tell of
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @model_validator(mode="before")
    @classmethod
    def _without_what_has_no_effect(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {k: v for k, v in fields.items() if v is not None and v not in WITHOUT_EFFECT.get(k, [])}

    @field_validator("prompt", "stop", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        strings = [value] if isinstance(value, str) else value
        if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
            raise ValueError(f"{SHORT.repr(value)} is not allowed; allowed: a string or a list of strings")
        return [check_text(string) for string in strings]

    @model_validator(mode="after")
    def _has_not_too_many_texts(self) -> Self:
        if not 1 <= self.n * len(self.prompt) <= MAX_TEXTS:
            asked = f"{self.n} texts for each of {len(self.prompt)} prompts"
            raise ValueError(f"{asked}; allowed: 1 to {MAX_TEXTS} in all")
        return self
