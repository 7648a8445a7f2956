"""Conversations: their layout as text and tokens, and files of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.core.errors import UserError
from slm.sft.conversations import Turn, read_conversations, render, segments
from slm.tokenizer.tokenizer import encode, train_bpe

CONVERSATION = [
    Turn("Write a story.\nBe short.", "Once upon a time.\nThe end."),
    Turn("Sum it up.", "It ended."),
]
texts = st.text(st.sampled_from("ab >.\n\t é"), max_size=12)
INSTRUCT = """Summary: A boy and his dog go out.
Words: quit, oak, gloomy
Features: Dialogue
Story:

Tom saw an oak.

"Sit!" he said.
<|endoftext|>
Random sentence: The cat slept.
Story: \nThe cat slept. Story: no.
<|endoftext|>
"""


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["ab. ab\n> ab ba.\n\n\n  ab > > é"] * 9, 280)


def test_render_quotes_prompts_only():
    assert render(CONVERSATION, "Why?") == (
        "> Write a story.\n> Be short.\nOnce upon a time.\nThe end.\n> Sum it up.\nIt ended.\n> Why?\n"
    )
    assert render([], "Why?") == "> Why?\n"


def test_render_is_a_prefix_of_the_conversation():
    whole = "".join(quoted + answer for quoted, answer in segments(CONVERSATION))
    assert whole == render(CONVERSATION[:1], "Sum it up.") + "It ended."


@given(turns=st.lists(st.builds(Turn, texts, texts.filter(str.strip)), min_size=1, max_size=3))
def test_segments_encode_to_the_ids_of_the_text(tokenizer, turns):
    parts = [part for piece in segments(turns) for part in piece]
    assert [i for part in parts for i in encode(tokenizer, part)] == encode(tokenizer, "".join(parts))


def test_jsonl_pairs_are_read_and_stripped(tmp_path):
    path = tmp_path / "pairs.jsonl"
    pairs = [
        {"prompt": "2 + 2?", "answer": " 4\n", "id": 7},
        {"prompt": "Grüß\ndich", "answer": "Hallo!"},
    ]
    path.write_text("\n\n".join(map(json.dumps, pairs)))
    assert list(read_conversations(path)) == [[Turn("2 + 2?", "4")], [Turn("Grüß\ndich", "Hallo!")]]


def test_tinystories_instruct_layout_is_split_at_the_story(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(INSTRUCT)
    first = "Summary: A boy and his dog go out.\nWords: quit, oak, gloomy\nFeatures: Dialogue"
    assert list(read_conversations(path)) == [
        [Turn(first, 'Tom saw an oak.\n\n"Sit!" he said.')],
        [Turn("Random sentence: The cat slept.", "The cat slept. Story: no.")],
    ]


@pytest.mark.parametrize(("name", "content", "line"), [
    ("a.jsonl", '{"prompt": "x"}', "a.jsonl:1: must have the field 'answer', got prompt"),
    ("a.jsonl", '{"prompt": "x", "answer": 3}', "a.jsonl:1: answer: must be a string, got 3"),
    ("a.jsonl", '{"prompt": "x", "answer": " "}', "a.jsonl: pair 1 has an empty answer"),
    ("a.jsonl", '{"prompt": "", "answer": "x"}', "a.jsonl: pair 1 has an empty prompt"),
    ("a.txt", "a\nStory:\nb\n<|endoftext|>\nOnce.\n<|endoftext|>\n", "a.txt: text 2 has no line `Story:`"),
    ("a.pdf", "%PDF", "a.pdf: must be .jsonl of objects"),
])  # fmt: skip
def test_malformed_pair_is_reported(tmp_path, monkeypatch, name, content, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        list(read_conversations(tmp_path.__class__(name)))
    assert str(caught.value).startswith(line)
