"""Where the documents of the corpus come from: `data.source`."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from slm.corpus.documents import Document, is_validation
from slm.corpus.params import DataParams
from slm.corpus.stories.generator import stories
from slm.corpus.textfiles import read_files
from slm.progress import Progress


def documents(params: DataParams) -> Iterator[Document]:
    """The documents of both splits, one at a time, with progress."""
    found = embedded(params) if params.source == "embedded" else read_files(params)
    total = params.max_documents if params.source == "embedded" else None
    with Progress("documents", total, "doc") as progress:
        for document in found:
            yield document
            progress.advance(1)


def embedded(params: DataParams) -> Iterator[Document]:
    """The first `max_documents` stories of the project's own story grammar, with their probabilities."""
    for story in islice(stories(params.seed), params.max_documents):
        held_out = is_validation(story.text, params.validation_fraction, params.seed)
        yield Document("validation" if held_out else "train", story.text, story.bits)


def origin(params: DataParams) -> dict[str, Any]:
    """Where the documents are from, for the summary."""
    if params.source == "embedded":
        return {
            "source": "embedded: stories of this project's grammar",
            "seed": params.seed,
            "licence": "MIT",
        }
    files = {"train": params.files.train, "validation": params.files.validation}
    return {"source": "files", "files": files, "licence": "as the owner of the files says"}
