"""The user's own files: every kind, exact to the character, and every complaint on one line."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.core.config import NOT_SET
from slm.core.errors import UserError
from slm.data.documents import is_validation
from slm.data.params import DataParams
from slm.data.textfiles import EXPECTED, read_files
from tests.tiny import DATA, HUB, complaint, data_params

NO_NAME = "data.files.train: must have at least 1 character, got ''"
NO_DATASET = "data.hub.name: must be the name of a dataset, as OWNER/DATASET, got 'a/b/c'"
UNKNOWN = "data.files.test: unknown key; must be one of train, validation"
VALUES = {"source": "files", "max_documents": None, "validation_fraction": 0.2, "seed": 3}  # of these tests


def split_texts(train, validation=None, **changes):
    """Return the texts of both splits; without a validation file, a part of `train` is held out."""
    files = {"train": str(train), "validation": str(validation or NOT_SET)}
    found = list(read_files(data_params(**{**VALUES, **changes, "files": files})))
    return tuple([d.text for d in found if d.split == split] for split in ("train", "validation"))


def train_texts(path, **changes):
    other = path.parent / "other.txt"
    other.write_text("other", encoding="utf-8")
    return split_texts(path, other, **changes)[0]


def refusal(path):
    with pytest.raises(UserError) as caught:
        train_texts(path)
    return str(caught.value).removeprefix(str(path))


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("a\r\n\r\nb\n", ["a\r\n\r\nb\n"]),
        ("\ufeffa", ["a"]),
        ("a\n<|endoftext|>\n b \n", ["a", " b "]),
        ("a\r\nb\r\n<|endoftext|>\r\nc", ["a\r\nb", "c"]),
        ("<|endoftext|>a<|endoftext|>\n", ["a"]),
        ("a<|endoftext|><|endoftext|>b", ["a", "", "b"]),
        ("a <|endoftext| b\0", ["a <|endoftext| b\0"]),
    ],
)
def test_a_txt_is_cut_at_separators_and_otherwise_exact(tmp_path, content, texts):
    assert train_texts(write(tmp_path / "a.txt", content)) == texts


@settings(deadline=None)  # it writes files
@given(texts=st.lists(st.text(min_size=1).filter(lambda t: t == t.strip("\r\n\ufeff")), min_size=2))
def test_separated_texts_come_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    assert train_texts(write(path, "\n<|endoftext|>\n".join(texts))) == texts


@settings(deadline=None)  # it writes files
@given(texts=st.lists(st.text(), min_size=1))
def test_jsonl_and_parquet_texts_come_back(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("texts")
    lines = "".join(json.dumps({"id": 1, "text": text}) + "\n\n" for text in texts)
    assert train_texts(write(folder / "a.jsonl", "\ufeff" + lines)) == texts
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet")
    assert train_texts(folder / "a.parquet") == texts


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, content in [("b.txt", "2<|endoftext|>3"), ("a.txt", "1"), ("c.md", "not text"), ("d.txt", "")]:
        write(folder / name, content)
    assert train_texts(folder) == ["1", "2", "3"]


def test_each_file_has_a_limit_of_its_own(tmp_path):
    train = write(tmp_path / "a.txt", "1<|endoftext|>2<|endoftext|>3")
    validation = write(tmp_path / "b.txt", "4<|endoftext|>5<|endoftext|>6")
    assert split_texts(train, validation, max_documents=2) == (["1", "2"], ["4", "5", "6"])
    limits = {"max_documents": 3, "max_validation_documents": 1}
    assert split_texts(train, validation, **limits) == (["1", "2", "3"], ["4"])


def test_without_a_validation_file_documents_are_held_out_by_their_hash(tmp_path):
    texts = [f"text {n}" for n in range(50)]
    train = write(tmp_path / "a.txt", "<|endoftext|>".join(texts))
    held_out = [text for text in texts if is_validation(text, 0.2, 3)]
    found = split_texts(train)
    assert held_out
    assert found == ([text for text in texts if text not in held_out], held_out)


@pytest.mark.parametrize(
    ("text", "held_out"),
    [
        ("line\n" * 100, "line\n" * 20),
        ("0123456\r\n" * 9, "0123456\r\n" * 2),
        ("x" * 100, "x" * 20),
        ("x" * 90 + "\n" + "y" * 9, "y" * 9),
        ("title\n" + "x" * 94, "x" * 20),
    ],
)
def test_one_document_is_cut_near_its_end_at_a_line_if_there_is_one(tmp_path, text, held_out):
    (train,), (validation,) = split_texts(write(tmp_path / "a.txt", text))
    assert train + validation == text
    assert validation == held_out


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.txt", "", ": empty; data.files.train must name a file with text"),
        ("a.txt", b"\xef\xbb\xbfab\xff" + b"x" * 99, ": not UTF-8 at byte 5"),
        ("a.txt", b"a<|endoftext|>b\xffc", ": not UTF-8 at byte 15"),
        ("a.txt", b"x" * 100_000 + "日".encode()[:2], ": not UTF-8 at byte 100000"),
        ("a.csv", "a", ": must be " + EXPECTED),
        ("a.jsonl", '{"text": "a"}\n{"text"', ":2: not valid JSON: "),
        ("a.jsonl", "[" * 100_000, ":1: not valid JSON: "),
        ("a.jsonl", '["text"]', ":1: not a JSON object"),
        ("a.jsonl", '{"story": "a", "id": 1}', ":1: no field `text` with a string; its fields: story, id"),
        ("a.jsonl", '{"text": null}', ":1: no field `text` with a string; its fields: text"),
        ("a.jsonl", r'{"text": "a\ud800"}', ":1: the text has half a surrogate pair at character 1"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', ": not UTF-8 at byte 24"),
        ("a.parquet", b"PAR1 and no more of it", ": not a whole Parquet file: "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_a_line(tmp_path, name, content, line):
    said = refusal(write(tmp_path / name, content))
    assert said.startswith(line) if line.endswith(": ") else said == line
    assert "\n" not in said


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    assert refusal(tmp_path / "a.txt") == ": could not be read: No such file or directory"
    folder = tmp_path / "texts"
    folder.mkdir()
    assert refusal(folder) == ": no .txt files in this folder"


def test_a_file_of_a_folder_that_cannot_be_read_is_named(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    write(folder / "a.txt", "good")
    write(folder / "b.txt", b"<|endoftext|>\xff")
    assert refusal(folder) == "/b.txt: not UTF-8 at byte 13"
    (folder / "b.txt").unlink()
    (folder / "b.txt").mkdir()
    assert refusal(folder) == "/b.txt: could not be read: Is a directory"


def test_equal_documents_fall_into_the_same_split(tmp_path):
    train = write(tmp_path / "a.txt", "<|endoftext|>".join(f"text {n % 40}" for n in range(400)))
    train, validation = split_texts(train)
    assert len(train) + len(validation) == 400
    assert train
    assert validation
    assert not set(train) & set(validation)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"source": "web"}, "data.source: must be 'synthetic', 'files' or 'hub', got 'web'"),
        ({"max_documents": 0}, "data.max_documents: must be greater than or equal to 1, got 0"),
        ({"validation_fraction": 1.0}, "data.validation_fraction: must be less than 1, got 1.0"),
        ({"validation_fraction": 0.0}, "data.validation_fraction: must be greater than 0, got 0.0"),
        ({"validation_fraction": "half"}, "data.validation_fraction: must be a valid number, got 'half'"),
        ({"max_documents": 2.5}, "data.max_documents: must be a valid integer, got 2.5"),
        ({"seed": -1}, "data.seed: must be greater than or equal to 0, got -1"),
        ({"seed": 2**63}, f"data.seed: must be less than {2**63}, got {2**63}"),
        ({"seed": None}, "data.seed: must be a valid integer, got null"),
        ({"limit": 3}, "data.limit: unknown key; must be one of " + ", ".join(DATA)),
        ({"files": "a"}, "data.files: must be a mapping, got 'a'"),
        ({"files": {"train": "", "validation": "b"}}, NO_NAME),
        ({"files": {"train": 1, "validation": "b"}}, "data.files.train: must be a valid string, got 1"),
        ({"files": {"train": "a"}}, "data.files.validation: missing"),
        ({"files": {"train": "a", "validation": "b", "test": "c"}}, UNKNOWN),
        (
            {"max_validation_documents": 0},
            "data.max_validation_documents: must be greater than or equal to 1, got 0",
        ),
        ({"hub": {**HUB, "name": "a/b/c"}}, NO_DATASET),
        (
            {"source": "synthetic"},
            "data.max_documents: must be a number for source synthetic, which never ends, got null",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_of_the_section_is_named(changes, line):
    found = complaint(DataParams, {**DATA, **VALUES, **changes})
    assert found == f"params.yaml: {line}"
