"""Train or load the tokenizer and encode a corpus to bins, on all CPU cores and in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from slm.core.errors import UserError
from slm.core.files import atomic_write
from slm.core.progress import Progress
from slm.data.documents import estimate_bytes, read_documents
from slm.tokenizer.bins import SPLITS, SplitMeta, TokensMeta, bin_dtype, write_meta
from slm.tokenizer.params import TokenizerParams
from slm.tokenizer.tokenizer import END_OF_TEXT, end_of_text_id, gpt2, tiktoken_encoding, train_bpe

# Text that one thread encodes at a time.
BATCH_CHARACTERS = 1 << 20
# Text that a tokenizer is trained on.
SAMPLE_BYTES = 100_000_000
SAMPLE_SEED = 0
# The unit of the sample. Not a document, because one may be as long as the corpus.
PASSAGE_CHARACTERS = 100_000

# A function from texts to their token ids, with the id of END_OF_TEXT after each text; shape (N,).
Encoder = Callable[[list[str]], np.ndarray]


def write_bins(corpus: Path, tokens: Path, tokenizer_file: Path, params: TokenizerParams) -> None:
    """Train or load the tokenizer and encode both splits: all files are written, or none."""
    if params.type == "gpt2":
        tokenizer = gpt2()
    else:
        tokenizer = train_bpe(sample_texts(corpus / "train.parquet"), params.vocab_size)
    encoder = make_encoder(tokenizer)
    vocab_size = tokenizer.get_vocab_size()
    dtype = bin_dtype(vocab_size)

    with ExitStack() as files:
        splits = {}
        for split in SPLITS:
            path = files.enter_context(atomic_write(tokens / f"{split}.bin"))
            splits[split] = write_bin(corpus / f"{split}.parquet", path, encoder, dtype)
        path = files.enter_context(atomic_write(tokenizer_file))
        path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="\n")
        end_of_text = end_of_text_id(tokenizer)
        sizes = {"vocab_size": vocab_size, "end_of_text": end_of_text, "dtype": dtype.name}
        meta = TokensMeta.model_validate(sizes | splits)
        # Inside the block: if the metadata cannot be written, the other files are not replaced either.
        write_meta(tokens, meta)


def sample_texts(parquet: Path) -> Iterator[str]:
    """Sample passages of about SAMPLE_BYTES in total from a corpus file, or yield all of a smaller one.

    More text hardly changes the vocabulary, but training on it takes more memory.
    """
    n_bytes = estimate_bytes(parquet)
    fraction = SAMPLE_BYTES / max(n_bytes, 1)
    random = Random(SAMPLE_SEED)
    with Progress("training the tokenizer", n_bytes, "B") as progress:
        for texts in read_documents(parquet):
            for text in texts:
                for start in range(0, len(text), PASSAGE_CHARACTERS):
                    if random.random() < fraction:
                        yield text[start : start + PASSAGE_CHARACTERS]
            progress.advance(sum(len(text.encode()) for text in texts))


def write_bin(parquet: Path, path: Path, encoder: Encoder, dtype: np.dtype) -> SplitMeta:
    """Encode the documents of a corpus file in order and write their ids to a file."""
    n_tokens = n_documents = n_bytes = 0
    with (
        Progress(f"tokenizing {parquet.stem}", estimate_bytes(parquet), "B") as progress,
        path.open("wb") as file,
    ):
        for texts, ids in _encode_in_threads(read_documents(parquet), encoder):
            file.write(ids.astype(dtype).data)
            batch_bytes = sum(len(text.encode()) for text in texts)
            n_tokens += len(ids)
            n_documents += len(texts)
            n_bytes += batch_bytes
            progress.advance(batch_bytes)
    if not n_documents:
        raise UserError(f"{parquet}: no documents")
    return SplitMeta(tokens=n_tokens, documents=n_documents, bytes=n_bytes)


def make_encoder(tokenizer: Tokenizer) -> Encoder:
    """Return a function that encodes with tiktoken or, if it cannot, with `tokenizers`.

    Both give the same ids, and both release the GIL.
    """
    encoding, end_of_text = tiktoken_encoding(tokenizer), end_of_text_id(tokenizer)

    def encode(texts: list[str]) -> np.ndarray:
        # Encode all texts as one string, unless one contains END_OF_TEXT as ordinary characters.
        joined = END_OF_TEXT.join([*texts, ""])
        if joined.count(END_OF_TEXT) == len(texts):
            # tiktoken fails on very long runs of spaces, such as a million.
            with suppress(ValueError):
                return encoding.encode_to_numpy(joined, allowed_special={END_OF_TEXT})
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return np.fromiter(chain.from_iterable((*e.ids, end_of_text) for e in encodings), dtype=np.uint32)

    return encode


def _encode_in_threads(
    batches: Iterable[list[str]], encoder: Encoder
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Encode batches in threads. Yield texts and their ids in order; memory is bounded by the queue."""
    n_threads = os.cpu_count() or 1
    queue: deque[tuple[list[str], Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        for texts in _rebatch(batches):
            queue.append((texts, threads.submit(encoder, texts)))
            if len(queue) > 2 * n_threads:
                texts, ids = queue.popleft()
                yield texts, ids.result()
        for texts, ids in queue:
            yield texts, ids.result()


def _rebatch(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """Yield the same texts in lists of about BATCH_CHARACTERS."""
    texts: list[str] = []
    n_characters = 0
    for text in chain.from_iterable(batches):
        texts.append(text)
        n_characters += len(text)
        if n_characters >= BATCH_CHARACTERS:
            yield texts
            texts, n_characters = [], 0
    if texts:
        yield texts
