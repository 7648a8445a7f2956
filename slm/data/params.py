"""The section `data` of params.yaml: where the documents come from and how many there are."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from slm.core.config import NOT_SET, ParamsSection, StrictModel

# A path or a name: not empty, and without the NUL character, which no path can contain.
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Count = Annotated[int, Field(ge=1)]


class DataFiles(StrictModel):
    """The user's own files, for source `files`."""

    # .txt, .jsonl or .parquet, or a folder of .txt files.
    train: Name
    # The same, or NOT_SET: a fraction of the training documents is held out.
    validation: Name


class DataHub(StrictModel):
    """A dataset of the Hugging Face Hub, for source `hub`."""

    # OWNER/DATASET.
    name: str
    # A subset of the dataset; null is its default.
    config: Name | None
    # A branch, tag or commit; only a commit never changes.
    revision: Name
    text_column: Name
    train_split: Name
    # Null: a fraction of the training documents is held out.
    validation_split: Name | None

    @field_validator("name")
    @classmethod
    def _is_a_dataset_name(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            raise ValueError(f"must be the name of a dataset, as OWNER/DATASET, got {name!r}")
        return name


class DataParams(ParamsSection):
    """Documents, and which of them are held out for validation."""

    section: ClassVar[str] = "data"

    source: Literal["synthetic", "files", "hub"]
    # Null is all.
    max_documents: Count | None
    # Of a validation file or split; null is all.
    max_validation_documents: Count | None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    files: DataFiles
    hub: DataHub

    @field_validator("max_documents")
    @classmethod
    def _is_finite(cls, max_documents: int | None, info: ValidationInfo) -> int | None:
        if max_documents is None and info.data.get("source") == "synthetic":
            raise ValueError("must be a number for source synthetic, which never ends, got null")
        return max_documents

    @field_validator("files")
    @classmethod
    def _names_a_file(cls, files: DataFiles, info: ValidationInfo) -> DataFiles:
        if files.train == NOT_SET and info.data.get("source") == "files":
            raise ValueError("train must name your text, for example data/user/stories.txt")
        return files
