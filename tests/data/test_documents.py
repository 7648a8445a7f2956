"""The corpus on disk: atomic writes, exact texts, counts, and the entropy with its standard error."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.core.errors import UserError
from slm.data import documents
from slm.data.documents import Document, estimate_bytes, is_validation, read_documents, write_corpus
from tests.tiny import file_size_limit

HELD_OUT = Document("validation", "held out")


def texts_of(path):
    return [text for batch in read_documents(path) for text in batch]


# No deadline, because it writes files.
@settings(deadline=None)
@given(texts=st.lists(st.text(), min_size=1))
def test_corpus_round_trips_without_empty_documents(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("corpus")
    kept = [text for text in texts if text.strip()]
    corpus = [*(Document("train", text) for text in texts), Document("train", "\0 last"), HELD_OUT]
    summary = write_corpus(corpus, folder, {"source": "a test"})
    assert texts_of(folder / "train.parquet") == [*kept, "\0 last"]
    assert texts_of(folder / "validation.parquet") == ["held out"]
    n_bytes = len("".join([*kept, "\0 last"]).encode())
    assert summary["train"] == {"documents": len(kept) + 1, "bytes": n_bytes}
    assert summary["empty_documents_dropped"] == len(texts) - len(kept)
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert next(iter(summary)) == "source"


def test_row_groups_are_small_but_never_split_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "ROW_GROUP_BYTES", 100)
    texts = ["x" * 30, "y" * 60, "z" * 1000, "w" * 20, "v" * 20]
    write_corpus([*(Document("train", text) for text in texts), HELD_OUT], tmp_path, {})
    assert list(read_documents(tmp_path / "train.parquet")) == [texts[:2], texts[2:3], texts[3:]]


def test_document_longer_than_a_row_group_round_trips(tmp_path):
    text = "".join(map(chr, range(32))) + "\0é" * 2**21
    write_corpus([Document("train", "before"), Document("train", text), HELD_OUT], tmp_path, {})
    assert texts_of(tmp_path / "train.parquet") == ["before", text]


def test_estimate_bytes_is_accurate(tmp_path):
    texts = [f"{n} é" * (n % 50 + 1) for n in range(5000)]
    summary = write_corpus([*(Document("train", text) for text in texts), HELD_OUT], tmp_path, {})
    assert estimate_bytes(tmp_path / "train.parquet") == pytest.approx(summary["train"]["bytes"], rel=1e-3)


def test_entropy_matches_formula_and_bootstrap(tmp_path):
    random = np.random.default_rng(1)
    lengths = random.integers(20, 400, size=300)
    bits = lengths * random.normal(1.3, 0.2, size=300) + 15
    corpus = [Document("train", "x" * n, b) for n, b in zip(lengths, bits, strict=True)]
    entropy = write_corpus([*corpus, HELD_OUT], tmp_path, {})["train"]["entropy"]
    ratio = bits.sum() / lengths.sum()
    assert entropy["bits_per_document"] == pytest.approx(bits.mean())
    assert entropy["bits_per_byte"] == pytest.approx(ratio)
    deviation = (bits - ratio * lengths).std(ddof=1)
    assert entropy["standard_error"] == pytest.approx(deviation / math.sqrt(300) / lengths.mean(), rel=1e-9)
    draws = random.integers(300, size=(4000, 300))
    bootstrap = (bits[draws].sum(1) / lengths[draws].sum(1)).std()
    assert entropy["standard_error"] == pytest.approx(bootstrap, rel=0.1)


@pytest.mark.parametrize("bits", [[1.0, None], [1.0]])
def test_entropy_is_omitted_if_unknown(tmp_path, bits):
    corpus = [Document("train", "text", b) for b in bits]
    assert "entropy" not in write_corpus([*corpus, HELD_OUT], tmp_path, {})["train"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            "validation",
            "no training documents: raise data.max_documents or lower data.validation_fraction",
        ),
        ("train", "no validation documents: raise data.max_documents or data.validation_fraction"),
    ],
)
def test_empty_split_is_refused_and_writes_nothing(tmp_path, split, message):
    with pytest.raises(UserError) as caught:
        write_corpus([Document(split, "a text")], tmp_path, {})
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_corpus_of_empty_documents_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^no documents: all 2 documents are empty$"):
        write_corpus([Document("train", " \n"), Document("validation", "")], tmp_path, {})


def test_error_in_the_source_keeps_the_old_corpus(tmp_path):
    write_corpus([Document("train", "old"), HELD_OUT], tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken():
        yield Document("train", "new")
        raise UserError("the source broke")

    with pytest.raises(UserError, match=r"^the source broke$"):
        write_corpus(broken(), tmp_path, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_full_disk_is_reported_and_leaves_no_file(tmp_path):
    texts = np.random.default_rng(0).integers(2**62, size=(100, 10_000)).astype(str)
    corpus = [*(Document("train", " ".join(text)) for text in texts), HELD_OUT]
    # With these limits in bytes, no text or some row groups can be written.
    for limit in (100, 1_000_000):
        with (
            file_size_limit(limit),
            pytest.raises(UserError, match=r"parquet: could not be written: .*too large"),
        ):
            write_corpus(corpus, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_document_too_large_for_parquet_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(UserError, match=r"^a document must have at most 10 bytes, got 11: split it$"):
        write_corpus([Document("train", "x" * 11)], tmp_path, {})


def test_missing_or_truncated_file_is_reported(tmp_path):
    path = tmp_path / "train.parquet"
    with pytest.raises(UserError, match=r"train\.parquet: no such file$"):
        next(read_documents(path))
    write_corpus([Document("train", "text " * 1000), HELD_OUT], tmp_path, {})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"train\.parquet: not a valid Parquet file: "):
        next(read_documents(path))


def test_missing_text_column_is_reported(tmp_path):
    pq.write_table(pa.table({"text": [1], "story": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError) as caught:
        next(read_documents(tmp_path / "a.parquet"))
    line = "must have a column `text` of strings, got text (int64), story (string)"
    assert str(caught.value) == f"{tmp_path / 'a.parquet'}: {line}"


def test_is_validation_depends_only_on_text_and_seed():
    texts = [f"text {n}" for n in range(20_000)]
    held_out = [is_validation(text, 0.1, seed=1) for text in texts]
    assert np.mean(held_out) == pytest.approx(0.1, abs=0.01)
    assert held_out == [is_validation(text, 0.1, seed=1) for text in texts]
    other = [is_validation(text, 0.1, seed=2) for text in texts]
    assert np.mean(np.array(held_out) & np.array(other)) == pytest.approx(0.01, abs=0.005)
