"""The section `data` of params.yaml: where the documents come from and how many there are."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from slm.core.config import NOT_SET, Section

Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Count = Annotated[int, Field(ge=1)]


class DataFiles(BaseModel):
    """The user's own files, for source `files`."""

    model_config = Section.model_config

    train: Name  # .txt, .jsonl or .parquet, or a folder of .txt files
    validation: Name  # the same; NOT_SET: a part of the training documents is held out


class DataHub(BaseModel):
    """A dataset of the Hugging Face Hub, for source `hub`."""

    model_config = Section.model_config

    name: str  # OWNER/DATASET
    config: Name | None  # a part of the dataset; null is its default
    revision: Name  # branch, tag or commit; only a commit is the same text for ever
    text: Name  # the column that holds the documents
    train_split: Name
    validation_split: Name | None  # null: a part of the training documents is held out

    @field_validator("name")
    @classmethod
    def _can_be_one(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            raise ValueError(f"{name!r} is not allowed; allowed: the name of a dataset, as OWNER/DATASET")
        return name


class DataParams(Section):
    """Documents, and which of them are kept from training to measure the model on."""

    section: ClassVar[str] = "data"

    source: Literal["embedded", "files", "hub"]
    max_documents: Count | None  # null is all
    max_validation_documents: Count | None  # of a validation file or split; null is all
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    files: DataFiles
    hub: DataHub

    @field_validator("max_documents")
    @classmethod
    def _ends(cls, max_documents: int | None, info: ValidationInfo) -> int | None:
        if max_documents is None and info.data.get("source") == "embedded":
            raise ValueError("null is not allowed; allowed: a number, for source embedded never ends")
        return max_documents

    @field_validator("files")
    @classmethod
    def _names_a_file(cls, files: DataFiles, info: ValidationInfo) -> DataFiles:
        if files.train == NOT_SET and info.data.get("source") == "files":
            raise ValueError("train must name your text, for example data/user/stories.txt")
        return files
