"""From a corpus to bins: make the tokenizer, then encode every document, on all cores, in bounded memory."""

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

BATCH_CHARACTERS = 1 << 20  # encoded at a time by one thread
SAMPLE_BYTES = 100_000_000  # of text that a tokenizer is trained on
SAMPLE_SEED = 0
PASSAGE_CHARACTERS = 100_000  # drawn or left out at a time: a document may be as long as the whole corpus

Encoder = Callable[[list[str]], np.ndarray]  # texts to their ids, each text's followed by END_OF_TEXT's


def write_bins(corpus: Path, tokens: Path, tokenizer_file: Path, params: TokenizerParams) -> None:
    """Make the tokenizer and encode both splits of the corpus: all files whole, or none."""
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
        write_meta(tokens, meta)  # if this fails, the others stay out too


def sample_texts(parquet: Path) -> Iterator[str]:
    """About SAMPLE_BYTES of a corpus file's texts, in passages drawn by a seed; all if it is smaller.

    A vocabulary changes little after so much text, but the memory that its training takes goes on growing.
    """
    n_bytes = estimate_bytes(parquet)
    share = SAMPLE_BYTES / max(n_bytes, 1)
    random = Random(SAMPLE_SEED)
    with Progress("training the tokenizer", n_bytes, "B") as progress:
        for texts in read_documents(parquet):
            for text in texts:
                for start in range(0, len(text), PASSAGE_CHARACTERS):
                    if random.random() < share:
                        yield text[start : start + PASSAGE_CHARACTERS]
            progress.advance(sum(len(text.encode()) for text in texts))


def write_bin(parquet: Path, path: Path, encoder: Encoder, dtype: np.dtype) -> SplitMeta:
    """Encode the texts of a corpus file on all cores, in order, and write their ids to a file."""
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
    """Encode with tiktoken, many texts as one string, or with `tokenizers` where tiktoken cannot.

    Both give the same ids, and let other threads run meanwhile.
    """
    encoding, end_of_text = tiktoken_encoding(tokenizer), end_of_text_id(tokenizer)

    def encode(texts: list[str]) -> np.ndarray:
        joined = END_OF_TEXT.join([*texts, ""])
        if joined.count(END_OF_TEXT) == len(texts):  # else a text holds it itself, as ordinary characters
            with suppress(ValueError):  # of a million spaces in a row, which are too many for tiktoken
                return encoding.encode_to_numpy(joined, allowed_special={END_OF_TEXT})
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return np.fromiter(chain.from_iterable((*e.ids, end_of_text) for e in encodings), dtype=np.uint32)

    return encode


def _encode_in_threads(
    batches: Iterable[list[str]], encoder: Encoder
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Texts and their ids, in order, with a few batches on their way in threads."""
    n_threads = os.cpu_count() or 1
    waiting: deque[tuple[list[str], Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        for texts in _of_bounded_size(batches):
            waiting.append((texts, threads.submit(encoder, texts)))
            if len(waiting) > 2 * n_threads:
                texts, ids = waiting.popleft()
                yield texts, ids.result()
        for texts, ids in waiting:
            yield texts, ids.result()


def _of_bounded_size(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """The same texts in lists of about BATCH_CHARACTERS."""
    texts: list[str] = []
    size = 0
    for text in chain.from_iterable(batches):
        texts.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts
