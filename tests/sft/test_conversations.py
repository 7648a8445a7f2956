"""Files of conversations."""

import json

import pytest

from slm.core.errors import UserError
from slm.sft.conversations import Turn, read_conversations

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
