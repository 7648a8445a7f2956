"""summary.json of a corpus, read back: where the documents are from, and what is known of each split."""

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from slm.core.config import Section
from slm.core.files import read_json

LENIENT = ConfigDict(extra="ignore")  # there is more in it than is needed here
GRAMMAR = "embedded"  # what the source of the project's own stories begins with


class Entropy(BaseModel):
    """The entropy of a split's text."""

    model_config = Section.model_config | LENIENT

    bits_per_byte: float
    standard_error: float


class Split(BaseModel):
    """Counts; the entropy is known of few texts."""

    model_config = Section.model_config | LENIENT

    documents: int
    bytes: int
    entropy: Entropy | None = None


class Corpus(Section):
    """What `write_corpus` in documents.py has written of the corpus."""

    section: ClassVar[str] = "summary"
    model_config = LENIENT

    source: str
    licence: str = ""
    name: str = ""  # of a dataset of the Hub
    train: Split
    validation: Split
    versions: dict[str, str] = Field(default_factory=dict)  # of libraries

    @property
    def is_of_grammar(self) -> bool:
        """Whether it is of the project's story grammar, of which it is known what is consistent."""
        return self.source.startswith(GRAMMAR)


def read_summary(path: Path) -> Corpus:
    """Read it. Raises UserError if it is missing or does not say what is needed."""
    return Corpus.check(read_json(path), path)
