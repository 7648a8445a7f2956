"""The section `evaluate` of params.yaml."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from slm.core.config import ITEM_NAME, ParamsSection, StrictModel
from slm.data.params import DataHub, Name


class Dataset(StrictModel):
    """Another dataset to evaluate the model on."""

    # .txt, .jsonl or .parquet, or a folder of .txt files; not read if `hub` is set.
    file: Name
    # Defined in slm/eval/datasets.py.
    metric: Literal["bits_per_byte", "word_perplexity", "last_word_accuracy"]
    # A dataset of the Hub: its validation_split or, if that is null, its train_split.
    hub: DataHub | None = None

    @field_validator("hub")
    @classmethod
    def _is_pinned(cls, hub: DataHub | None) -> DataHub | None:
        if hub and not re.fullmatch("[0-9a-f]{40}", hub.revision):
            raise ValueError(f"revision must be a commit of 40 hexadecimal digits, got {hub.revision!r}")
        return hub


class EvaluateParams(ParamsSection):
    """Evaluation on the validation split and on other datasets."""

    section: ClassVar[str] = "evaluate"

    # Windows per forward pass.
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    # Tokens between the starts of windows; null: a quarter of block_size.
    stride: Annotated[int, Field(ge=1)] | None
    # Order of the n-gram baseline; 0: none.
    ngram_order: Annotated[int, Field(ge=0, le=20)]
    # Minimal pairs per phenomenon; 0: none.
    minimal_pairs: Annotated[int, Field(ge=0, le=1_000_000)]
    # By name; each one is a stage, eval_dataset@NAME.
    datasets: dict[Annotated[str, Field(pattern=ITEM_NAME)], Dataset]
