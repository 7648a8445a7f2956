"""What is read back of a corpus' summary.json."""

import json

import pytest

from slm.core.errors import UserError
from slm.data.documents import Document, write_corpus
from slm.data.sources import open_source
from slm.data.summary import read_summary
from tests.tiny import data_params

SPLIT = {"documents": 3, "bytes": 90}
ENTROPY = {"bits_per_document": 9.0, "bits_per_byte": 0.25, "standard_error": 0.01}
FILES = {"source": "files", "train": SPLIT, "validation": SPLIT}


def written(folder, values):
    (folder / "summary.json").write_text(json.dumps(values))
    return folder / "summary.json"


def test_the_entropy_is_known_where_the_corpus_says_it(tmp_path):
    path = written(tmp_path, {**FILES, "validation": {**SPLIT, "entropy": ENTROPY}})
    assert read_summary(path).validation.entropy.bits_per_byte == 0.25
    assert read_summary(written(tmp_path, FILES)).validation.entropy is None


def test_only_the_grammar_is_known_to_be_consistent(tmp_path):
    for name, params in (("synthetic", data_params()), ("other", None)):
        documents, origin = open_source(params) if params else ([], {"source": "files"})
        documents = [*documents, Document("train", "a"), Document("validation", "b")]
        write_corpus(documents, tmp_path / name, origin)
        assert read_summary(tmp_path / name / "summary.json").is_of_grammar is (name == "synthetic")


@pytest.mark.parametrize("key", ["source", "train", "validation"])
def test_what_a_summary_does_not_say_is_named(tmp_path, key):
    path = written(tmp_path, {name: value for name, value in FILES.items() if name != key})
    with pytest.raises(UserError, match=rf"summary\.json: {key}: missing"):
        read_summary(path)
