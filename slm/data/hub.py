"""Stream datasets of the Hugging Face Hub: only the documents that are read are downloaded."""

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

TIMEOUT_SECONDS = 10
# Small, because documents may be long.
BATCH_DOCUMENTS = 64
OFFLINE_HINT = "data.source synthetic and files need no network"

huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
# The export is another service than the Hub, and not needed.
datasets.config.USE_PARQUET_EXPORT = False
# The UserErrors of this module replace its log messages.
datasets.logging.set_verbosity(datasets.logging.CRITICAL)
# One retry takes half a minute, because the underlying client retries too.
datasets.config.STREAMING_READ_MAX_RETRIES = 1


def open_hub(params: DataParams) -> tuple[Iterator[Document], dict[str, Any], int | None]:
    """Return the documents of `data.hub`, up to the limits of the params, their origin and their number.

    The number is None if the dataset does not state it. Raises UserError, now or while the documents are
    read, if the Hub cannot be reached or does not have the dataset, revision, config, split or column.
    """
    hub = params.hub
    commit, license = _dataset_info(hub)
    origin = {"source": "hub", **hub.model_dump(), "commit": commit, "license": license}
    builder = _load_builder(hub, commit)
    texts = islice(_read_texts(builder, hub.train_split, hub), params.max_documents)
    total = _count_documents(builder, hub.train_split, params.max_documents)
    if hub.validation_split is None:
        return hold_out(texts, params.validation_fraction, params.seed), origin, total
    validation = islice(_read_texts(builder, hub.validation_split, hub), params.max_validation_documents)
    n_validation = _count_documents(builder, hub.validation_split, params.max_validation_documents)
    total = total + n_validation if total and n_validation else None
    return _label_documents(texts, validation), origin, total


def read_split(hub: DataHub, split: str) -> Iterator[str]:
    """Yield the texts of one split of a dataset. Raises UserError as `open_hub` does."""
    commit, _ = _dataset_info(hub)
    return _read_texts(_load_builder(hub, commit), split, hub)


def _dataset_info(hub: DataHub) -> tuple[str, str]:
    """Return the commit of the revision and the license of the dataset."""
    endpoint = datasets.config.HF_ENDPOINT
    try:
        info = huggingface_hub.HfApi().dataset_info(hub.name, revision=hub.revision, timeout=TIMEOUT_SECONDS)
    except OfflineModeIsEnabled:
        raise UserError(
            f"data.hub: HF_HUB_OFFLINE is set, so {endpoint} cannot be reached; {OFFLINE_HINT}"
        ) from None
    except GatedRepoError:
        raise UserError(
            f"data.hub.name: {hub.name} is gated: accept its terms on the Hub, then set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"data.hub.name: {endpoint} has no dataset {hub.name}, or HF_TOKEN gives no access"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"data.hub.revision: {hub.name} has no branch, tag or commit {hub.revision!r}"
        ) from None
    except HfHubHTTPError as error:
        raise UserError(f"data.hub: {endpoint} answered with an error ({_first_line(error)})") from None
    # Errors of sockets, TLS and HTTP come from several libraries.
    except Exception as error:
        raise UserError(
            f"data.hub: {endpoint} could not be reached ({_first_line(error)}); {OFFLINE_HINT}"
        ) from None
    card: Any = info.card_data or {}
    return str(info.sha), card.get("license") or "not stated"


def _load_builder(hub: DataHub, commit: str) -> datasets.DatasetBuilder:
    """Return the builder of the dataset. Raises UserError if it lacks the config or a split."""
    with _convert_errors(hub, "its files"):
        configs: list[Any] = [None]
        if hub.config:
            configs = datasets.get_dataset_config_names(hub.name, revision=commit)
        if hub.config not in configs:
            names = ", ".join(configs)
            raise UserError(
                f"data.hub.config: {hub.name} has no config {hub.config!r}; must be one of {names}"
            )
        builder = datasets.load_dataset_builder(hub.name, hub.config, revision=commit)
    splits = [str(split) for split in builder.config.data_files]
    _check_split("train_split", hub, splits)
    if hub.validation_split is not None:
        _check_split("validation_split", hub, [*splits, "null (hold out a fraction of train_split)"])
    return builder


def _check_split(key: str, hub: DataHub, allowed: list[str]) -> None:
    """Raise UserError unless a param names one of the splits."""
    if (split := getattr(hub, key)) not in allowed:
        raise UserError(
            f"data.hub.{key}: {hub.name} has no split {split!r}; must be one of {', '.join(allowed)}"
        )


def _label_documents(train: Iterator[str], validation: Iterator[str]) -> Iterator[Document]:
    yield from (Document("train", text) for text in train)
    yield from (Document("validation", text) for text in validation)


def _read_texts(builder: datasets.DatasetBuilder, split: str, hub: DataHub) -> Iterator[str]:
    """Yield the texts of a split in the dataset's order; null becomes an empty text."""
    with _convert_errors(hub, f"split {split}"):
        if builder.name == "parquet":
            batches = _read_parquet(builder.config.data_files[split], hub)
        else:
            batches = builder.as_streaming_dataset(split).with_format("arrow").iter(BATCH_DOCUMENTS)
        for batch in batches:
            _check_column(batch.schema, hub)
            yield from (text or "" for text in batch[hub.text_column].to_pylist())


def _read_parquet(urls: list[str], hub: DataHub) -> Iterator[pa.RecordBatch]:
    """Yield the texts of Parquet files in batches.

    `datasets` opens the files, but pyarrow reads them: `datasets` would hold several copies of a row group,
    and its threads continue after the last document that is needed, so that the process never exits
    (apache/arrow, issue 45214).
    """
    for url in urls:
        with xopen(url, "rb") as remote, pq.ParquetFile(remote) as file:
            _check_column(file.schema_arrow, hub)
            yield from file.iter_batches(BATCH_DOCUMENTS, columns=[hub.text_column], use_threads=False)


def _check_column(schema: pa.Schema, hub: DataHub) -> None:
    """Raise UserError unless `data.hub.text_column` is a column of strings."""
    columns = {field.name: str(field.type) for field in schema}
    if columns.get(hub.text_column) not in ("string", "large_string"):
        names = ", ".join(f"{name} ({type_name})" for name, type_name in columns.items())
        raise UserError(
            f"data.hub.text_column: {hub.name} must have a column {hub.text_column!r} of strings, got {names}"
        )


def _count_documents(builder: datasets.DatasetBuilder, split: str, limit: int | None) -> int | None:
    """Return how many documents of a split will be read, or None if the dataset's card has no counts."""
    splits = builder.info.splits or {}
    n = splits[split].num_examples if split in splits else None
    return min(n, limit or n) if n else None


@contextmanager
def _convert_errors(hub: DataHub, part: str) -> Iterator[None]:
    """Re-raise errors of reading a dataset, which can be of any type, as UserErrors."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"data.hub: {hub.name}: {part} could not be read ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or repr(error)).splitlines()[0]}"
