"""The layout of a conversation, as text and as tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.sft.chat import pieces, prompt
from slm.sft.conversations import Turn
from slm.tokenizer.tokenizer import encode, train_bpe

TALK = [Turn("Write a story.\nBe short.", "Once upon a time.\nThe end."), Turn("Sum it up.", "It ended.")]
texts = st.text(st.sampled_from("ab >.\n\t é"), max_size=12)


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["ab. ab\n> ab ba.\n\n\n  ab > > é"] * 9, 280)


def test_requests_are_quoted_and_answers_stand_as_they_are():
    assert prompt(TALK, "Why?") == (
        "> Write a story.\n> Be short.\nOnce upon a time.\nThe end.\n> Sum it up.\nIt ended.\n> Why?\n"
    )
    assert prompt([], "Why?") == "> Why?\n"


def test_a_prompt_is_how_the_conversation_begins():
    whole = "".join(given + answer for given, answer in pieces(TALK))
    assert whole == prompt(TALK[:1], "Sum it up.") + "It ended."


@given(turns=st.lists(st.builds(Turn, texts, texts.filter(str.strip)), min_size=1, max_size=3))
def test_the_ids_of_the_pieces_laid_end_to_end_are_those_of_the_whole(tokenizer, turns):
    parts = [part for piece in pieces(turns) for part in piece]
    assert [i for part in parts for i in encode(tokenizer, part)] == encode(tokenizer, "".join(parts))
