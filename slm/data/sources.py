"""Open the source of the documents: `data.source`."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from slm.core.progress import Progress
from slm.data.documents import Document, is_validation
from slm.data.params import DataParams
from slm.data.textfiles import read_files
from storygrammar.grammar.generator import stories


def open_source(params: DataParams) -> tuple[Iterator[Document], dict[str, Any]]:
    """Return an iterator over the documents of both splits, which shows progress, and their origin."""
    if params.source == "synthetic":
        documents, total = synthetic_documents(params), params.max_documents
        origin = {
            "source": "synthetic: stories of this project's grammar",
            "seed": params.seed,
            "license": "MIT",
        }
    elif params.source == "files":
        documents, total = read_files(params), None
        files = {"train": params.files.train, "validation": params.files.validation}
        origin = {"source": "files", "files": files, "license": "as the owner of the files says"}
    else:
        # Imported only here, because its client takes a second to load.
        from slm.data.hub import open_hub

        documents, origin, total = open_hub(params)
    return _show_progress(documents, total), origin


def synthetic_documents(params: DataParams) -> Iterator[Document]:
    """Yield the first `max_documents` stories of the story grammar, with their probabilities."""
    for story in islice(stories(params.seed), params.max_documents):
        held_out = is_validation(story.text, params.validation_fraction, params.seed)
        yield Document("validation" if held_out else "train", story.text, story.bits)


def _show_progress(documents: Iterator[Document], total: int | None) -> Iterator[Document]:
    with Progress("documents", total, "doc") as progress:
        for document in documents:
            yield document
            progress.advance(1)
