"""Completions: texts that go on with a prompt, token by token with what else it could have been."""

from typing import Any

from slm.inference import Writer
from slm.serve.answers import Answer, text_of
from slm.serve.choices import Piece
from slm.serve.params import CompletionRequest
from slm.tokenizer.tokenizer import tiktoken_encoding


class Completion(Answer):
    """What prompts are continued with; `names` are those of the tokens."""

    id_prefix = "cmpl"
    kind = part_kind = "text_completion"

    def __init__(self, asked: CompletionRequest, writer: Writer, names: list[str]):
        super().__init__(asked, writer, asked.prompt, "prompt", asked.logprobs)
        self._names = names if asked.logprobs is not None else None

    def _whole(self, pieces: list[Piece]) -> dict[str, Any]:
        return {"text": text_of(pieces), "logprobs": self._logprobs(pieces)}

    def _part(self, piece: Piece) -> dict[str, Any]:
        return self._whole([piece])

    def _logprobs(self, pieces: list[Piece]) -> dict[str, list[Any]] | None:
        """The likeliest tokens and the one that was drawn, if it is not among them."""
        if (names := self._names) is None:
            return None
        tokens = [token for piece in pieces for token in piece.tokens]
        written = [token.written for token in tokens]
        return {
            "tokens": [names[w.id] for w in written],
            "token_logprobs": [w.logprob for w in written],
            "top_logprobs": [
                {names[token]: p for token, p in [*w.top_logprobs, (w.id, w.logprob)]} for w in written
            ],
            "text_offset": [token.offset for token in tokens],
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
