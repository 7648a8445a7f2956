"""The section `evaluate` of params.yaml: how the trained model is measured."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from slm.core.config import ITEM_NAME, ParamsSection, StrictModel
from slm.data.params import DataHub, Name


class Dataset(StrictModel):
    """A further text to measure the model on."""

    file: Name  # .txt, .jsonl or .parquet, or a folder of .txt files; with `hub` any file, which is not read
    metric: Literal[
        "bits_per_byte", "word_perplexity", "last_word_accuracy"
    ]  # slm/eval/datasets.py defines them
    hub: DataHub | None = None  # the text is a dataset's: of its validation_split, else its train_split

    @field_validator("hub")
    @classmethod
    def _is_the_same_for_ever(cls, hub: DataHub | None) -> DataHub | None:
        if hub and not re.fullmatch("[0-9a-f]{40}", hub.revision):
            raise ValueError(f"revision must be a commit of 40 hexadecimal digits, got {hub.revision!r}")
        return hub


class EvaluateParams(ParamsSection):
    """Sliding windows over the validation split, what to compare with, and what else to measure."""

    section: ClassVar[str] = "evaluate"

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]  # windows in one forward pass
    stride: Annotated[int, Field(ge=1)] | None  # tokens between windows; null is a quarter of a block
    ngram_order: Annotated[int, Field(ge=0, le=20)]  # of the baseline; 0 is no baseline
    minimal_pairs: Annotated[int, Field(ge=0, le=1_000_000)]  # of each phenomenon; 0 is none
    datasets: dict[
        Annotated[str, Field(pattern=ITEM_NAME)], Dataset
    ]  # by name; each is a stage, eval_dataset@NAME
