"""The layout of a conversation, as text and as tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.sft.chat import render, segments
from slm.sft.conversations import Turn
from slm.tokenizer.tokenizer import encode, train_bpe

TALK = [Turn("Write a story.\nBe short.", "Once upon a time.\nThe end."), Turn("Sum it up.", "It ended.")]
texts = st.text(st.sampled_from("ab >.\n\t é"), max_size=12)


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["ab. ab\n> ab ba.\n\n\n  ab > > é"] * 9, 280)


def test_render_quotes_prompts_only():
    assert render(TALK, "Why?") == (
        "> Write a story.\n> Be short.\nOnce upon a time.\nThe end.\n> Sum it up.\nIt ended.\n> Why?\n"
    )
    assert render([], "Why?") == "> Why?\n"


def test_render_is_a_prefix_of_the_conversation():
    whole = "".join(given + answer for given, answer in segments(TALK))
    assert whole == render(TALK[:1], "Sum it up.") + "It ended."


@given(turns=st.lists(st.builds(Turn, texts, texts.filter(str.strip)), min_size=1, max_size=3))
def test_segments_encode_to_the_ids_of_the_text(tokenizer, turns):
    parts = [part for piece in segments(turns) for part in piece]
    assert [i for part in parts for i in encode(tokenizer, part)] == encode(tokenizer, "".join(parts))
