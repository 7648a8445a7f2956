"""Bodies of requests: OpenAI's fields, and some of vLLM's."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator

from slm.core.config import StrictModel, format_value
from slm.generate.params import DEFAULTS, GenerationParams, check_text, generation_params

# The name of the one model that is served.
MODEL = "slm"
MAX_BODY_BYTES = 256 * 1024
MAX_PROMPT_TOKENS = 2048
MAX_TOKENS = 4096
# Choices of one request.
MAX_CHOICES = 64
MAX_LOGPROBS = 10
MAX_STOP_STRINGS, MAX_STOP_CHARACTERS = 4, 100


def _as_list(value: Any) -> Any:
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise ValueError(f"must be a string or a list of strings, got {format_value(value)}")
    return [check_text(string) for string in strings]


StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
NTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Body(BaseModel):
    """A JSON object in which null is treated as omitted."""

    model_config = StrictModel.model_config
    # Unsupported fields of OpenAI's with their default values, which some clients send.
    ignored: ClassVar[dict[str, list[Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_null_and_ignored(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {k: v for k, v in fields.items() if v is not None and v not in cls.ignored.get(k, [])}


class StreamOptions(Body):
    """Options of a stream."""

    # Whether to send a last event with token counts.
    include_usage: bool = False


class GenerationRequest(Body):
    """The fields that completions and chat completions have in common, with OpenAI's defaults."""

    ignored = {"frequency_penalty": [0], "logit_bias": [{}], "presence_penalty": [0]}

    model: str = MODEL
    # Choices per prompt.
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    max_tokens: NTokens = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    # 0 and -1 mean all tokens.
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    # None: a random seed for each request.
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Annotated[list[StopString], BeforeValidator(_as_list), Field(max_length=MAX_STOP_STRINGS)] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def max_new_tokens(self) -> int:
        """Return the maximum number of tokens to generate per choice."""
        return self.max_tokens

    def generation_params(self) -> GenerationParams:
        """Return the parameters of generation; without a seed, draw one."""
        return generation_params(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k if self.top_k > 0 else None,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions."""

    ignored = GenerationRequest.ignored | {"best_of": [1], "echo": [False], "suffix": [""]}

    # A single string is accepted too; "" starts a text from scratch.
    prompt: Annotated[list[str], BeforeValidator(_as_list)] = [""]
    # Number of top tokens to return beside the sampled one; None: no log probabilities.
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _limit_choices(self) -> Self:
        if not 1 <= self.n * len(self.prompt) <= MAX_CHOICES:
            got = f"n = {self.n} for {len(self.prompt)} prompts"
            raise ValueError(f"n × prompts must be 1 to {MAX_CHOICES}, got {got}")
        return self


class Message(Body):
    """A message of a conversation."""

    role: Literal["user", "assistant"]
    content: Annotated[str, AfterValidator(check_text)]


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    ignored = GenerationRequest.ignored | {"logprobs": [False]}

    messages: list[Message]
    max_tokens: NTokens = DEFAULTS["max_new_tokens"]
    # OpenAI's newer name, which takes precedence.
    max_completion_tokens: NTokens | None = None

    @property
    def max_new_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens

    @field_validator("messages")
    @classmethod
    def _alternate_roles(cls, messages: list[Message]) -> list[Message]:
        roles = [message.role for message in messages]
        if roles != ["user", *["assistant", "user"] * (len(roles) // 2)]:
            expected = "user and assistant in turn, the first and the last user"
            raise ValueError(f"the roles must be {expected}, got {format_value(roles)}")
        return messages
