"""Answers to requests in OpenAI's form, whole or event by event; what they hold, subclasses know."""

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from slm.core.config import format_value
from slm.generate.batch import Sequence, new_rng
from slm.inference import Writer
from slm.serve.choices import Choice, Piece
from slm.serve.engine import Order
from slm.serve.errors import NoAnswer
from slm.serve.params import MAX_PROMPT, MODEL, WritingRequest
from slm.tokenizer.tokenizer import encode


class Answer(ABC):
    """The answer to one request: its choices, by the texts that they are written as.

    `prompts` came in the field `param`; `n_top_logprobs` is as a Sequence has it. Raises NoAnswer for another
    model, or too long a prompt.
    """

    id_prefix: ClassVar[str]
    kind: ClassVar[str]  # OpenAI's "object" of the whole
    part_kind: ClassVar[str]  # and of each event

    def __init__(
        self,
        asked: WritingRequest,
        writer: Writer,
        prompts: list[str],
        param: str,
        n_top_logprobs: int | None = None,
    ):
        if asked.model != MODEL:
            message = f"{format_value(asked.model)} is not served; served: {MODEL}"
            raise NoAnswer(404, message, "model", "model_not_found")
        self._asked = asked
        self.choices: dict[Sequence, Choice] = {}
        self._n_prompt_tokens = 0
        params = asked.generation_params()
        for prompt in prompts:
            ids = tuple(encode(writer.tokenizer, prompt))
            if len(ids) > MAX_PROMPT:
                raise NoAnswer(400, f"a prompt must have at most {MAX_PROMPT} tokens, got {len(ids)}", param)
            self._n_prompt_tokens += len(ids)
            for sample in range(asked.n):
                text = Sequence(ids, params, new_rng(params.seed, sample), n_top_logprobs)
                self.choices[text] = Choice(len(self.choices), text, asked.stop, writer)
        self.head = {
            "id": f"{self.id_prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": MODEL,
        }

    @abstractmethod
    def _whole(self, pieces: list[Piece]) -> dict[str, Any]:
        """What a choice holds."""

    @abstractmethod
    def _part(self, piece: Piece) -> dict[str, Any]:
        """What an event holds of a choice."""

    async def whole(self, order: Order) -> dict[str, Any]:
        """All of it, once it is written."""
        pieces: dict[Choice, list[Piece]] = defaultdict(list)
        async for some in self._pieces(order):
            for choice, piece in some:
                pieces[choice].append(piece)
        choices = [
            {"index": choice.index, **self._whole(pieces[choice]), "finish_reason": choice.finish_reason}
            for choice in self.choices.values()
        ]
        return {**self.head, "object": self.kind, "choices": choices, "usage": self._usage()}

    async def events(self, order: Order) -> AsyncIterator[str]:
        """Server-sent events, each token as soon as it is there."""
        try:
            async for some in self._pieces(order):
                yield "".join(self._choice_event(c.index, self._part(p), p.finish_reason) for c, p in some)
            if self._asked.stream_options.include_usage:
                yield self._event(choices=[], usage=self._usage())
            yield "data: [DONE]\n\n"
        except NoAnswer as error:
            yield _data(error.body)

    async def _pieces(self, order: Order) -> AsyncIterator[list[tuple[Choice, Piece]]]:
        """What the choices grow by, until all are finished."""
        while any(choice.finish_reason is None for choice in self.choices.values()):
            pieces = []
            for written in await order.read():
                choice = self.choices[written.sequence]
                if choice.finish_reason:  # by a stop string, of which the engine knows nothing yet
                    continue
                piece = choice.add(written)
                if any(piece):
                    pieces.append((choice, piece))
                if choice.finish_reason:
                    order.give_up([written.sequence])
            if pieces:
                yield pieces

    def _choice_event(self, index: int, part: dict[str, Any], finish_reason: str | None = None) -> str:
        return self._event(choices=[{"index": index, **part, "finish_reason": finish_reason}])

    def _event(self, **content: Any) -> str:
        return _data({**self.head, "object": self.part_kind, **content})

    def _usage(self) -> dict[str, int]:
        n_written = sum(choice.n_tokens for choice in self.choices.values())
        return {
            "prompt_tokens": self._n_prompt_tokens,
            "completion_tokens": n_written,
            "total_tokens": self._n_prompt_tokens + n_written,
        }


def text_of(pieces: list[Piece]) -> str:
    """The characters of a choice."""
    return "".join(piece.text for piece in pieces)


def _data(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
