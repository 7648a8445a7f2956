"""The section `data` of params.yaml."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from slm.core.config import NOT_SET, ParamsSection, StrictModel

# A path or a name. A path cannot contain the NUL character.
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Count = Annotated[int, Field(ge=1)]


class DataFiles(StrictModel):
    """The user's own files, for source `files`."""

    # .txt, .jsonl or .parquet, or a folder of .txt files.
    train: Name
    # As train, or NOT_SET to hold out a fraction of the training documents.
    validation: Name


class DataHub(StrictModel):
    """A dataset of the Hugging Face Hub, for source `hub`."""

    # OWNER/DATASET.
    name: str
    # A subset of the dataset. Null means its default.
    config: Name | None
    # A branch, tag or commit. Only a commit never changes.
    revision: Name
    text_column: Name
    train_split: Name
    # Null means to hold out a fraction of the training documents.
    validation_split: Name | None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            raise ValueError(f"must be the name of a dataset, as OWNER/DATASET, got {name!r}")
        return name


class DataParams(ParamsSection):
    """The source of the documents, their number and the fraction held out for validation."""

    section: ClassVar[str] = "data"

    source: Literal["synthetic", "files", "hub"]
    # Null means all.
    max_documents: Count | None
    # The limit for a validation file or split. Null means all.
    max_validation_documents: Count | None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    files: DataFiles
    hub: DataHub

    @field_validator("max_documents")
    @classmethod
    def _check_max_documents(cls, max_documents: int | None, info: ValidationInfo) -> int | None:
        if max_documents is None and info.data.get("source") == "synthetic":
            raise ValueError("must be a number for source synthetic, which is infinite, got null")
        return max_documents

    @field_validator("files")
    @classmethod
    def _check_train_file(cls, files: DataFiles, info: ValidationInfo) -> DataFiles:
        if files.train == NOT_SET and info.data.get("source") == "files":
            raise ValueError("train must be the path of your text, for example data/user/stories.txt")
        return files
