"""Read summary.json of a corpus: the origin of its documents and the size of each split."""

from pathlib import Path

from pydantic import ConfigDict, Field

from slm.core.config import StrictModel, validate
from slm.core.files import read_json

# The file has more keys than are used here.
LENIENT = ConfigDict(extra="ignore")
# Prefix of the source of the project's own stories.
SYNTHETIC = "synthetic"


class Entropy(StrictModel):
    """The entropy of the source, estimated on a split whose documents have known probabilities."""

    model_config = LENIENT

    bits_per_byte: float
    standard_error: float


class Split(StrictModel):
    """The counts of a split, and the entropy if it is known."""

    model_config = LENIENT

    documents: int
    bytes: int
    entropy: Entropy | None = None


class CorpusSummary(StrictModel):
    """The parts of summary.json that later stages use."""

    model_config = LENIENT

    source: str
    license: str = ""
    # The name of a dataset of the Hub.
    name: str = ""
    train: Split
    validation: Split
    # Installed versions of the libraries that read the documents.
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def is_synthetic(self) -> bool:
        """Return whether the documents are stories of the grammar, whose consistency can be checked."""
        return self.source.startswith(SYNTHETIC)


def read_summary(path: Path) -> CorpusSummary:
    """Read summary.json. Raises UserError if it is missing or incomplete."""
    return validate(CorpusSummary, read_json(path), str(path))
