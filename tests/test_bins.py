"""Tokens on disk: each document by hand, whole files or none."""

import json

import numpy as np
import pytest

from slm.corpus.documents import Document, write_corpus
from slm.params import UserError
from slm.tokens.bins import open_bin, read_meta
from slm.tokens.encoding import write_bins
from slm.tokens.params import TokenizerParams
from slm.tokens.tokenizer import END_OF_TEXT, decode, encode, load

TRAIN = [
    "Once upon a time.",
    f"a {END_OF_TEXT} b",
    "\0\n\té 👩‍👧\u0301",
    "The end.\r\n",
    " " * 3000 + "x",
] * 300
VALIDATION = ["Another text.", END_OF_TEXT]


def make(folder, kind, vocab_size=300, train=TRAIN):
    documents = [*(Document("train", t) for t in train), *(Document("validation", t) for t in VALIDATION)]
    write_corpus(documents, folder / "corpus", {})
    params = TokenizerParams(kind=kind, vocab_size=vocab_size)
    write_bins(folder / "corpus", folder / "tokens", folder / "models/tokenizer.json", params)
    return load(folder / "models/tokenizer.json")


@pytest.mark.parametrize("kind", ["gpt2", "bpe"])
def test_bins_hold_each_document_and_then_the_end_of_text(tmp_path, kind):
    tokenizer = make(tmp_path, kind)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    meta = read_meta(tmp_path / "tokens")
    assert meta.vocab_size == tokenizer.get_vocab_size()
    assert (meta.end_of_text, meta.dtype) == (end_of_text, "uint16")
    for split, texts in (("train", TRAIN), ("validation", VALIDATION)):
        tokens = open_bin(tmp_path / "tokens", split)
        assert tokens.dtype == np.uint16
        assert tokens.tolist() == [i for text in texts for i in (*encode(tokenizer, text), end_of_text)]
        ends = np.flatnonzero(tokens == end_of_text)
        documents = np.split(tokens, ends + 1)[:-1]
        assert [decode(tokenizer, document[:-1].tolist()) for document in documents] == texts
        counts = getattr(meta, split)
        assert (counts.tokens, counts.documents) == (len(tokens), len(texts))
        assert counts.bytes == sum(len(text.encode()) for text in texts)


def test_bpe_learns_from_the_training_split_alone(tmp_path):
    tokenizer = make(tmp_path, "bpe", vocab_size=1000, train=["aaaa bbbb"])
    assert len(encode(tokenizer, "aaaa bbbb")) == 2
    assert len(encode(tokenizer, "Another")) == len("Another")


def test_a_vocabulary_above_65536_is_stored_in_32_bits(tmp_path):
    words = np.random.default_rng(0).integers(97, 123, size=(25_000, 8), dtype=np.uint8)
    text = " ".join(bytes(word).decode() for word in words)
    tokenizer = make(tmp_path, "bpe", vocab_size=70_000, train=[text])
    tokens = open_bin(tmp_path / "tokens", "train")
    assert read_meta(tmp_path / "tokens").vocab_size == 70_000
    assert tokens.dtype == np.uint32
    assert tokens.max() > 2**16
    assert decode(tokenizer, tokens[:-1].tolist()) == text


def test_the_ids_are_little_endian_and_read_only(tmp_path):
    tokenizer = make(tmp_path, "gpt2")
    first = encode(tokenizer, TRAIN[0])[0]
    assert (tmp_path / "tokens/train.bin").read_bytes()[:2] == first.to_bytes(2, "little")
    with pytest.raises(ValueError, match="read-only"):
        open_bin(tmp_path / "tokens", "train")[0] = 1


def test_a_truncated_or_missing_bin_is_refused(tmp_path):
    make(tmp_path, "bpe")
    path = tmp_path / "tokens/validation.bin"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError) as caught:
        open_bin(tmp_path / "tokens", "validation")
    assert str(caught.value) == f"{path}: {size - 2} bytes found, {size} expected by meta.json"
    path.unlink()
    with pytest.raises(UserError, match=r"validation\.bin: no such file; `dvc repro` makes it$"):
        open_bin(tmp_path / "tokens", "validation")


def test_a_broken_corpus_leaves_no_tokens_at_all(tmp_path):
    make(tmp_path / "whole", "bpe")
    corpus = tmp_path / "whole/corpus"
    (corpus / "validation.parquet").write_bytes(b"PAR1")
    params = TokenizerParams(kind="bpe", vocab_size=300)
    with pytest.raises(UserError, match=r"validation\.parquet: not a whole Parquet file"):
        write_bins(corpus, tmp_path / "tokens", tmp_path / "models/tokenizer.json", params)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "whole" not in path.parts] == []


def test_meta_is_plain_json(tmp_path):
    make(tmp_path, "bpe")
    meta = json.loads((tmp_path / "tokens/meta.json").read_text())
    assert list(meta) == ["vocab_size", "end_of_text", "dtype", "train", "validation"]
