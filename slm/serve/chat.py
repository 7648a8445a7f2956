"""Chat completions: the answer to the last request of a conversation."""

from collections.abc import AsyncIterator
from typing import Any

from slm.inference import Writer
from slm.serve.answers import Answer, text_of
from slm.serve.choices import Piece
from slm.serve.engine import Order
from slm.serve.params import ChatRequest
from slm.sft.chat import n_dropped, render
from slm.sft.conversations import Turn


class ChatCompletion(Answer):
    """What a model answers that was tuned; one that was not goes on with the text of the conversation."""

    id_prefix = "chatcmpl"
    kind, part_kind = "chat.completion", "chat.completion.chunk"

    def __init__(self, asked: ChatRequest, writer: Writer):
        *said, request = [message.content for message in asked.messages]
        turns = [Turn(*turn) for turn in zip(said[::2], said[1::2], strict=True)]
        n_forgotten = n_dropped(turns, request, writer.n_tokens, writer.model.params.block_size)
        super().__init__(asked, writer, [render(turns[n_forgotten:], request)], "messages")
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
