"""What a mean loss is made of: documents that differ, contexts short and long, tokens rare and frequent.

Shapes: N tokens in the text, D documents, B windows at a time, L tokens in each, V = vocab_size.
"""

import math
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch

from slm.core.errors import UserError
from slm.core.progress import Progress
from slm.data.documents import read_documents
from slm.eval.perplexity import windows
from slm.model.gpt import GPT, cross_entropy
from slm.results.eval import FrequencyLoss, PositionLoss
from slm.tokenizer.bins import SplitMeta

NORMAL_95 = NormalDist().inv_cdf(0.975)  # standard errors to each side that hold 95 %
POSITION_TOKENS = 500_000  # predicted at most, to tell positions apart
CHUNK = 1 << 20  # tokens looked at at a time


def document_bytes(parquet: Path, expected: SplitMeta) -> np.ndarray:
    """The bytes of UTF-8 of each document of a corpus file: (D,).

    Raises UserError if these are not the documents that the tokens were made of.
    """
    sizes = [len(text.encode()) for texts in read_documents(parquet) for text in texts]
    if (len(sizes), sum(sizes)) != (expected.documents, expected.bytes):
        found = f"{len(sizes)} documents of {sum(sizes)} bytes found"
        raise UserError(f"{parquet}: {found}, the tokens are of {expected.documents} of {expected.bytes}")
    return np.array(sizes)


def bits_per_byte_ci95(
    losses: np.ndarray, tokens: np.ndarray, end_of_text: int, n_bytes: np.ndarray
) -> list[float] | None:
    """The 95 % confidence interval [low, high] of bits per byte; None of a single document.

    It says how much the figure would differ on other documents from the same source, as many and as long; not
    how much it would with another seed of the training. What is drawn are documents, whose tokens hang
    together. Bits per byte is the ratio R = Σx / Σy of their bits x and bytes y (`n_bytes`: (D,)), with a
    standard error of √(D/(D−1) · Σ(x − Ry)²) / Σy, by the delta method (Cochran 1977, Sampling Techniques,
    chapter 6). With few documents the interval is too narrow. Raises UserError if the tokens are of others.
    """
    n_documents, total = len(n_bytes), n_bytes.sum()
    if n_documents < 2:
        return None
    ends = np.flatnonzero(tokens == end_of_text)
    if len(ends) != n_documents:
        raise UserError(
            f"{n_documents} documents found, but {len(ends)} in their tokens; run dvc repro again"
        )
    bits = np.add.reduceat(losses, np.append(0, ends[:-1] + 1), dtype=np.float64) / math.log(2)  # (D,)
    ratio = bits.sum() / total
    squares = np.square(bits - ratio * n_bytes).sum()
    margin = NORMAL_95 * math.sqrt(squares * n_documents / (n_documents - 1)) / total
    return [float(ratio - margin), float(ratio + margin)]


@torch.inference_mode()
def by_position(model: GPT, tokens: np.ndarray, end_of_text: int, batch_size: int) -> list[PositionLoss]:
    """The mean loss by how many tokens of context there are: 1, 2, 3–4, 5–8 and so on, and up to block_size.

    Windows that know nothing of what lies before them are spread evenly over the text; they cover a text of
    up to POSITION_TOKENS tokens. A modern model, which goes on past block_size, has windows twice as long;
    each of its layers looks back block_size tokens there too, but in training no window was that long.
    """
    block_size = model.params.block_size
    longest = block_size if model.params.architecture == "gpt2" else 2 * block_size
    length = min(longest, len(tokens))
    n_windows = min(math.ceil(len(tokens) / length), max(1, POSITION_TOKENS // length))
    starts = np.linspace(0, len(tokens) - length, n_windows).astype(np.int64)
    n_rows = max(1, batch_size * block_size // (4 * length))  # with as many logits as `token_losses` has
    totals = np.zeros(length)  # of each position, nats
    with Progress("loss by position", n_windows * length, "tok") as progress:
        for batch in np.split(starts, range(n_rows, n_windows, n_rows)):
            inputs, targets = windows(tokens, batch, length, end_of_text, model.device)
            losses = cross_entropy(model(inputs), targets, reduction="none").view(inputs.shape)
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
    """The mean loss by how often a token occurs in training (V,): 0 times, 1, 2–3, 4–7 and so on."""
    vocab_size = len(train_counts)
    totals = np.zeros(vocab_size)  # of each token of the vocabulary, nats
    for start in range(0, len(tokens), CHUNK):
        part = slice(start, start + CHUNK)
        totals += np.bincount(tokens[part], weights=losses[part], minlength=vocab_size)
    counts = count_tokens(tokens, vocab_size)

    n_bits = np.frexp(train_counts.astype(np.float64))[1]  # of the count as a binary number
    rows = []
    for n in np.unique(n_bits[counts > 0]).tolist():
        found = (n_bits == n) & (counts > 0)
        n_tokens = int(counts[found].sum())
        loss = float(totals[found].sum()) / n_tokens
        types = int(found.sum())
        rows.append(FrequencyLoss(train_frequency=(1 << n) >> 1, loss=loss, tokens=n_tokens, types=types))
    return rows


def count_tokens(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """How often each token of the vocabulary occurs: (V,)."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), CHUNK):
        counts += np.bincount(tokens[start : start + CHUNK], minlength=vocab_size)
    return counts
