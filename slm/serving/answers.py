"""Answers to completion requests in OpenAI's form, whole or event by event."""

import json
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from slm.params import SHORT
from slm.serving.choices import Choice, Piece, Token
from slm.serving.engine import Order
from slm.serving.errors import NoAnswer
from slm.serving.params import MAX_PROMPT, MODEL, CompletionRequest
from slm.text.batch import Text
from slm.text.generate import new_random
from slm.text.params import DrawParams, draw_params
from slm.text.writer import Writer
from slm.tokens.tokenizer import encode, tiktoken_encoding


class Answer:
    """The answer to one request: its choices, by the texts that they are written as.

    `names` are those of the tokens. Raises NoAnswer for another model, or too long a prompt.
    """

    def __init__(self, asked: CompletionRequest, writer: Writer, names: list[str]):
        if asked.model != MODEL:
            message = f"{SHORT.repr(asked.model)} is not served; served: {MODEL}"
            raise NoAnswer(404, message, "model", "model_not_found")
        self._asked, self._names = asked, names
        self.choices: dict[Text, Choice] = {}
        self._n_prompt_tokens = 0
        params = _draw_params(asked)
        for prompt in asked.prompt:
            ids = tuple(encode(writer.tokenizer, prompt))
            if len(ids) > MAX_PROMPT:
                raise NoAnswer(400, f"a prompt has {len(ids)} tokens; allowed: {MAX_PROMPT}", "prompt")
            self._n_prompt_tokens += len(ids)
            for sample in range(asked.n):
                text = Text(ids, params, new_random(params.seed, sample), asked.logprobs)
                self.choices[text] = Choice(len(self.choices), text, asked.stop, writer)
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": MODEL,
        }

    async def whole(self, order: Order) -> dict[str, Any]:
        """All of it, once it is written."""
        pieces: dict[Choice, list[Piece]] = defaultdict(list)
        async for some in self._pieces(order):
            for choice, piece in some:
                pieces[choice].append(piece)
        choices = [self._form(choice, *pieces[choice]) for choice in self.choices.values()]
        return {**self._head, "choices": choices, "usage": self._usage()}

    async def events(self, order: Order) -> AsyncIterator[str]:
        """Server-sent events, each token as soon as it is there."""
        try:
            async for some in self._pieces(order):
                yield "".join(
                    _event({**self._head, "choices": [self._form(choice, piece)]}) for choice, piece in some
                )
            if self._asked.stream_options.include_usage:
                yield _event({**self._head, "choices": [], "usage": self._usage()})
            yield "data: [DONE]\n\n"
        except NoAnswer as error:
            yield _event(error.body)

    async def _pieces(self, order: Order) -> AsyncIterator[list[tuple[Choice, Piece]]]:
        """What the choices grow by, until all are finished."""
        while any(choice.finish_reason is None for choice in self.choices.values()):
            pieces = []
            for written in await order.read():
                choice = self.choices[written.text]
                if choice.finish_reason:  # by a stop string, of which the engine knows nothing yet
                    continue
                piece = choice.add(written)
                if any(piece):
                    pieces.append((choice, piece))
                if choice.finish_reason:
                    order.give_up([written.text])
            if pieces:
                yield pieces

    def _form(self, choice: Choice, *pieces: Piece) -> dict[str, Any]:
        tokens = [token for piece in pieces for token in piece.tokens]
        return {
            "index": choice.index,
            "text": "".join(piece.text for piece in pieces),
            "logprobs": None if self._asked.logprobs is None else self._logprobs(tokens),
            "finish_reason": pieces[-1].finish_reason,
        }

    def _logprobs(self, tokens: list[Token]) -> dict[str, list[Any]]:
        """The likeliest tokens and the one that was drawn, if it is not among them."""
        written = [token.written for token in tokens]
        return {
            "tokens": [self._names[w.id] for w in written],
            "token_logprobs": [w.logprob for w in written],
            "top_logprobs": [
                {self._names[token]: p for token, p in [*w.alternatives, (w.id, w.logprob)]} for w in written
            ],
            "text_offset": [token.offset for token in tokens],
        }

    def _usage(self) -> dict[str, int]:
        n_written = sum(choice.n_tokens for choice in self.choices.values())
        return {
            "prompt_tokens": self._n_prompt_tokens,
            "completion_tokens": n_written,
            "total_tokens": self._n_prompt_tokens + n_written,
        }


def token_names(writer: Writer) -> list[str]:
    """Each token as text; one that ends within a character as OpenAI has it: `bytes:\\xf0\\x9f`."""
    encoding = tiktoken_encoding(writer.tokenizer)
    return [_name(encoding.decode_single_token_bytes(token)) for token in range(encoding.n_vocab)]


def _name(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _draw_params(asked: CompletionRequest) -> DrawParams:
    return draw_params(
        max_new_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_k=asked.top_k if asked.top_k > 0 else None,
        top_p=asked.top_p,
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        seed=asked.seed,
    )


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
