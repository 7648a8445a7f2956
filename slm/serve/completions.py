"""Responses in OpenAI's format: completions and chat completions, complete or as streams of chunks."""

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from slm.core.config import format_value
from slm.generate.batch import Sequence, new_rng
from slm.inference import TextGenerator
from slm.serve.choices import Choice, Delta
from slm.serve.engine import RequestHandle
from slm.serve.errors import APIError
from slm.serve.params import MAX_PROMPT_TOKENS, MODEL, ChatRequest, CompletionRequest, GenerationRequest
from slm.sft.conversations import Turn, n_dropped, render
from slm.tokenizer.tokenizer import encode, tiktoken_encoding


class BaseCompletion(ABC):
    """The response to one request, with `n` choices for each prompt.

    `param` is the request's field with the prompts; `n_top_logprobs` is that of Sequence. Raises APIError
    for another model or a prompt that is too long.
    """

    id_prefix: ClassVar[str]
    # OpenAI's field "object" of a response, and of a chunk of a stream.
    object_type: ClassVar[str]
    chunk_type: ClassVar[str]

    def __init__(
        self,
        request: GenerationRequest,
        generator: TextGenerator,
        prompts: list[str],
        param: str,
        n_top_logprobs: int | None = None,
    ):
        if request.model != MODEL:
            message = f"model: must be {MODEL!r}, got {format_value(request.model)}"
            raise APIError(404, message, "model", "model_not_found")
        self._request = request
        self.choices: dict[Sequence, Choice] = {}
        self._n_prompt_tokens = 0
        params = request.generation_params()
        for prompt in prompts:
            ids = tuple(encode(generator.tokenizer, prompt))
            if len(ids) > MAX_PROMPT_TOKENS:
                message = f"a prompt must have at most {MAX_PROMPT_TOKENS} tokens, got {len(ids)}"
                raise APIError(400, message, param)
            self._n_prompt_tokens += len(ids)
            for sample in range(request.n):
                sequence = Sequence(ids, params, new_rng(params.seed, sample), n_top_logprobs)
                self.choices[sequence] = Choice(len(self.choices), sequence, request.stop, generator)
        # The fields that the response and all chunks begin with.
        self.head = {
            "id": f"{self.id_prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": MODEL,
        }

    @abstractmethod
    def _choice_fields(self, deltas: list[Delta]) -> dict[str, Any]:
        """Return the content of a complete choice."""

    @abstractmethod
    def _chunk_fields(self, delta: Delta) -> dict[str, Any]:
        """Return the content of a choice in a chunk."""

    async def response(self, handle: RequestHandle) -> dict[str, Any]:
        """Return the complete response. Raises APIError if generation fails."""
        deltas: dict[Choice, list[Delta]] = defaultdict(list)
        async for step in self._deltas(handle):
            for choice, delta in step:
                deltas[choice].append(delta)
        choices = [
            {
                "index": choice.index,
                **self._choice_fields(deltas[choice]),
                "finish_reason": choice.finish_reason,
            }
            for choice in self.choices.values()
        ]
        return {**self.head, "object": self.object_type, "choices": choices, "usage": self._usage()}

    async def stream(self, handle: RequestHandle) -> AsyncIterator[str]:
        """Yield the response as server-sent events; the last one is an error if generation fails."""
        try:
            async for step in self._deltas(handle):
                yield "".join(
                    self._choice_event(choice.index, self._chunk_fields(delta), delta.finish_reason)
                    for choice, delta in step
                )
            if self._request.stream_options.include_usage:
                yield self._event(choices=[], usage=self._usage())
            yield "data: [DONE]\n\n"
        except APIError as error:
            yield _sse(error.body)

    async def _deltas(self, handle: RequestHandle) -> AsyncIterator[list[tuple[Choice, Delta]]]:
        """Yield the non-empty deltas of each step until all choices are finished."""
        while any(choice.finish_reason is None for choice in self.choices.values()):
            deltas = []
            for token in await handle.read():
                choice = self.choices[token.sequence]
                # The engine learns of a stop string only now, so it may have sampled further tokens.
                if choice.finish_reason:
                    continue
                delta = choice.add(token)
                if any(delta):
                    deltas.append((choice, delta))
                if choice.finish_reason:
                    handle.abort([token.sequence])
            if deltas:
                yield deltas

    def _choice_event(self, index: int, fields: dict[str, Any], finish_reason: str | None = None) -> str:
        return self._event(choices=[{"index": index, **fields, "finish_reason": finish_reason}])

    def _event(self, **fields: Any) -> str:
        return _sse({**self.head, "object": self.chunk_type, **fields})

    def _usage(self) -> dict[str, int]:
        n_generated = sum(choice.n_tokens for choice in self.choices.values())
        return {
            "prompt_tokens": self._n_prompt_tokens,
            "completion_tokens": n_generated,
            "total_tokens": self._n_prompt_tokens + n_generated,
        }


