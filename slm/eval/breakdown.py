"""Confidence interval of bits per byte; loss by context length and by token frequency.

Shapes: N tokens in the text, D documents, B windows per batch, L tokens per window, V = vocab_size.
"""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from slm.core.errors import UserError
from slm.core.progress import Progress
from slm.data.documents import read_documents
from slm.data.statistics import Z_95, ratio_standard_error
from slm.eval.perplexity import windows
from slm.model.gpt import GPT
from slm.results.eval import FrequencyLoss, PositionLoss
from slm.tokenizer.bins import SplitMeta

# `by_position` predicts at most this many tokens.
POSITION_TOKENS = 500_000
# Tokens that are counted at a time, to bound memory.
CHUNK = 1 << 20


def document_bytes(parquet: Path, expected: SplitMeta) -> np.ndarray:
    """Return the UTF-8 bytes of each document of a corpus file: (D,).

    Raises UserError if the tokens were made from other documents.
    """
    sizes = [len(text.encode()) for texts in read_documents(parquet) for text in texts]
    if (len(sizes), sum(sizes)) != (expected.documents, expected.bytes):
        raise UserError(
            f"{parquet}: must have {expected.documents} documents of {expected.bytes} bytes, "
            f"as when it was tokenized, got {len(sizes)} of {sum(sizes)}"
        )
    return np.array(sizes)


def bits_per_byte_ci95(
    losses: np.ndarray, tokens: np.ndarray, end_of_text: int, n_bytes: np.ndarray
) -> list[float] | None:
    """Return the 95 % confidence interval [low, high] of bits per byte, None for a single document.

    It covers the choice of documents: how the value would vary with as many others from the same source. It
    does not cover the training seed. The sampled units are documents, since tokens of one document are
    correlated. Bits per byte is a ratio of their total bits to their total bytes (`n_bytes`: (D,)). With few
    documents the interval is too narrow. Raises UserError if the tokens are of other documents.
    """
    n_documents, total = len(n_bytes), n_bytes.sum()
    if n_documents < 2:
        return None
    ends = np.flatnonzero(tokens == end_of_text)
    if len(ends) != n_documents:
        raise UserError(
            f"the tokens must be of {n_documents} documents, got {len(ends)}; run `dvc repro` again"
        )
    bits = np.add.reduceat(losses, np.append(0, ends[:-1] + 1), dtype=np.float64) / math.log(2)  # (D,)
    ratio = bits.sum() / total
    sum_of_squares = np.square(bits - ratio * n_bytes).sum()
    margin = Z_95 * ratio_standard_error(sum_of_squares, total, n_documents)
    return [float(ratio - margin), float(ratio + margin)]


@torch.inference_mode()
def by_position(model: GPT, tokens: np.ndarray, end_of_text: int, batch_size: int) -> list[PositionLoss]:
    """Return the mean loss by tokens of context: 1, 2, 3–4, 5–8 and so on, split at block_size.

    Windows without any context before them are spread evenly over the text, POSITION_TOKENS in all at most.
    For a rope model, which accepts any length, they are twice block_size long: no window was that long in
    training, although each layer still attends to block_size tokens only.
    """
    block_size = model.params.block_size
    longest = block_size if model.params.architecture == "gpt2" else 2 * block_size
    length = min(longest, len(tokens))
    n_windows = min(math.ceil(len(tokens) / length), max(1, POSITION_TOKENS // length))
    starts = np.linspace(0, len(tokens) - length, n_windows).astype(np.int64)
    # Use as much memory for logits as `token_losses` does.
    windows_per_batch = max(1, batch_size * block_size // (4 * length))
    totals = np.zeros(length)  # (L,) nats
    with Progress("loss by position", n_windows * length, "tok") as progress:
        for batch in np.split(starts, range(windows_per_batch, n_windows, windows_per_batch)):
            inputs, targets = windows(tokens, batch, length, end_of_text, model.device)
            losses = model.loss(inputs, targets, reduction="none")
            totals += losses.cpu().numpy().sum(axis=0, dtype=np.float64)
            progress.advance(inputs.numel())

    ends = {min(n, length) for n in [block_size, *(1 << k for k in range(length.bit_length() + 1))]}
    rows, start = [], 0
    for end in sorted(ends):
        n = (end - start) * n_windows
        context: Literal["in_context", "extrapolated"] = "in_context" if end <= block_size else "extrapolated"
        loss = float(totals[start:end].sum()) / n
        rows.append(PositionLoss(position=end, context=context, loss=loss, tokens=n))
        start = end
    return rows


def by_frequency(losses: np.ndarray, tokens: np.ndarray, train_counts: np.ndarray) -> list[FrequencyLoss]:
    """Return the mean loss by occurrences of the token in training (V,): 0, 1, 2–3, 4–7 and so on."""
    vocab_size = len(train_counts)
    totals = np.zeros(vocab_size)  # (V,) nats
    for start in range(0, len(tokens), CHUNK):
        part = slice(start, start + CHUNK)
        totals += np.bincount(tokens[part], weights=losses[part], minlength=vocab_size)
    counts = count_tokens(tokens, vocab_size)

    # Counts from 2ᵏ⁻¹ to 2ᵏ − 1 have k bits, and 0 has none.
    n_bits = np.frexp(train_counts.astype(np.float64))[1]
    rows = []
    for n in np.unique(n_bits[counts > 0]).tolist():
        in_bin = (n_bits == n) & (counts > 0)  # (V,)
        n_tokens = int(counts[in_bin].sum())
        loss = float(totals[in_bin].sum()) / n_tokens
        types = int(in_bin.sum())
        rows.append(FrequencyLoss(train_frequency=(1 << n) >> 1, loss=loss, tokens=n_tokens, types=types))
    return rows


def count_tokens(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return the number of occurrences of each token of the vocabulary: (V,)."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), CHUNK):
        counts += np.bincount(tokens[start : start + CHUNK], minlength=vocab_size)
    return counts
