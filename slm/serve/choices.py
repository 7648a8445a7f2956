"""One of the texts of an answer, which OpenAI calls choices, as it grows."""

from typing import Literal, NamedTuple

from slm.generate.batch import SampledToken, Sequence
from slm.inference import Writer


class Token(NamedTuple):
    """A token, and where its text begins among the characters of its choice."""

    written: SampledToken
    offset: int


class Piece(NamedTuple):
    """What a choice grows by. A token has no text where it ends within a character."""

    text: str
    tokens: list[Token]
    finish_reason: Literal["stop", "length"] | None


class Choice:
    """Tokens in, pieces of text out. What may become a stop string is held back until that is clear."""

    def __init__(self, index: int, text: Sequence, stops: list[str], writer: Writer):
        self.index = index
        self.n_tokens = 0  # those of a stop string, too
        self.finish_reason: Literal["stop", "length"] | None = None
        self._max_tokens, self._stops = text.params.max_new_tokens, stops
        self._end_of_text, self._spelling = writer.end_of_text, writer.spelling()
        self._n_given = 0  # characters
        self._held = ""
        self._tokens: list[Token] = []  # of what is held

    def add(self, written: SampledToken) -> Piece:
        """What can be told after one more token: its text, more, or nothing yet."""
        if written.id == self._end_of_text:
            self.finish_reason = "stop"
        else:
            self.n_tokens += 1
            self._tokens.append(Token(written, self._n_given + len(self._held)))
            self._held += self._spelling.add(written.id)
            if self.n_tokens == self._max_tokens:
                self.finish_reason = "length"
        if self.finish_reason:
            self._held += self._spelling.rest()
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.finish_reason = "stop"
            self._held = self._held[: min(found)]
            self._tokens = [t for t in self._tokens if t.offset < self._n_given + len(self._held)]
        elif not self.finish_reason and self._may_become_a_stop():
            return Piece("", [], None)
        piece = Piece(self._held, self._tokens, self.finish_reason)
        self._n_given += len(self._held)
        self._held, self._tokens = "", []
        return piece

    def _may_become_a_stop(self) -> bool:
        return any(self._held.endswith(stop[:n]) for stop in self._stops for n in range(1, len(stop)))
