"""The corpus on disk: the documents of each split in a Parquet file, and a summary of them.
Which documents are kept from training, where the corpus does not say it.
"""

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
from slm.core.statistics import ratio_standard_error

SCHEMA = pa.schema([pa.field("text", pa.string(), nullable=False)])
ROW_GROUP_BYTES = 4 * 2**20  # of text, unless one document is longer
MAX_DOCUMENT_BYTES = 2**30  # a page of Parquet holds less than 2 GiB
BATCH_DOCUMENTS = 1024


class Document(NamedTuple):
    """A text, and its −log₂ probability under the source that drew it, where the source knows it."""

    split: Literal["train", "validation"]
    text: str
    bits: float | None = None


def write_corpus(documents: Iterable[Document], folder: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Write `train.parquet`, `validation.parquet` and `summary.json` to the folder: all, or none of them.

    The summary, which is also returned, says where the documents are from (`origin`) and how many documents
    and bytes of UTF-8 each split has. Documents of nothing but whitespace are dropped and counted. Raises
    UserError if a split stays empty.
    """
    n_empty = 0
    train_path, validation_path = folder / "train.parquet", folder / "validation.parquet"
    with atomic_write(train_path) as train_temporary, atomic_write(validation_path) as validation_temporary:
        with (
            _Split(train_path, train_temporary) as train,
            _Split(validation_path, validation_temporary) as validation,
        ):
            for split, text, bits in documents:
                if not text or text.isspace():
                    n_empty += 1
                else:
                    (train if split == "train" else validation).add(text.encode(), bits)
        if not (train.n or validation.n):
            raise UserError(f"no documents: all {n_empty} that were found are empty")
        if not train.n:
            raise UserError(
                "no documents to train on: raise data.max_documents or lower data.validation_fraction"
            )
        if not validation.n:
            raise UserError("no validation documents: raise data.max_documents or data.validation_fraction")
        splits = {"train": train.summary(), "validation": validation.summary()}
        summary = {**origin, **splits, "empty_documents_dropped": n_empty}
        write_json(folder / "summary.json", summary)  # if this fails, the documents stay out too
    return summary


def read_documents(path: Path) -> Iterator[list[str]]:
    """The texts of a Parquet file, some at a time. Raises UserError if it is missing or broken."""
    with _open(path) as file:
        columns = [file.schema.column(i) for i in range(len(file.schema))]
        if ("text", "STRING") not in [(column.path, column.logical_type.type) for column in columns]:
            found = ", ".join(f"{field.name} ({field.type})" for field in file.schema_arrow)
            raise UserError(f"{path}: no column `text` of strings; its columns: {found}")
        for group in range(file.num_row_groups):  # each on its own: a batch of several could be too large
            for batch in file.iter_batches(BATCH_DOCUMENTS, row_groups=[group], columns=["text"]):
                yield [text or "" for text in batch.column("text").to_pylist()]  # null is no text


def estimate_bytes(path: Path) -> int:
    """The bytes of text in a corpus file, to a few bytes a megabyte, without reading the texts."""
    with _open(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        return sum(group.total_byte_size - 4 * group.num_rows for group in groups)  # 4 hold a text's length


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to read; what is wrong with it, now or later, is a UserError."""
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except PermissionError as error:
        raise UserError(f"{path}: could not be read: {error.strerror}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole Parquet file: {str(error).splitlines()[0]}") from None


class _Split:
    """A Parquet file as it is written, in constant memory, to a temporary path."""

    def __init__(self, path: Path, temporary: Path):
        self._path = path
        with convert_write_errors(path):
            # Texts hardly repeat: a dictionary and the least and greatest of them would be for nothing.
            self._writer = pq.ParquetWriter(
                temporary, SCHEMA, compression="zstd", use_dictionary=False, write_statistics=False
            )
        self._texts: list[bytes] = []
        self._n_bytes_held = 0
        self.n = self.n_bytes = 0
        self.bits = self.bits_bits = self.bits_bytes = self.bytes_bytes = 0.0  # sums of products

    def __enter__(self) -> "_Split":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:  # else the file is dropped, and may be broken
            self._flush()
        with convert_write_errors(self._path):
            self._writer.close()

    def add(self, text: bytes, bits: float | None) -> None:
        n_bytes = len(text)
        if n_bytes > MAX_DOCUMENT_BYTES:
            raise UserError(
                f"a document must have at most {MAX_DOCUMENT_BYTES:,} bytes, got {n_bytes:,}: split it"
            )
        if self._n_bytes_held + n_bytes > ROW_GROUP_BYTES:
            self._flush()
        self._texts.append(text)
        self._n_bytes_held += n_bytes

        bits = math.nan if bits is None else bits  # one unknown makes the sums unknown
        self.n += 1
        self.n_bytes += n_bytes
        self.bits += bits
        self.bits_bits += bits * bits
        self.bits_bytes += bits * n_bytes
        self.bytes_bytes += n_bytes * n_bytes

    def _flush(self) -> None:
        if self._texts:
            batch = pa.record_batch([pa.array(self._texts, pa.string())], schema=SCHEMA)
            with convert_write_errors(self._path):
                self._writer.write_batch(batch)
        self._texts, self._n_bytes_held = [], 0

    def summary(self) -> dict[str, Any]:
        """Counts, and the entropy where every document's bits are known.

        Bits per byte is the ratio R = Σx / Σy of the documents' bits x and bytes y; documents are the
        units of its standard error.
        """
        counts = {"documents": self.n, "bytes": self.n_bytes}
        if math.isnan(self.bits) or self.n < 2:  # one document does not say how much they differ
            return counts
        ratio = self.bits / self.n_bytes
        residuals = self.bits_bits - 2 * ratio * self.bits_bytes + ratio * ratio * self.bytes_bytes
        entropy = {
            "bits_per_document": self.bits / self.n,
            "bits_per_byte": ratio,
            "standard_error": ratio_standard_error(max(0.0, residuals), self.n_bytes, self.n),
        }
        return {**counts, "entropy": entropy}


def is_validation(text: str, fraction: float, seed: int) -> bool:
    """Whether a text is held out: a hash decides, so that equal texts always fall into the same split."""
    digest = blake2b(text.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") / 2**64 < fraction


def hold_out(texts: Iterator[str], fraction: float, seed: int) -> Iterator[Document]:
    """Hold out a fraction of the documents, each whole, or the end of the only one."""
    first = list(islice(texts, 2))
    if len(first) == 1:
        (text,) = first
        cut = _place_to_cut(text, fraction)
        yield Document("train", text[:cut])
        yield Document("validation", text[cut:])
        return
    for text in chain(first, texts):
        yield Document("validation" if is_validation(text, fraction, seed) else "train", text)


def _place_to_cut(text: str, fraction: float) -> int:
    """Where the last `fraction` of a text begins: at a line, if one begins near."""
    size = max(1, round(len(text) * fraction))
    cut = len(text) - size
    before = text.rfind("\n", max(0, cut - size), cut) + 1
    after = text.find("\n", cut) + 1
    return before or (after if text[after:].strip() else 0) or cut
