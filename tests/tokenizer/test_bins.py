"""Bins: every document is encoded exactly, and writes are atomic."""

import json

import numpy as np
import pytest

from slm.core.errors import UserError
from slm.data.documents import Document, write_corpus
from slm.tokenizer import encode as encoding
from slm.tokenizer.bins import bin_dtype, open_bin, read_meta
from slm.tokenizer.encode import make_encoder, write_bins
from slm.tokenizer.params import TokenizerParams
from slm.tokenizer.tokenizer import END_OF_TEXT, decode, encode, gpt2, load, tiktoken_encoding, train_bpe
from tests.tiny import file_size_limit

TRAIN = [
    *["Once upon a time.", "\0\n\té 👩‍👧\u0301", "The end.\r\n", "<|endoftext", "|>", " " * 300 + "x"] * 50,
    f"a {END_OF_TEXT} b",
    "a long text of many words " * 100,
]
VALIDATION = ["Another text.", END_OF_TEXT]


def make(folder, kind, vocab_size=300, train=TRAIN):
    documents = [*(Document("train", t) for t in train), *(Document("validation", t) for t in VALIDATION)]
    write_corpus(documents, folder / "corpus", {})
    params = TokenizerParams(type=kind, vocab_size=vocab_size)
    write_bins(folder / "corpus", folder / "tokens", folder / "models/tokenizer.json", params)
    return load(folder / "models/tokenizer.json")


@pytest.mark.parametrize("kind", ["gpt2", "bpe"])
@pytest.mark.parametrize("batch", [1, 1000, 1 << 20])
def test_bins_have_end_of_text_after_each_document(tmp_path, monkeypatch, kind, batch):
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", batch)
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


def test_encoder_falls_back_if_tiktoken_fails():
    tokenizer, texts = gpt2(), ["before", "\n" * 2**20 + "x", "after"]
    with pytest.raises(ValueError, match="Max stack size exceeded"):
        tiktoken_encoding(tokenizer).encode_to_numpy(texts[1])
    ids = make_encoder(tokenizer)(texts)
    assert ids.tolist() == [i for text in texts for i in (*encode(tokenizer, text), 50256)]


@pytest.mark.parametrize(
    "text", ["a" * 2**20, "日本" * 2**18, "a b" * 2**19], ids=["word", "no spaces", "long"]
)
def test_document_longer_than_a_batch_is_encoded_as_one(tmp_path, text):
    tokenizer = make(tmp_path, "gpt2", train=["before", text, "after"])
    tokens = open_bin(tmp_path / "tokens", "train")
    expected = [i for part in ("before", text, "after") for i in (*encode(tokenizer, part), 50256)]
    assert np.array_equal(tokens, expected)


def test_bpe_is_trained_only_on_the_training_split(tmp_path):
    tokenizer = make(tmp_path, "bpe", vocab_size=1000, train=["aaaa bbbb"])
    assert len(encode(tokenizer, "aaaa bbbb")) == 2
    assert len(encode(tokenizer, "Another")) == len("Another")


def test_large_vocabulary_is_stored_in_32_bits(tmp_path):
    words = np.random.default_rng(0).integers(97, 123, size=(25_000, 8), dtype=np.uint8)
    text = " ".join(bytes(word).decode() for word in words)
    tokenizer = make(tmp_path, "bpe", vocab_size=70_000, train=[text])
    tokens = open_bin(tmp_path / "tokens", "train")
    assert read_meta(tmp_path / "tokens").vocab_size == 70_000
    assert tokens.dtype == np.uint32
    assert tokens.max() > 2**16
    assert decode(tokenizer, tokens[:-1].tolist()) == text


def test_ids_are_little_endian_and_read_only(tmp_path):
    tokenizer = make(tmp_path, "gpt2")
    first = encode(tokenizer, TRAIN[0])[0]
    assert (tmp_path / "tokens/train.bin").read_bytes()[:2] == first.to_bytes(2, "little")
    with pytest.raises(ValueError, match="read-only"):
        open_bin(tmp_path / "tokens", "train")[0] = 1


def test_truncated_or_missing_bin_is_refused(tmp_path):
    make(tmp_path, "bpe")
    path = tmp_path / "tokens/validation.bin"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError) as caught:
        open_bin(tmp_path / "tokens", "validation")
    assert str(caught.value) == f"{path}: expected {size} bytes (from meta.json), got {size - 2}"
    path.unlink()
    with pytest.raises(UserError, match=r"validation\.bin: no such file; `dvc repro` makes it$"):
        open_bin(tmp_path / "tokens", "validation")


