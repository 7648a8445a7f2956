"""Chat completions: the answer to the last request of a conversation."""

from bisect import bisect_left
from collections.abc import AsyncIterator
from typing import Any

from slm.corpus.turns import Turn
from slm.serving.answers import Answer, text_of
from slm.serving.choices import Piece
from slm.serving.engine import Order
from slm.serving.params import ChatRequest
from slm.text.chat import prompt
from slm.text.writer import Writer


class ChatCompletion(Answer):
    """What a model answers that was tuned; one that was not goes on with the text of the conversation."""

    id_prefix = "chatcmpl"
    kind, part_kind = "chat.completion", "chat.completion.chunk"

    def __init__(self, asked: ChatRequest, writer: Writer):
        *said, request = [message.content for message in asked.messages]
        turns = [Turn(*turn) for turn in zip(said[::2], said[1::2], strict=True)]
        n_forgotten = n_out_of_sight(writer, turns, request)
        super().__init__(asked, writer, [prompt(turns[n_forgotten:], request)], "messages")
        self.head["forgotten_turns"] = n_forgotten  # OpenAI has no such field

    async def events(self, order: Order) -> AsyncIterator[str]:
        """First who speaks, then what is said."""
        for choice in self.choices.values():
            yield self._choice_event(choice.index, {"delta": {"role": "assistant", "content": ""}})
        async for event in super().events(order):
            yield event

    def _whole(self, pieces: list[Piece]) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text_of(pieces)}, "logprobs": None}

    def _part(self, piece: Piece) -> dict[str, Any]:
        return {"delta": {"content": piece.text}}


def n_out_of_sight(writer: Writer, turns: list[Turn], request: str) -> int:
    """How many of the first turns are to be left out, that the model sees all others and the request."""

    def is_in_sight(n: int) -> bool:
        return len(writer.encode(prompt(turns[n:], request))) < writer.model.params.block_size

    return bisect_left(range(len(turns)), True, key=is_in_sight)
