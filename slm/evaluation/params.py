"""The section `evaluate` of params.yaml: how the trained model is measured."""

from typing import Annotated, ClassVar

from pydantic import Field

from slm.params import Section


class EvaluateParams(Section):
    """Sliding windows over the validation split, and the n-gram model to compare with."""

    section: ClassVar[str] = "evaluate"

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]  # windows in one forward pass
    stride: Annotated[int, Field(ge=1)] | None  # tokens between windows; null is a quarter of a block
    ngram_order: Annotated[int, Field(ge=0, le=20)]  # of the baseline; 0 is no baseline
