"""From a corpus to bins: make the tokenizer, then encode every document, on all cores, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from slm.corpus.documents import read_documents
from slm.files import replacing
from slm.progress import Progress
from slm.tokens.bins import SPLITS, SplitMeta, TokensMeta, bin_dtype, write_meta
from slm.tokens.params import TokenizerParams
from slm.tokens.tokenizer import END_OF_TEXT, gpt2, gpt2_encoding, train_bpe

BATCH_BYTES = 1 << 20  # of text, encoded at a time by one thread

Encoder = Callable[[list[str]], np.ndarray]  # texts to their ids, each text's followed by END_OF_TEXT's


def write_bins(corpus: Path, tokens: Path, tokenizer_file: Path, params: TokenizerParams) -> None:
    """Make the tokenizer and encode both splits of the corpus: all files whole, or none."""
    if params.kind == "gpt2":
        tokenizer, encoder = gpt2(), gpt2_encoder()
    else:
        train_texts = read_documents(corpus / "train.parquet")
        tokenizer = train_bpe(_with_progress("training the tokenizer", train_texts), params.vocab_size)
        encoder = bpe_encoder(tokenizer)
    vocab_size = tokenizer.get_vocab_size()
    dtype = bin_dtype(vocab_size)

    with ExitStack() as files:
        splits = {}
        for split in SPLITS:
            path = files.enter_context(replacing(tokens / f"{split}.bin"))
            texts = read_documents(corpus / f"{split}.parquet")
            splits[split] = write_bin(texts, encoder, dtype, path, split)
        end_of_text = tokenizer.token_to_id(END_OF_TEXT)
        meta = TokensMeta(vocab_size, end_of_text, dtype.name, **splits)
        tokenizer.save(str(files.enter_context(replacing(tokenizer_file))))
        write_meta(tokens, meta)


def write_bin(
    batches: Iterable[list[str]], encoder: Encoder, dtype: np.dtype, path: Path, name: str
) -> SplitMeta:
    """Encode texts on all cores, in order and in bounded memory, and write their ids to a file."""
    n_tokens = n_documents = n_bytes = 0
    with Progress(f"tokenizing {name}", None, "B") as progress, path.open("wb") as file:
        for texts, ids in _encode_in_threads(batches, encoder):
            ids.astype(dtype).tofile(file)
            batch_bytes = sum(len(text.encode()) for text in texts)
            n_tokens, n_documents, n_bytes = (
                n_tokens + len(ids),
                n_documents + len(texts),
                n_bytes + batch_bytes,
            )
            progress.advance(batch_bytes)
    return SplitMeta(n_tokens, n_documents, n_bytes)


def gpt2_encoder() -> Encoder:
    """Encode with tiktoken, which takes many texts as one string and lets other threads run meanwhile."""
    encoding = gpt2_encoding()

    def encode(texts: list[str]) -> np.ndarray:
        joined = END_OF_TEXT.join([*texts, ""])
        if joined.count(END_OF_TEXT) == len(texts):
            return encoding.encode_to_numpy(joined, allowed_special={END_OF_TEXT})
        # A text holds the separator itself, as ordinary characters: one text at a time.
        return np.concatenate([[*encoding.encode_ordinary(text), encoding.eot_token] for text in texts])

    return encode


def bpe_encoder(tokenizer: Tokenizer) -> Encoder:
    """Encode with a trained tokenizer."""
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)

    def encode(texts: list[str]) -> np.ndarray:
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = chain.from_iterable((*encoding.ids, end_of_text) for encoding in encodings)
        return np.fromiter(ids, dtype=np.uint32)

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
    """The same texts in lists of about BATCH_BYTES characters."""
    texts: list[str] = []
    size = 0
    for text in chain.from_iterable(batches):
        texts.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def _with_progress(what: str, batches: Iterable[list[str]]) -> Iterator[str]:
    with Progress(what, None, "doc") as progress:
        for texts in batches:
            yield from texts
            progress.advance(len(texts))
