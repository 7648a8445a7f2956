"""Decoding of choices: stop strings, characters of several tokens, offsets of tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.generate.batch import SampledToken, Sequence
from slm.generate.params import generation_params
from slm.serve.choices import Choice
from tests.server import TEXT, tiny_generator

GENERATOR = tiny_generator()
END = GENERATOR.end_of_text
ENDS_OF_TEXT = st.sampled_from(range(len(TEXT))).map(
    lambda start: GENERATOR.tokenizer.encode(TEXT[start:]).ids
)
IDS = st.lists(
    ENDS_OF_TEXT | st.lists(st.integers(1, GENERATOR.model.vocab_size - 1), max_size=5), max_size=4
).map(lambda parts: [token for part in parts for token in part])
STOPS = st.lists(st.text("Once upna.\n🦆”", min_size=1, max_size=4), max_size=3)


def add_tokens(ids, stops=(), max_tokens=1000):
    """Add token ids to a new choice until it is finished; return it and its deltas."""
    sequence = Sequence((), generation_params(max_new_tokens=max_tokens), np.random.default_rng(0))
    choice, deltas = Choice(0, sequence, list(stops), GENERATOR), []
    for token in ids:
        deltas.append(choice.add(SampledToken(sequence, token, 0.0, [])))
        if choice.finish_reason:
            break
    return choice, deltas


def text_of(deltas):
    return "".join(delta.text for delta in deltas)


def decoded(ids):
    return GENERATOR.tokenizer.decode(ids)


@given(IDS)
def test_deltas_join_to_the_text_of_all_tokens(ids):
    choice, deltas = add_tokens([*ids, END])
    assert text_of(deltas) == decoded(ids)
    assert (choice.finish_reason, choice.n_tokens) == ("stop", len(ids))
    assert [token.id for delta in deltas for token, _ in delta.tokens] == ids


@given(IDS, STOPS)
def test_text_ends_before_the_first_complete_stop_string(ids, stops):
    _, deltas = add_tokens([*ids, END], stops)
    texts = [decoded(ids[:n]) for n in range(len(ids))]
    for text in [text for text in texts if not text.endswith("\ufffd")] + [decoded(ids)]:
        if starts := [start for stop in stops if (start := text.find(stop)) >= 0]:
            assert text_of(deltas) == text[: min(starts)]
            assert deltas[-1].finish_reason == "stop"
            return
    assert text_of(deltas) == decoded(ids)


@given(IDS, STOPS)
def test_offset_is_the_length_of_the_text_before(ids, stops):
    _, deltas = add_tokens([*ids, END], stops)
    for n, (token, offset) in enumerate(pair for delta in deltas for pair in delta.tokens):
        before = decoded(ids[:n])
        assert token.id == ids[n]
        assert before.startswith(text_of(deltas)[:offset])
        # U+FFFD may be the beginning of a character.
        if not before.endswith("\ufffd"):
            assert offset == len(before)


@given(IDS.filter(len))
def test_finish_reason_at_max_tokens_is_length(ids):
    n = len(ids)
    choice, _ = add_tokens([*ids, END], max_tokens=n)
    assert (choice.finish_reason, choice.n_tokens) == ("length", n)


def test_possible_stop_string_is_held_back():
    ids = [GENERATOR.tokenizer.encode(c).ids[0] for c in "abcabd."]
    _, deltas = add_tokens(ids, ["abd", "c?"])
    assert [delta.text for delta in deltas] == ["", "", "", "", "", "abc"]
    assert [len(delta.tokens) for delta in deltas] == [0, 0, 0, 0, 0, 3]


@pytest.mark.parametrize("character", ["ï", "🦆", "“"])
def test_character_is_complete_with_its_last_token(character):
    alphabet = GENERATOR.tokenizer.get_vocab()
    ids = [alphabet[c] for c in GENERATOR.tokenizer.pre_tokenizer.pre_tokenize_str(character)[0][0]]
    assert len(ids) > 1
    _, deltas = add_tokens([*ids, END])
    assert [delta.text for delta in deltas] == [""] * (len(ids) - 1) + [character, ""]
    assert [offset for delta in deltas for _, offset in delta.tokens] == [0] * len(ids)
