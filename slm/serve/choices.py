"""The text of one choice of a response, decoded token by token."""

from typing import Literal, NamedTuple

from slm.generate.batch import SampledToken, Sequence
from slm.inference import StreamDecoder, TextGenerator

FinishReason = Literal["stop", "length"]


class Delta(NamedTuple):
    """What one step adds to a choice."""

    text: str
    # Each token with its offset, in characters, in the text of the choice.
    tokens: list[tuple[SampledToken, int]]
    finish_reason: FinishReason | None


class Choice:
    """A choice in generation. It holds back text that may be the beginning of a stop string."""

    def __init__(self, index: int, sequence: Sequence, stop: list[str], generator: TextGenerator):
        self.index = index
        # Includes the tokens of a stop string, not <|endoftext|>.
        self.n_tokens = 0
        self.finish_reason: FinishReason | None = None
        self._max_tokens, self._stop = sequence.params.max_new_tokens, stop
        self._end_of_text = generator.end_of_text
        self._decoder = StreamDecoder(generator.tokenizer)
        # Number of characters that were returned.
        self._n_returned = 0
        # Text and tokens that are held back.
        self._text = ""
        self._tokens: list[tuple[SampledToken, int]] = []

    def add(self, token: SampledToken) -> Delta:
        """Add a token and return the text and tokens that no stop string can remove any more."""
        if token.id == self._end_of_text:
            self.finish_reason = "stop"
        else:
            self.n_tokens += 1
            self._tokens.append((token, self._n_returned + len(self._text)))
            self._text += self._decoder.add(token.id)
            if self.n_tokens == self._max_tokens:
                self.finish_reason = "length"
        if self.finish_reason:
            self._text += self._decoder.flush()

        # Cut the text before the first stop string, or wait if it ends like the beginning of one.
        starts = [start for stop in self._stop if (start := self._text.find(stop)) >= 0]
        if starts:
            self.finish_reason = "stop"
            self._text = self._text[: min(starts)]
            end = self._n_returned + len(self._text)
            self._tokens = [(token, offset) for token, offset in self._tokens if offset < end]
        elif not self.finish_reason and self._may_become_stop():
            return Delta("", [], None)

        delta = Delta(self._text, self._tokens, self.finish_reason)
        self._n_returned += len(self._text)
        self._text, self._tokens = "", []
        return delta

    def _may_become_stop(self) -> bool:
        return any(self._text.endswith(stop[:n]) for stop in self._stop for n in range(1, len(stop)))
