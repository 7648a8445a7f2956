"""The section `tokenizer` of params.yaml: what the pieces of text are that the model reads and writes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slm.core.config import Section


class TokenizerParams(Section):
    """GPT-2's own vocabulary (`gpt2`, always 50257 tokens), or one learned from the training split (`bpe`).

    `vocab_size` is for `bpe` alone: 256 bytes, `<|endoftext|>` and merges. With `gpt2` it is ignored.
    """

    section: ClassVar[str] = "tokenizer"

    kind: Literal["gpt2", "bpe"]
    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)]
