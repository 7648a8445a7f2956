"""Inference with a trained model and its tokenizer: text in, text out."""

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


class TextGenerator:
    """A model in evaluation mode and its tokenizer, which generate text together."""

    def __init__(self, model: GPT, tokenizer: Tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.end_of_text: int = tokens.end_of_text_id(tokenizer)

    def generate(self, prompt: str = "", **options: Any) -> str:
        """Return the continuation of a prompt; `options` are those of `generation_params`.

        Without a `seed`, each call uses a random one. Raises UserError if an option is wrong.
        """
        return "".join(self.stream(prompt, **options))

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Generate as `generate` does; yield each part of the text as soon as it is decoded."""
        params = generation_params(**options)
        sequence = Sequence(tuple(self.encode(prompt)), params, new_rng(params.seed, 0))
        decoder = StreamDecoder(self.tokenizer)
        batch = Batch(self.model, self.end_of_text)
        batch.add([sequence])
        while not sequence.finished:
            for token in batch.step():
                if text := decoder.add(token.id):
                    yield text
        if text := decoder.flush():
            yield text

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text. Raises ValueError if it contains a lone surrogate."""
        return tokens.encode(self.tokenizer, check_text(text))

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len(self.encode(text))


class StreamDecoder:
    """An incremental decoder of one text. It holds back the bytes of an incomplete character."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        # <|endoftext|> is the only special token, and no part of the text.
        self._stream = DecodeStream(skip_special_tokens=True)
        # Ids of the tokens since the last complete character.
        self._pending: list[int] = []

    def add(self, token: int) -> str:
        """Add a token id and return the text that it completes, which may be empty."""
        text = self._stream.step(self._tokenizer, token)
        self._pending = [] if text is not None else [*self._pending, token]
        return text or ""

    def flush(self) -> str:
        """Return the rest at the end of the text: U+FFFD for an incomplete character, else nothing."""
        return self._tokenizer.decode(self._pending, skip_special_tokens=True)


def load(folder: str | Path = "models") -> TextGenerator:
    """Load a model and its tokenizer from a folder. Raises UserError if a file is missing."""
    folder = Path(folder)
    tokenizer = tokens.load(folder / "tokenizer.json")
    return TextGenerator(load_model(folder, setup_torch(), tokenizer.get_vocab_size()), tokenizer)
