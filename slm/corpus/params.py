"""The section `data` of params.yaml: where the documents come from and how many there are."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from slm.params import Section

PathText = Annotated[str, Field(min_length=1)]


class DataFiles(BaseModel):
    """The user's own files, for source `files`."""

    model_config = Section.model_config

    train: PathText  # .txt, .jsonl or .parquet, or a folder of .txt files
    validation: PathText  # the same; an empty file: a part of the training documents is held out


class DataParams(Section):
    """Documents, and which of them are kept from training to measure the model on."""

    section: ClassVar[str] = "data"

    source: Literal["embedded", "files"]
    max_documents: Annotated[int, Field(ge=1)] | None  # of all, or of each file; null is all
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    files: DataFiles

    @field_validator("max_documents")
    @classmethod
    def _ends(cls, max_documents: int | None, info: ValidationInfo) -> int | None:
        if max_documents is None and info.data.get("source") == "embedded":
            raise ValueError("null is not allowed; allowed: a number, for source embedded never ends")
        return max_documents
