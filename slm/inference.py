"""A trained model with its tokenizer: text in, text out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from slm.generate.batch import Batch, Sequence, new_rng
from slm.generate.params import check_text, generation_params
from slm.model.device import setup_torch
from slm.model.gpt import GPT, load_model
from slm.tokenizer import tokenizer as tokens


class Writer:
    """Writes with a model that is in evaluation mode."""

    def __init__(self, model: GPT, tokenizer: Tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.end_of_text: int = tokens.end_of_text_id(tokenizer)

    def generate(self, prompt: str = "", **options: Any) -> str:
        """What follows the prompt; `options` are as for `generation_params`.

        Without a `seed`, each call draws anew. Raises UserError if an option is wrong.
        """
        return "".join(self.stream(prompt, **options))

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """The same in pieces, each as soon as it is written."""
        params = generation_params(**options)
        sequence = Sequence(tuple(self.encode(prompt)), params, new_rng(params.seed, 0))
        spelling = self.spelling()
        batch = Batch(self.model, self.end_of_text)
        batch.join([sequence])
        while not sequence.finished:
            for written in batch.step():
                if piece := spelling.add(written.id):
                    yield piece
        if rest := spelling.rest():
            yield rest

    def encode(self, text: str) -> list[int]:
        """The token ids of a text. Raises ValueError if it holds half a surrogate pair."""
        return tokens.encode(self.tokenizer, check_text(text))

    def n_tokens(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self.encode(text))

    def spelling(self) -> "Spelling":
        """What turns the token ids of one text into its characters."""
        return Spelling(self.tokenizer)


class Spelling:
    """Token ids in, text out; a character whose bytes come in several tokens waits until it is whole."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)  # <|endoftext|> only ends a text
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """What can be read now; empty while a character is not whole."""
        piece = self._stream.step(self._tokenizer, token)
        self._held = [] if piece is not None else [*self._held, token]
        return piece or ""

    def rest(self) -> str:
        """What is left at the end: U+FFFD for bytes that never became a character."""
        return self._tokenizer.decode(self._held, skip_special_tokens=True)


def load(folder: str | Path = "models") -> Writer:
    """The model and tokenizer that `dvc repro` left in a folder. Raises UserError if they are not there."""
    folder = Path(folder)
    tokenizer = tokens.load(folder / "tokenizer.json")
    return Writer(load_model(folder, setup_torch(), tokenizer.get_vocab_size()), tokenizer)
