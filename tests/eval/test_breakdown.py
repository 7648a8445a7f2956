"""Interval and breakdown of the loss, compared with resampling, single prefixes and sums by hand."""

import math
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slm.core.errors import UserError
from slm.eval import breakdown
from slm.eval.breakdown import (
    bits_per_byte_ci95,
    by_frequency,
    by_position,
    count_tokens,
    document_bytes,
)
from slm.eval.perplexity import summarize_losses
from slm.model.gpt import new_gpt
from slm.tokenizer.bins import SplitMeta
from tests.tiny import model_params, shaken

VOCAB, BLOCK, END = 11, 8, 10


def documents(n, seed=0):
    """Return losses and tokens of documents of varied length and difficulty, and the bytes of each."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 60, size=n)
    losses = np.concatenate([random.gamma(2, random.gamma(4), size=length) for length in lengths])
    tokens = random.integers(END, size=lengths.sum())
    tokens[lengths.cumsum() - 1] = END
    return losses.astype(np.float32), tokens.astype(np.uint16), lengths * 3 + random.integers(5, size=n)


def test_ci95_matches_bootstrap_over_documents():
    losses, tokens, n_bytes = documents(400)
    low, high = bits_per_byte_ci95(losses, tokens, END, n_bytes)
    documents_losses = np.split(losses.astype(np.float64), np.flatnonzero(tokens == END)[:-1] + 1)
    bits = np.array([losses.sum() for losses in documents_losses]) / math.log(2)
    resampled = np.random.default_rng(1).integers(400, size=(10_000, 400))
    ratios = bits[resampled].sum(axis=1) / n_bytes[resampled].sum(axis=1)
    expected = np.percentile(ratios, [2.5, 97.5])
    assert [low, high] == pytest.approx(expected, abs=0.08 * (high - low))


def test_ci95_of_two_documents_matches_the_formula():
    losses, tokens = np.array([1, 2, 3, 4], np.float32), np.array([0, END, 0, END])
    low, high = bits_per_byte_ci95(losses, tokens, END, np.array([5, 6]))
    x, y = np.array([3, 7]) / math.log(2), np.array([5, 6])
    ratio = x.sum() / 11
    error = math.sqrt(2 / 1 * ((x[0] - ratio * y[0]) ** 2 + (x[1] - ratio * y[1]) ** 2)) / 11
    assert (low, high) == pytest.approx((ratio - 1.96 * error, ratio + 1.96 * error), rel=1e-4)


def test_ci95_is_centered_on_bits_per_byte():
    losses, tokens, n_bytes = documents(50)
    low, high = bits_per_byte_ci95(losses, tokens, END, n_bytes)
    assert low < high
    assert (low + high) / 2 == pytest.approx(summarize_losses(losses, n_bytes.sum())["bits_per_byte"])


def test_ci95_of_one_document_is_none():
    assert bits_per_byte_ci95(*documents(1)[:2], END, documents(1)[2]) is None


def test_ci95_rejects_tokens_of_other_documents():
    losses, tokens, n_bytes = documents(5)
    with pytest.raises(UserError, match=r"^the tokens must be of 4 documents, got 5; run `dvc repro`"):
        bits_per_byte_ci95(losses, tokens, END, n_bytes[:4])


def test_document_bytes_are_utf_8(tmp_path):
    path = tmp_path / "validation.parquet"
    pq.write_table(pa.table({"text": ["naïve", "日本", "<|endoftext|>"]}), path)
    n_bytes = document_bytes(path, SplitMeta(tokens=9, documents=3, bytes=25))
    assert n_bytes.tolist() == [6, 6, 13]


@pytest.mark.parametrize(("n_documents", "n_bytes"), [(2, 6), (3, 7)])
def test_document_bytes_rejects_other_documents(tmp_path, n_documents, n_bytes):
    path = tmp_path / "validation.parquet"
    pq.write_table(pa.table({"text": ["abc", "d", "ef"]}), path)
    line = f"must have {n_documents} documents of {n_bytes} bytes, as when it was tokenized, got 3 of 6"
    with pytest.raises(UserError, match=f"^{path}: {line}$"):
        document_bytes(path, SplitMeta(tokens=9, documents=n_documents, bytes=n_bytes))


def random_model(architecture):
    return shaken(VOCAB, architecture=architecture).double()


def text(n):
    return np.random.default_rng(n).integers(VOCAB, size=n).astype(np.uint16)


@torch.inference_mode()
def losses_of_prefixes(model, tokens, starts, length):
    """Return the losses after n = 1, 2, … tokens of each window, each computed from its prefix alone."""
    inputs, losses = [END, *tokens.tolist()], defaultdict(list)
    for start in starts:
        for n in range(1, length + 1):
            logits = model(torch.tensor([inputs[start : start + n]]))[0, -1]
            losses[n].append(-logits.log_softmax(-1)[int(tokens[start + n - 1])].item())
    return losses


@pytest.mark.parametrize(
    ("architecture", "n", "ends"),
    [
        ("gpt2", 24, [1, 2, 4, 8]),
        ("gpt2", 5, [1, 2, 4, 5]),
        ("rope", 48, [1, 2, 4, 8, 16]),
        ("rope", 12, [1, 2, 4, 8, 12]),
        ("rope", 1, [1]),
    ],
)
def test_by_position_matches_losses_of_prefixes(architecture, n, ends):
    model, tokens = random_model(architecture), text(n)
    length = ends[-1]
    expected = losses_of_prefixes(model, tokens, range(0, n, length), length)
    rows = by_position(model, tokens, END, batch_size=8)
    assert [row.position for row in rows] == ends
    assert [row.context for row in rows] == ["in_context" if end <= BLOCK else "extrapolated" for end in ends]
    for start, row in zip([0, *ends], rows, strict=False):
        losses = [loss for n in range(start + 1, row.position + 1) for loss in expected[n]]
        assert row.tokens == len(losses)
        assert row.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_by_position_splits_at_block_size():
    torch.manual_seed(0)
    model = new_gpt(model_params(architecture="rope", block_size=6), VOCAB).eval()
    rows = by_position(model, text(24), END, batch_size=1)
    assert [(row.position, row.context) for row in rows] == [
        *[(1, "in_context"), (2, "in_context"), (4, "in_context"), (6, "in_context")],
        *[(8, "extrapolated"), (12, "extrapolated")],
    ]


def test_by_position_covers_the_end_of_the_text():
    model, tokens = random_model("gpt2"), text(21)
    rows = by_position(model, tokens, END, batch_size=8)
    expected = losses_of_prefixes(model, tokens, [0, 6, 13], BLOCK)
    assert [row.tokens for row in rows] == [3, 3, 6, 12]
    assert rows[0].loss == pytest.approx(np.mean(expected[1]), rel=1e-5)


def test_by_position_spreads_windows_over_a_long_text(monkeypatch):
    monkeypatch.setattr(breakdown, "POSITION_TOKENS", 4 * BLOCK - 1)
    model, tokens = random_model("gpt2"), text(1000)
    rows = by_position(model, tokens, END, batch_size=8)
    expected = losses_of_prefixes(model, tokens, [0, 496, 992], BLOCK)
    assert sum(row.tokens for row in rows) == 3 * BLOCK
    assert rows[1].loss == pytest.approx(np.mean(expected[2]), rel=1e-5)


def test_by_position_is_independent_of_batch_size():
    model, tokens = random_model("rope"), text(200)
    losses = [[row.loss for row in by_position(model, tokens, END, size)] for size in (1, 8, 100)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] == pytest.approx(losses[0], rel=1e-6)


@given(
    pairs=st.lists(st.tuples(st.integers(0, VOCAB - 1), st.floats(0, 20, width=32)), min_size=1, max_size=60),
    counts=st.lists(st.integers(0, 40) | st.sampled_from([2**40, 2**40 - 1]), min_size=VOCAB, max_size=VOCAB),
)
def test_by_frequency_matches_sums_by_hand(pairs, counts):
    groups = defaultdict(list)
    for token, loss in pairs:
        floor = 0
        while counts[token] >= max(1, 2 * floor):
            floor = max(1, 2 * floor)
        groups[floor].append((token, loss))
    tokens, losses = np.array([p[0] for p in pairs], np.uint16), np.array([p[1] for p in pairs], np.float32)
    rows = by_frequency(losses, tokens, np.array(counts))
    assert [row.train_frequency for row in rows] == sorted(groups)
    for row in rows:
        group = groups[row.train_frequency]
        assert row.tokens == len(group)
        assert row.types == len({token for token, _ in group})
        assert row.loss == pytest.approx(math.fsum(loss for _, loss in group) / len(group))


def test_counts_and_frequencies_are_independent_of_chunks(monkeypatch, tmp_path):
    losses, tokens, _ = documents(30)
    tokens.tofile(tmp_path / "train.bin")
    mapped = np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r")
    counts, rows = count_tokens(mapped, VOCAB), by_frequency(losses, mapped, np.arange(VOCAB))
    assert counts.tolist() == [tokens.tolist().count(token) for token in range(VOCAB)]
    monkeypatch.setattr(breakdown, "CHUNK", 7)
    assert count_tokens(mapped, VOCAB).tolist() == counts.tolist()
    assert [row.loss for row in by_frequency(losses, mapped, np.arange(VOCAB))] == pytest.approx(
        [row.loss for row in rows]
    )
