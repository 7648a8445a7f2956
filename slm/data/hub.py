"""Datasets of the Hugging Face Hub, streamed: only what is needed is fetched, only the corpus is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.utils.file_utils import xopen
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from slm.core.errors import UserError
from slm.data.documents import Document, hold_out
from slm.data.params import DataHub, DataParams

SECONDS_TO_ANSWER = 10
BATCH_DOCUMENTS = 64  # few: a document may be long
OFFLINE = "data.source synthetic and files need no network"

huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
datasets.config.USE_PARQUET_EXPORT = False  # a service beside the Hub that need not be asked
datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it says of an error, ours says too
datasets.config.STREAMING_READ_MAX_RETRIES = 1  # which takes half a minute: the client below retries too


def open_hub(params: DataParams) -> tuple[Iterator[Document], dict[str, Any], int | None]:
    """The documents of `data.hub`, as many of each split as the params allow; where they are from; how many.

    How many is None where the dataset does not say it. Raises UserError, now or while the documents are read,
    if the Hub cannot be reached or does not have what is asked for.
    """
    hub = params.hub
    commit, license = _find(hub)
    origin = {"source": "hub", **hub.model_dump(), "commit": commit, "license": license}
    builder = _open(hub, commit)
    texts = islice(_texts(builder, hub.train_split, hub), params.max_documents)
    total = _count(builder, hub.train_split, params.max_documents)
    if hub.validation_split is None:
        return hold_out(texts, params.validation_fraction, params.seed), origin, total
    held_out = islice(_texts(builder, hub.validation_split, hub), params.max_validation_documents)
    more = _count(builder, hub.validation_split, params.max_validation_documents)
    return _both(texts, held_out), origin, total + more if total and more else None


def read_split(hub: DataHub, split: str) -> Iterator[str]:
    """The texts of one split of a dataset, one at a time. Raises UserError as `open_hub` does."""
    commit, _ = _find(hub)
    return _texts(_open(hub, commit), split, hub)


def _find(hub: DataHub) -> tuple[str, str]:
    """The commit that the revision stands for now, and the dataset's license."""
    endpoint = datasets.config.HF_ENDPOINT
    try:
        found = huggingface_hub.HfApi().dataset_info(
            hub.name, revision=hub.revision, timeout=SECONDS_TO_ANSWER
        )
    except OfflineModeIsEnabled:
        raise UserError(f"data.hub: HF_HUB_OFFLINE keeps {endpoint} from being asked; {OFFLINE}") from None
    except GatedRepoError:
        raise UserError(
            f"data.hub.name: {hub.name} asks for consent: give it on its page, then set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"data.hub.name: {endpoint} has no dataset {hub.name}, or HF_TOKEN does not open it"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"data.hub.revision: {hub.name} has no branch, tag or commit {hub.revision!r}"
        ) from None
    except HfHubHTTPError as error:
        raise UserError(f"data.hub: {endpoint} answered with an error ({_line(error)})") from None
    except Exception as error:  # of sockets, TLS and HTTP, from several libraries
        raise UserError(f"data.hub: {endpoint} could not be reached ({_line(error)}); {OFFLINE}") from None
    card: Any = found.card_data or {}
    return str(found.sha), card.get("license") or "not stated"


def _open(hub: DataHub, commit: str) -> datasets.DatasetBuilder:
    """The dataset, still to be read."""
    with _reading(hub, "its files"):
        configs: list[Any] = [None]
        if hub.config:
            configs = datasets.get_dataset_config_names(hub.name, revision=commit)
        if hub.config not in configs:
            raise UserError(
                f"data.hub.config: {hub.name} has no config {hub.config!r}; it has {', '.join(configs)}"
            )
        builder = datasets.load_dataset_builder(hub.name, hub.config, revision=commit)
    splits = [str(split) for split in builder.config.data_files]
    _check_split("train_split", hub, splits)
    if hub.validation_split is not None:
        _check_split("validation_split", hub, [*splits, "null (a part of train_split is held out)"])
    return builder


def _check_split(key: str, hub: DataHub, allowed: list[str]) -> None:
    if (split := getattr(hub, key)) not in allowed:
        raise UserError(
            f"data.hub.{key}: {hub.name} has no split {split!r}; must be one of {', '.join(allowed)}"
        )


def _both(texts: Iterator[str], held_out: Iterator[str]) -> Iterator[Document]:
    yield from (Document("train", text) for text in texts)
    yield from (Document("validation", text) for text in held_out)


def _texts(builder: datasets.DatasetBuilder, split: str, hub: DataHub) -> Iterator[str]:
    """The texts of a split, each whole, in the dataset's order; null is no text."""
    with _reading(hub, f"split {split}"):
        if builder.name == "parquet":
            tables = _parquet(builder.config.data_files[split], hub)
        else:
            tables = builder.as_streaming_dataset(split).with_format("arrow").iter(BATCH_DOCUMENTS)
        for table in tables:
            _check_column(table.schema, hub)
            yield from (text or "" for text in table[hub.text_column].to_pylist())


def _parquet(urls: list[str], hub: DataHub) -> Iterator[pa.RecordBatch]:
    """The texts of Parquet files, some at a time.

    The client opens them, but does not read them: it would hold a row group several times over, with threads
    that go on when enough is read, so that the process never ends (apache/arrow, issue 45214).
    """
    for url in urls:
        with xopen(url, "rb") as remote, pq.ParquetFile(remote) as file:
            _check_column(file.schema_arrow, hub)
            yield from file.iter_batches(BATCH_DOCUMENTS, columns=[hub.text_column], use_threads=False)


def _check_column(schema: pa.Schema, hub: DataHub) -> None:
    columns = {field.name: str(field.type) for field in schema}
    if columns.get(hub.text_column) not in ("string", "large_string"):
        found = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
        raise UserError(
            f"data.hub.text_column: {hub.name} has no column {hub.text_column!r} of strings; "
            f"its columns: {found}"
        )


def _count(builder: datasets.DatasetBuilder, split: str, most: int | None) -> int | None:
    """How many documents will be read of a split, where the dataset's card says how many it has."""
    splits = builder.info.splits or {}
    n = splits[split].num_examples if split in splits else None
    return min(n, most or n) if n else None


@contextmanager
def _reading(hub: DataHub, what: str) -> Iterator[None]:
    """What goes wrong with a dataset is a UserError: the libraries below raise anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"data.hub: {hub.name}: {what} could not be read ({_line(error)}); nothing was kept"
        ) from None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or repr(error)).splitlines()[0]}"
