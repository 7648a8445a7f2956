"""The section `model` of params.yaml: the shape of the network."""

from typing import Annotated, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from slm.params import Section


class ModelParams(Section):
    """The sizes of a GPT, under the names that GPT-2 made common; the tokens bring the vocabulary's."""

    section: ClassVar[str] = "model"

    n_layer: Annotated[int, Field(ge=1, le=1_000)]
    n_head: Annotated[int, Field(ge=1, le=1_000)]
    n_embd: Annotated[int, Field(ge=1, le=100_000)]
    block_size: Annotated[int, Field(ge=1, le=1_000_000)]  # the longest context, in tokens
    dropout: Annotated[float, Field(ge=0, lt=1)]
    bias: bool  # in the linear layers and the layer norms

    @field_validator("n_embd")
    @classmethod
    def _heads_share_the_channels(cls, n_embd: int, info: ValidationInfo) -> int:
        n_head = info.data.get("n_head", 1)  # not there if it is wrong itself
        if n_embd % n_head:
            raise ValueError(f"{n_embd} is not allowed; allowed: a multiple of n_head, which is {n_head}")
        return n_embd
