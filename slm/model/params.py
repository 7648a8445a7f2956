"""The section `model` of params.yaml, and config.json of a saved model."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from slm.core.config import ParamsSection, StrictModel


class ModelParams(ParamsSection):
    """The architecture and sizes of a GPT; the tokenizer sets the vocabulary size."""

    section: ClassVar[str] = "model"

    # gpt2: learned positions, LayerNorm, GELU. rope: rotary positions, RMSNorm, QK-norm and more.
    architecture: Literal["rope", "gpt2"]
    n_layer: Annotated[int, Field(ge=1, le=1_000)]
    n_head: Annotated[int, Field(ge=1, le=1_000)]
    # Only for rope: key-value heads, shared by the query heads; null is n_head.
    n_kv_head: Annotated[int, Field(ge=1, le=1_000)] | None
    n_embd: Annotated[int, Field(ge=1, le=100_000)]
    # Context length in tokens.
    block_size: Annotated[int, Field(ge=1, le=1_000_000)]
    # Only for rope; gpt2 uses gelu.
    activation: Literal["gelu", "relu2", "swiglu"]
    # Only for rope; gpt2 always ties them.
    tie_embeddings: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    # Only for gpt2: biases of linear layers and LayerNorms.
    bias: bool

    @property
    def head_dim(self) -> int:
        """Return the number of channels per head."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Return the number of key-value heads."""
        return self.n_kv_head if self.architecture == "rope" and self.n_kv_head else self.n_head

    # An invalid field is missing from info.data.
    @field_validator("n_kv_head")
    @classmethod
    def _divides_n_head(cls, n_kv_head: int | None, info: ValidationInfo) -> int | None:
        n_head = info.data.get("n_head", 0)
        if n_kv_head and n_head % n_kv_head:
            raise ValueError(f"must be a divisor of n_head = {n_head}, got {n_kv_head}")
        return n_kv_head

    @field_validator("n_embd")
    @classmethod
    def _is_a_multiple_of_n_head(cls, n_embd: int, info: ValidationInfo) -> int:
        n_head = info.data.get("n_head", 1)
        if n_embd % n_head:
            raise ValueError(f"must be a multiple of n_head = {n_head}, got {n_embd}")
        if info.data.get("architecture") == "rope" and n_embd // n_head % 2:
            raise ValueError(
                f"must be a multiple of 2 × n_head = {2 * n_head}, because rotary positions rotate pairs of "
                f"channels, got {n_embd}"
            )
        return n_embd


class ModelConfig(StrictModel):
    """config.json of a saved model."""

    architecture: Literal["gpt"]
    vocab_size: Annotated[int, Field(ge=1, le=1_000_000)]
    model: ModelParams

    @model_validator(mode="before")
    @classmethod
    def _from_old_names(cls, values: Any) -> Any:
        """Accept models saved with the old names of keys and architectures."""
        if not (isinstance(values, dict) and isinstance(values.get("model"), dict)):
            return values
        keys = {"mlp": "activation", "tied": "tie_embeddings"}
        model = {keys.get(key, key): value for key, value in values["model"].items()}
        architectures = {"classic": "gpt2", "modern": "rope"}
        if (old := model.get("architecture")) in architectures:
            model["architecture"] = architectures[old]
        return values | {"model": model}

    def flops_per_token(self, num_params: int) -> int:
        """Return the operations to train on one token: 6N + 12·L·C·T (Chowdhery et al. 2022, appendix B).

        N is the number of parameters without embedding tables, L layers, C channels, T = block_size.
        """
        sizes = self.model
        if sizes.architecture == "gpt2":
            # Positions are looked up; the token embedding is also the output head, which multiplies.
            num_params -= sizes.block_size * sizes.n_embd
        elif not sizes.tie_embeddings:
            num_params -= self.vocab_size * sizes.n_embd
        return 6 * num_params + 12 * sizes.n_layer * sizes.n_embd * sizes.block_size
