"""What a client may ask for: the bodies of requests, with OpenAI's names and some of vLLM's."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator

from slm.core.config import StrictModel, format_value
from slm.generate.params import DEFAULTS, GenerationParams, check_text, generation_params

MODEL = "slm"  # the name of the one model that is served
MAX_BYTES = 256 * 1024  # of a body
MAX_PROMPT = 2048  # tokens of each
MAX_TOKENS = 4096  # that are written of each text
MAX_TEXTS = 64  # of a request
MAX_LOGPROBS = 10
MAX_STOPS, MAX_STOP = 4, 100  # strings, characters of each


def _as_list(value: Any) -> Any:
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise ValueError(f"must be a string or a list of strings, got {format_value(value)}")
    return [check_text(string) for string in strings]


Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP)]
NTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Body(BaseModel):
    """A JSON object; null is as good as nothing."""

    model_config = StrictModel.model_config
    # OpenAI's fields that are not supported, with the values that change nothing: clients like to send them.
    without_effect: ClassVar[dict[str, list[Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_what_has_no_effect(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {k: v for k, v in fields.items() if v is not None and v not in cls.without_effect.get(k, [])}


class StreamOptions(Body):
    """What a stream has besides texts."""

    include_usage: bool = False  # a last event that counts tokens


class WritingRequest(Body):
    """What all requests for texts have in common, with OpenAI's defaults."""

    without_effect = {"frequency_penalty": [0], "logit_bias": [{}], "presence_penalty": [0]}

    model: str = MODEL
    n: Annotated[int, Field(ge=1, le=MAX_TEXTS)] = 1  # texts for each prompt
    max_tokens: NTokens = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] = 0  # 0 and -1 are all
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None  # None: other texts each time
    stop: Annotated[list[Stop], BeforeValidator(_as_list), Field(max_length=MAX_STOPS)] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def max_new_tokens(self) -> int:
        """When a text has to end."""
        return self.max_tokens

    def generation_params(self) -> GenerationParams:
        """How each next token is drawn."""
        return generation_params(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k if self.top_k > 0 else None,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


class CompletionRequest(WritingRequest):
    """The body of POST /v1/completions."""

    without_effect = WritingRequest.without_effect | {"best_of": [1], "echo": [False], "suffix": [""]}

    prompt: Annotated[list[str], BeforeValidator(_as_list)] = [""]  # or one; "" begins a text from nothing
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None  # likeliest tokens to tell of

    @model_validator(mode="after")
    def _has_not_too_many_texts(self) -> Self:
        if not 1 <= self.n * len(self.prompt) <= MAX_TEXTS:
            number = f"n = {self.n} for {len(self.prompt)} prompts"
            raise ValueError(f"n × prompts must be 1 to {MAX_TEXTS}, got {number}")
        return self


class Message(Body):
    """A request or the answer to one."""

    role: Literal["user", "assistant"]
    content: Annotated[str, AfterValidator(check_text)]


class ChatRequest(WritingRequest):
    """The body of POST /v1/chat/completions."""

    without_effect = WritingRequest.without_effect | {"logprobs": [False]}

    messages: list[Message]
    max_tokens: NTokens = DEFAULTS["max_new_tokens"]
    max_completion_tokens: NTokens | None = None  # its newer name, which goes first

    @property
    def max_new_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens

    @field_validator("messages")
    @classmethod
    def _take_turns(cls, messages: list[Message]) -> list[Message]:
        roles = [message.role for message in messages]
        if roles != ["user", *["assistant", "user"] * (len(roles) // 2)]:
            expected = "user and assistant in turn, the first and the last user"
            raise ValueError(f"the roles must be {expected}, got {format_value(roles)}")
        return messages
