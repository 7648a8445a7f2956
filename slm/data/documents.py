"""Write and read the corpus: a Parquet file of documents per split, and summary.json."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from slm.core.errors import UserError
from slm.core.files import atomic_write, convert_write_errors, write_json
from slm.data.statistics import ratio_standard_error

SCHEMA = pa.schema([pa.field("text", pa.string(), nullable=False)])
# Text per row group, unless a single document is longer.
ROW_GROUP_BYTES = 4 * 2**20
# A Parquet page holds less than 2 GiB.
MAX_DOCUMENT_BYTES = 2**30
BATCH_DOCUMENTS = 1024


class Document(NamedTuple):
    """A text of a split. `bits` is its −log₂ probability under the source, if the source knows it."""

    split: Literal["train", "validation"]
    text: str
    bits: float | None = None


def write_corpus(documents: Iterable[Document], folder: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Write `train.parquet`, `validation.parquet` and `summary.json` to the folder: all of them or none.

    The summary, which is also returned, has `origin`, which describes the source, and for each split the
    number of documents and of UTF-8 bytes. Documents of whitespace only are dropped and counted. Raises
    UserError if a split is empty.
    """
    n_empty = 0
    train_path, validation_path = folder / "train.parquet", folder / "validation.parquet"
    with atomic_write(train_path) as train_temporary, atomic_write(validation_path) as validation_temporary:
        with (
            _SplitWriter(train_path, train_temporary) as train,
            _SplitWriter(validation_path, validation_temporary) as validation,
        ):
            for split, text, bits in documents:
                if not text or text.isspace():
                    n_empty += 1
                else:
                    (train if split == "train" else validation).add(text.encode(), bits)
        if not (train.n_documents or validation.n_documents):
            raise UserError(f"no documents: all {n_empty} documents are empty")
        if not train.n_documents:
            raise UserError(
                "no training documents: raise data.max_documents or lower data.validation_fraction"
            )
        if not validation.n_documents:
            raise UserError("no validation documents: raise data.max_documents or data.validation_fraction")
        splits = {"train": train.summary(), "validation": validation.summary()}
        summary = {**origin, **splits, "empty_documents_dropped": n_empty}
        # Inside the block: if the summary cannot be written, the documents are not replaced either.
        write_json(folder / "summary.json", summary)
    return summary


def read_documents(path: Path) -> Iterator[list[str]]:
    """Yield the texts of a Parquet file in batches. Raises UserError if it is missing or corrupt."""
    with _open(path) as file:
        columns = [file.schema.column(i) for i in range(len(file.schema))]
        if ("text", "STRING") not in [(column.path, column.logical_type.type) for column in columns]:
            names = ", ".join(f"{field.name} ({field.type})" for field in file.schema_arrow)
            raise UserError(f"{path}: must have a column `text` of strings, got {names}")
        # Read one row group at a time, because a batch across several could be too large.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(BATCH_DOCUMENTS, row_groups=[group], columns=["text"]):
                yield [text or "" for text in batch.column("text").to_pylist()]


def estimate_bytes(path: Path) -> int:
    """Estimate the bytes of text in a corpus file from its metadata, to a few bytes per megabyte."""
    with _open(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        # Each text is stored after its length, which takes 4 bytes.
        return sum(group.total_byte_size - 4 * group.num_rows for group in groups)


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to read. Re-raise errors of opening and reading as UserErrors."""
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except PermissionError as error:
        raise UserError(f"{path}: could not be read: {error.strerror}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a valid Parquet file: {str(error).splitlines()[0]}") from None


class _SplitWriter:
    """A writer of a split to a temporary Parquet file, in constant memory, that also computes its summary."""

    def __init__(self, path: Path, temporary: Path):
        self._path = path
        with convert_write_errors(path):
            # Without a dictionary and statistics, which are useless for texts: they rarely repeat.
            self._writer = pq.ParquetWriter(
                temporary, SCHEMA, compression="zstd", use_dictionary=False, write_statistics=False
            )
        self._buffer: list[bytes] = []
        self._buffer_bytes = 0
        self.n_documents = self.n_bytes = 0
        # Sums over the documents of their bits, and of the products of their bits and bytes.
        self._bits = self._bits_bits = self._bits_bytes = self._bytes_bytes = 0.0

    def __enter__(self) -> "_SplitWriter":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        # After an error, the temporary file is deleted, so the rest need not be written.
        if error is None:
            self._flush()
        with convert_write_errors(self._path):
            self._writer.close()

    def add(self, text: bytes, bits: float | None) -> None:
        """Write a document. Raises UserError if it is too large for Parquet."""
        n_bytes = len(text)
        if n_bytes > MAX_DOCUMENT_BYTES:
            raise UserError(
                f"a document must have at most {MAX_DOCUMENT_BYTES:,} bytes, got {n_bytes:,}: split it"
            )
        if self._buffer_bytes + n_bytes > ROW_GROUP_BYTES:
            self._flush()
        self._buffer.append(text)
        self._buffer_bytes += n_bytes

        # A single unknown probability makes the sums NaN, and so the entropy unknown.
        bits = math.nan if bits is None else bits
        self.n_documents += 1
        self.n_bytes += n_bytes
        self._bits += bits
        self._bits_bits += bits * bits
        self._bits_bytes += bits * n_bytes
        self._bytes_bytes += n_bytes * n_bytes

    def _flush(self) -> None:
        """Write the buffered documents as a row group."""
        if self._buffer:
            batch = pa.record_batch([pa.array(self._buffer, pa.string())], schema=SCHEMA)
            with convert_write_errors(self._path):
                self._writer.write_batch(batch)
        self._buffer, self._buffer_bytes = [], 0

    def summary(self) -> dict[str, Any]:
        """Return the counts and, if the bits of all documents are known, the entropy.

        Bits per byte is the ratio R = Σx / Σy of the bits x and bytes y of the documents, which are the units
        of its standard error. This is not defined for a single document.
        """
        counts = {"documents": self.n_documents, "bytes": self.n_bytes}
        if math.isnan(self._bits) or self.n_documents < 2:
            return counts
        ratio = self._bits / self.n_bytes
        residuals = self._bits_bits - 2 * ratio * self._bits_bytes + ratio * ratio * self._bytes_bytes
        entropy = {
            "bits_per_document": self._bits / self.n_documents,
            "bits_per_byte": ratio,
            "standard_error": ratio_standard_error(max(0.0, residuals), self.n_bytes, self.n_documents),
        }
        return {**counts, "entropy": entropy}


def is_validation(text: str, fraction: float, seed: int) -> bool:
    """Return whether a text is held out, decided by its hash: equal texts are always in the same split."""
    digest = blake2b(text.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") / 2**64 < fraction


def hold_out(texts: Iterator[str], fraction: float, seed: int) -> Iterator[Document]:
    """Hold out a fraction of the documents or, if there is only one, the last fraction of it."""
    first = list(islice(texts, 2))
    if len(first) == 1:
        (text,) = first
        split_at = _split_position(text, fraction)
        yield Document("train", text[:split_at])
        yield Document("validation", text[split_at:])
        return
    for text in chain(first, texts):
        yield Document("validation" if is_validation(text, fraction, seed) else "train", text)


def _split_position(text: str, fraction: float) -> int:
    """Return where the last `fraction` of a text begins: at the start of a line if there is one nearby."""
    size = max(1, round(len(text) * fraction))
    position = len(text) - size
    line_before = text.rfind("\n", max(0, position - size), position) + 1
    line_after = text.find("\n", position) + 1
    return line_before or (line_after if text[line_after:].strip() else 0) or position
