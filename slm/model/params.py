"""The section `model` of params.yaml: the architecture and the shape of the network."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from slm.core.config import Section


class ModelParams(Section):
    """The sizes of a GPT, under the names that GPT-2 made common; the tokens bring the vocabulary's."""

    section: ClassVar[str] = "model"

    architecture: Literal["modern", "classic"]  # classic: GPT-2's
    n_layer: Annotated[int, Field(ge=1, le=1_000)]
    n_head: Annotated[int, Field(ge=1, le=1_000)]
    n_kv_head: Annotated[int, Field(ge=1, le=1_000)] | None  # of modern: of keys and values; null: n_head
    n_embd: Annotated[int, Field(ge=1, le=100_000)]
    block_size: Annotated[int, Field(ge=1, le=1_000_000)]  # the longest context, in tokens
    mlp: Literal["gelu", "relu2", "swiglu"]  # of modern; classic's is gelu
    tied: bool  # of modern: the head is the token embedding; classic's always is
    dropout: Annotated[float, Field(ge=0, lt=1)]
    bias: bool  # of classic: in the linear layers and the layer norms

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_kv_head if self.architecture == "modern" and self.n_kv_head else self.n_head

    @field_validator("n_kv_head")
    @classmethod
    def _groups_are_whole(cls, n_kv_head: int | None, info: ValidationInfo) -> int | None:
        n_head = info.data.get("n_head", 0)  # not there if it is wrong itself
        if n_kv_head and n_head % n_kv_head:
            raise ValueError(f"{n_kv_head} is not allowed; allowed: a divisor of n_head, which is {n_head}")
        return n_kv_head

    @field_validator("n_embd")
    @classmethod
    def _heads_share_the_channels(cls, n_embd: int, info: ValidationInfo) -> int:
        n_head = info.data.get("n_head", 1)
        if n_embd % n_head:
            raise ValueError(f"{n_embd} is not allowed; allowed: a multiple of n_head, which is {n_head}")
        if info.data.get("architecture") == "modern" and n_embd // n_head % 2:
            what = f"rotary positions turn pairs of channels, so a multiple of 2 × n_head, which is {n_head}"
            raise ValueError(f"{n_embd} is not allowed; allowed: {what}")
        return n_embd


class ModelConfig(Section):
    """config.json of a saved model."""

    section: ClassVar[str] = "config"

    architecture: Literal["gpt"]
    vocab_size: Annotated[int, Field(ge=1, le=1_000_000)]
    model: ModelParams

    def flops_per_token(self, num_params: int) -> int:
        """Return the operations to train on one token: 6N + 12·L·C·T (Chowdhery et al. 2022, appendix B).

        N are the parameters without embeddings that are only looked up, L layers, C channels, T the context.
        """
        sizes = self.model
        if sizes.architecture == "classic":
            # Positions; the token embedding is the head, which multiplies.
            num_params -= sizes.block_size * sizes.n_embd
        elif not sizes.tied:
            num_params -= self.vocab_size * sizes.n_embd
        return 6 * num_params + 12 * sizes.n_layer * sizes.n_embd * sizes.block_size
