"""summary.json of a corpus, as later stages read it."""

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


def test_entropy_is_read_if_present(tmp_path):
    path = written(tmp_path, {**FILES, "validation": {**SPLIT, "entropy": ENTROPY}})
    assert read_summary(path).validation.entropy.bits_per_byte == 0.25
    assert read_summary(written(tmp_path, FILES)).validation.entropy is None


def test_is_synthetic_only_for_the_story_grammar(tmp_path):
    for name, params in (("synthetic", data_params()), ("other", None)):
        documents, origin = open_source(params) if params else ([], {"source": "files"})
        documents = [*documents, Document("train", "a"), Document("validation", "b")]
        write_corpus(documents, tmp_path / name, origin)
        assert read_summary(tmp_path / name / "summary.json").is_synthetic is (name == "synthetic")


@pytest.mark.parametrize("key", ["source", "train", "validation"])
def test_missing_key_of_a_summary_is_reported(tmp_path, key):
    path = written(tmp_path, {name: value for name, value in FILES.items() if name != key})
    with pytest.raises(UserError, match=rf"summary\.json: {key}: missing"):
        read_summary(path)