class Completion(BaseCompletion):
    """Continuations of prompts. `token_names` are those of the vocabulary, for log probabilities."""

    id_prefix = "cmpl"
    object_type = chunk_type = "text_completion"

    def __init__(self, request: CompletionRequest, generator: TextGenerator, token_names: list[str]):
        super().__init__(request, generator, request.prompt, "prompt", request.logprobs)
        self._token_names = token_names if request.logprobs is not None else None

    def _choice_fields(self, deltas: list[Delta]) -> dict[str, Any]:
        return {"text": _join(deltas), "logprobs": self._logprobs(deltas)}

    def _chunk_fields(self, delta: Delta) -> dict[str, Any]:
        return self._choice_fields([delta])

    def _logprobs(self, deltas: list[Delta]) -> dict[str, list[Any]] | None:
        """Return the log probabilities of the tokens; the sampled token is added to the top ones."""
        if (names := self._token_names) is None:
            return None
        tokens = [token for delta in deltas for token, _ in delta.tokens]
        return {
            "tokens": [names[token.id] for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {names[id_]: logprob for id_, logprob in [*token.top_logprobs, (token.id, token.logprob)]}
                for token in tokens
            ],
            "text_offset": [offset for delta in deltas for _, offset in delta.tokens],
        }


class ChatCompletion(BaseCompletion):
    """Answers to the last prompt of a conversation. A base model continues its text instead."""

    id_prefix = "chatcmpl"
    object_type, chunk_type = "chat.completion", "chat.completion.chunk"

    def __init__(self, request: ChatRequest, generator: TextGenerator):
        *previous, prompt = [message.content for message in request.messages]
        turns = [Turn(*turn) for turn in zip(previous[::2], previous[1::2], strict=True)]
        block_size = generator.model.params.block_size
        n_forgotten = n_dropped(turns, prompt, generator.count_tokens, block_size)
        super().__init__(request, generator, [render(turns[n_forgotten:], prompt)], "messages")
        # An extension of OpenAI's format.
        self.head["forgotten_turns"] = n_forgotten

    async def stream(self, handle: RequestHandle) -> AsyncIterator[str]:
        """Yield the role of each choice, then the response as server-sent events."""
        for choice in self.choices.values():
            yield self._choice_event(choice.index, {"delta": {"role": "assistant", "content": ""}})
        async for event in super().stream(handle):
            yield event

    def _choice_fields(self, deltas: list[Delta]) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": _join(deltas)}, "logprobs": None}

    def _chunk_fields(self, delta: Delta) -> dict[str, Any]:
        return {"delta": {"content": delta.text}}


def get_token_names(generator: TextGenerator) -> list[str]:
    """Return each token of the vocabulary as text, or as `bytes:\\xf0\\x9f` if it is not valid UTF-8."""
    encoding = tiktoken_encoding(generator.tokenizer)
    return [_name(encoding.decode_single_token_bytes(token)) for token in range(encoding.n_vocab)]


def _name(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _join(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def _sse(content: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(content)}\n\n"
