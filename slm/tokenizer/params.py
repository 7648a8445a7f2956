"""The section `tokenizer` of params.yaml."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slm.core.config import ParamsSection


class TokenizerParams(ParamsSection):
    """A BPE tokenizer trained on the training split (`bpe`), or GPT-2's with 50,257 tokens (`gpt2`)."""

    section: ClassVar[str] = "tokenizer"

    type: Literal["gpt2", "bpe"]
    # The vocabulary of `bpe`: 256 bytes, `<|endoftext|>` and merges. Ignored by `gpt2`.
    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)]