def test_corrupt_corpus_leaves_no_tokens(tmp_path):
    make(tmp_path / "valid", "bpe")
    corpus = tmp_path / "valid/corpus"
    (corpus / "validation.parquet").write_bytes(b"PAR1")
    params = TokenizerParams(type="bpe", vocab_size=300)
    with pytest.raises(UserError, match=r"validation\.parquet: not a valid Parquet file"):
        write_bins(corpus, tmp_path / "tokens", tmp_path / "models/tokenizer.json", params)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "valid" not in path.parts] == []


@pytest.mark.parametrize("kind", ["gpt2", "bpe"])
def test_full_disk_leaves_no_tokens(tmp_path, kind):
    make(tmp_path / "valid", kind)
    params = TokenizerParams(type=kind, vocab_size=300)
    with file_size_limit(1000), pytest.raises(UserError, match=r"train\.bin: could not be written: "):
        write_bins(tmp_path / "valid/corpus", tmp_path / "tokens", tmp_path / "models/tokenizer.json", params)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "valid" not in path.parts] == []


@pytest.mark.parametrize("blocked", ["tokens/meta.json", "models/tokenizer.json", "tokens/validation.bin"])
def test_unwritable_path_is_reported_without_temporary_files(tmp_path, blocked):
    (tmp_path / blocked).mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        make(tmp_path, "bpe")
    assert str(caught.value) == f"{tmp_path / blocked}: could not be written: Is a directory"
    assert not (tmp_path / "tokens/train.bin").exists()
    assert not list(tmp_path.rglob(".*"))


def test_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(UserError, match=r"models/tokenizer\.json: could not be written: File exists$"):
        make(tmp_path, "bpe")
    assert list((tmp_path / "tokens").iterdir()) == []


def test_bpe_is_trained_on_all_of_a_small_corpus(tmp_path, monkeypatch):
    tokenizer = make(tmp_path, "bpe")
    monkeypatch.setattr(encoding, "SAMPLE_BYTES", 10**12)
    assert make(tmp_path / "again", "bpe").to_str() == tokenizer.to_str()
    assert train_bpe(TRAIN, 300).to_str() == tokenizer.to_str()


@pytest.mark.parametrize("n_documents", [1, 5000])
def test_bpe_is_trained_on_a_sample_of_a_large_corpus(tmp_path, monkeypatch, n_documents):
    monkeypatch.setattr(encoding, "SAMPLE_BYTES", 50_000)
    monkeypatch.setattr(encoding, "PASSAGE_CHARACTERS", 1_000)
    texts = [" ".join(f"w{i}-{n}" for i in range(100_000 // n_documents)) for n in range(n_documents)]
    corpus = [*(Document("train", text) for text in texts), Document("validation", "x")]
    write_corpus(corpus, tmp_path, {})
    sample = list(encoding.sample_texts(tmp_path / "train.parquet"))
    assert 30_000 < len("".join(sample)) < 70_000
    assert all(len(passage) <= 1_000 and any(passage in text for text in texts) for passage in sample)
    assert list(encoding.sample_texts(tmp_path / "train.parquet")) == sample


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, "<u2"), (65536, "<u2"), (65537, "<u4")])
def test_bin_dtype_is_the_smallest_type(vocab_size, dtype):
    assert bin_dtype(vocab_size) == np.dtype(dtype)
    assert np.iinfo(bin_dtype(vocab_size)).max >= vocab_size - 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"dtype": "float32"}, "dtype: must be 'uint16' or 'uint32', got 'float32'"),
        ({"train": 3}, "train: must be a mapping, got 3"),
        ({"vocab_size": "many"}, "vocab_size: must be a valid integer, got 'many'"),
        ({"test": 1}, "test: unknown key; must be one of vocab_size, end_of_text, dtype, train, validation"),
    ],
)
def test_invalid_meta_is_refused(tmp_path, changes, line):
    make(tmp_path, "bpe")
    path = tmp_path / "tokens/meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError) as caught:
        read_meta(tmp_path / "tokens")
    assert str(caught.value) == f"{path}: {line}"


def test_meta_has_its_keys_in_order(tmp_path):
    make(tmp_path, "bpe")
    meta = json.loads((tmp_path / "tokens/meta.json").read_text())
    assert list(meta) == ["vocab_size", "end_of_text", "dtype", "train", "validation"]
