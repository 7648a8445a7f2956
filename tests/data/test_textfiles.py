"""The user's own files: every format is read exactly, and every error is one line."""

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
from slm.data.textfiles import FORMATS, read_files
from tests.tiny import DATA, HUB, complaint, data_params

NO_NAME = "data.files.train: must have at least 1 character, got ''"
NO_DATASET = "data.hub.name: must be the name of a dataset, as OWNER/DATASET, got 'a/b/c'"
SURROGATE = "text: must be valid Unicode, got a lone surrogate at character 1"
UNKNOWN = "data.files.test: unknown key; must be one of train, validation"
VALUES = {"source": "files", "max_documents": None, "validation_fraction": 0.2, "seed": 3}


def split_texts(train, validation=None, **changes):
    """Return the texts of both splits; without a validation file, a fraction of `train` is held out."""
    files = {"train": str(train), "validation": str(validation or NOT_SET)}
    documents = list(read_files(data_params(**{**VALUES, **changes, "files": files})))
    return tuple([d.text for d in documents if d.split == split] for split in ("train", "validation"))


def train_texts(path, **changes):
    other = path.parent / "other.txt"
    other.write_text("other", encoding="utf-8")
    return split_texts(path, other, **changes)[0]


def error_of(path):
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
def test_txt_is_split_only_at_separators(tmp_path, content, texts):
    assert train_texts(write(tmp_path / "a.txt", content)) == texts


# No deadline, because it writes files.
@settings(deadline=None)
@given(texts=st.lists(st.text(min_size=1).filter(lambda t: t == t.strip("\r\n\ufeff")), min_size=2))
def test_separated_texts_round_trip(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    assert train_texts(write(path, "\n<|endoftext|>\n".join(texts))) == texts


# No deadline, because it writes files.
@settings(deadline=None)
@given(texts=st.lists(st.text(), min_size=1))
def test_jsonl_and_parquet_round_trip(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("texts")
    lines = "".join(json.dumps({"id": 1, "text": text}) + "\n\n" for text in texts)
    assert train_texts(write(folder / "a.jsonl", "\ufeff" + lines)) == texts
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet")
    assert train_texts(folder / "a.parquet") == texts


def test_folder_is_read_in_name_order(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, content in [("b.txt", "2<|endoftext|>3"), ("a.txt", "1"), ("c.md", "not text"), ("d.txt", "")]:
        write(folder / name, content)
    assert train_texts(folder) == ["1", "2", "3"]


def test_each_file_has_its_own_limit(tmp_path):
    train = write(tmp_path / "a.txt", "1<|endoftext|>2<|endoftext|>3")
    validation = write(tmp_path / "b.txt", "4<|endoftext|>5<|endoftext|>6")
    assert split_texts(train, validation, max_documents=2) == (["1", "2"], ["4", "5", "6"])
    limits = {"max_documents": 3, "max_validation_documents": 1}
    assert split_texts(train, validation, **limits) == (["1", "2", "3"], ["4"])


def test_documents_are_held_out_by_hash(tmp_path):
    texts = [f"text {n}" for n in range(50)]
    train = write(tmp_path / "a.txt", "<|endoftext|>".join(texts))
    held_out = [text for text in texts if is_validation(text, 0.2, 3)]
    assert held_out
    assert split_texts(train) == ([text for text in texts if text not in held_out], held_out)


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
def test_single_document_is_split_at_a_line(tmp_path, text, held_out):
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
        ("a.csv", "a", ": must be " + FORMATS),
        ("a.jsonl", '{"text": "a"}\n{"text"', ":2: not valid JSON: "),
        ("a.jsonl", "[" * 100_000, ":1: not valid JSON: "),
        ("a.jsonl", '["text"]', ":1: must be a JSON object, got ['text']"),
        ("a.jsonl", '{"story": "a", "id": 1}', ":1: must have the field 'text', got story, id"),
        ("a.jsonl", '{"text": null}', ":1: text: must be a string, got null"),
        ("a.jsonl", r'{"text": "a\ud800"}', f":1: {SURROGATE}"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', ": not UTF-8 at byte 24"),
        ("a.parquet", b"PAR1 and no more of it", ": not a valid Parquet file: "),
    ],
)  # fmt: skip
def test_invalid_file_is_one_line(tmp_path, name, content, line):
    error = error_of(write(tmp_path / name, content))
    assert error.startswith(line) if line.endswith(": ") else error == line
    assert "\n" not in error


def test_missing_file_and_empty_folder_are_reported(tmp_path):
    assert error_of(tmp_path / "a.txt") == ": could not be read: No such file or directory"
    folder = tmp_path / "texts"
    folder.mkdir()
    assert error_of(folder) == ": no .txt files in this folder"


def test_unreadable_file_of_a_folder_is_reported(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    write(folder / "a.txt", "good")
    write(folder / "b.txt", b"<|endoftext|>\xff")
    assert error_of(folder) == "/b.txt: not UTF-8 at byte 13"
    (folder / "b.txt").unlink()
    (folder / "b.txt").mkdir()
    assert error_of(folder) == "/b.txt: could not be read: Is a directory"


def test_equal_documents_are_in_the_same_split(tmp_path):
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
            "data.max_documents: must be a number for source synthetic, which is infinite, got null",
        ),
    ],
)  # fmt: skip
def test_invalid_value_is_reported(changes, line):
    assert complaint(DataParams, {**DATA, **VALUES, **changes}) == f"params.yaml: {line}"
