"""Text that grows by tokens: stop strings, characters of several tokens, where each token begins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.generate.batch import SampledToken, Sequence
from slm.generate.params import generation_params
from slm.serve.choices import Choice
from tests.serving import TEXT, tiny_writer

WRITER = tiny_writer()
END = WRITER.end_of_text
LIKE_THE_TEXT = st.sampled_from(range(len(TEXT))).map(lambda at: WRITER.tokenizer.encode(TEXT[at:]).ids)
IDS = st.lists(
    LIKE_THE_TEXT | st.lists(st.integers(1, WRITER.model.vocab_size - 1), max_size=5), max_size=4
).map(lambda parts: [token for part in parts for token in part])
STOPS = st.lists(st.text("Once upna.\n🦆”", min_size=1, max_size=4), max_size=3)


def grown(ids, stops=(), max_tokens=1000):
    """The choice, and its pieces: of these ids, or as many as it takes to finish."""
    text = Sequence((), generation_params(max_new_tokens=max_tokens), np.random.default_rng(0))
    choice, pieces = Choice(0, text, list(stops), WRITER), []
    for token in ids:
        pieces.append(choice.add(SampledToken(text, token, 0.0, [])))
        if choice.finish_reason:
            break
    return choice, pieces


def text_of(pieces):
    return "".join(piece.text for piece in pieces)


def decoded(ids):
    return WRITER.tokenizer.decode(ids)


@given(IDS)
def test_pieces_make_the_text_of_all_tokens(ids):
    choice, pieces = grown([*ids, END])
    assert text_of(pieces) == decoded(ids)
    assert (choice.finish_reason, choice.n_tokens) == ("stop", len(ids))
    assert [token.written.id for piece in pieces for token in piece.tokens] == ids


@given(IDS, STOPS)
def test_the_text_ends_before_the_stop_string_that_is_complete_first(ids, stops):
    _, pieces = grown([*ids, END], stops)
    texts = [decoded(ids[:n]) for n in range(len(ids))]
    for text in [text for text in texts if not text.endswith("\ufffd")] + [decoded(ids)]:
        if found := [at for stop in stops if (at := text.find(stop)) >= 0]:
            assert text_of(pieces) == text[: min(found)]
            assert pieces[-1].finish_reason == "stop"
            return
    assert text_of(pieces) == decoded(ids)


@given(IDS, STOPS)
def test_each_token_begins_where_the_text_before_it_ends(ids, stops):
    _, pieces = grown([*ids, END], stops)
    for n, token in enumerate(token for piece in pieces for token in piece.tokens):
        before = decoded(ids[:n])
        assert token.written.id == ids[n]
        assert before.startswith(text_of(pieces)[: token.offset])
        if not before.endswith("\ufffd"):  # else the last character may be a part of one
            assert token.offset == len(before)


@given(IDS.filter(len))
def test_a_text_of_full_length_is_not_ended_by_the_model(ids):
    n = len(ids)
    choice, _ = grown([*ids, END], max_tokens=n)
    assert (choice.finish_reason, choice.n_tokens) == ("length", n)


def test_text_that_may_become_a_stop_string_is_held_back_until_it_is_clear():
    ids = [WRITER.tokenizer.encode(c).ids[0] for c in "abcabd."]
    _, pieces = grown(ids, ["abd", "c?"])
    assert [piece.text for piece in pieces] == ["", "", "", "", "", "abc"]
    assert [len(piece.tokens) for piece in pieces] == [0, 0, 0, 0, 0, 3]


@pytest.mark.parametrize("character", ["ï", "🦆", "“"])
def test_a_character_of_several_tokens_comes_whole_with_the_last_of_them(character):
    alphabet = WRITER.tokenizer.get_vocab()
    ids = [alphabet[c] for c in WRITER.tokenizer.pre_tokenizer.pre_tokenize_str(character)[0][0]]
    assert len(ids) > 1
    _, pieces = grown([*ids, END])
    assert [piece.text for piece in pieces] == [""] * (len(ids) - 1) + [character, ""]
    assert [token.offset for piece in pieces for token in piece.tokens] == [0] * len(ids)
