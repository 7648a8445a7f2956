"""Result files round-trip; an error in one is reported with its line and key."""

import json
import math

import pytest

from slm.core.errors import UserError
from slm.core.files import write_lines, write_result, write_rows
from slm.report.reading import read_lines, read_result, read_rows
from slm.results.eval import DatasetMetrics, EvalMetrics, PairScore
from slm.results.samples import SampleQuality, Story
from slm.results.train import TrainPoint, ValidationPoint
from tests.result_files import quality

STORY = {
    "temperature": 1.0,
    "sample": 1,
    "text": 'A "quote",\na line\u2028and \x85é',
    "tokens": 9,
    "ended": True,
    "longest_copy": 3,
    "consistent": None,
    "complaints": ["It’s odd."],
}


def test_csv_has_six_digits_and_round_trips(tmp_path):
    path = tmp_path / "train.csv"
    points = [
        TrainPoint(step=10, tokens=1234567, train_loss=1 / 3, learning_rate=1e-5, grad_norm=math.pi * 1000),
        TrainPoint(step=20, tokens=2469134, train_loss=0.25, learning_rate=1e-5, grad_norm=math.inf),
    ]
    write_rows(path, TrainPoint, points)
    assert path.read_text() == (
        "step,tokens,train_loss,learning_rate,grad_norm\n"
        "10,1234567,0.333333,1e-05,3141.59\n"
        "20,2469134,0.25,1e-05,inf\n"
    )
    rounded = points[0].model_copy(update={"train_loss": 0.333333, "grad_norm": 3141.59})
    assert read_rows(path, TrainPoint) == [rounded, points[1]]


def test_csv_cell_of_none_is_empty(tmp_path):
    rows = [quality(0.5, consistency=None), quality(1.0, consistency=0.5)]
    write_rows(tmp_path / "a.csv", SampleQuality, rows)
    assert (tmp_path / "a.csv").read_text().splitlines()[1].endswith(",")
    assert read_rows(tmp_path / "a.csv", SampleQuality) == rows


def test_result_round_trips_without_none(tmp_path):
    metrics = EvalMetrics(val_loss=2.0, perplexity=7.389, bits_per_byte=1.0)
    write_result(tmp_path / "eval.json", metrics)
    written = json.loads((tmp_path / "eval.json").read_text())
    assert written == {"val_loss": 2.0, "perplexity": 7.389, "bits_per_byte": 1.0}
    assert read_result(tmp_path / "eval.json", EvalMetrics) == metrics


def test_result_under_a_key_round_trips(tmp_path):
    path, metrics = tmp_path / "lambada.json", DatasetMetrics(loss=2.0, perplexity=7.4, bits_per_byte=1.0)
    write_result(path, metrics, key="lambada")
    assert json.loads(path.read_text()).keys() == {"lambada"}
    assert read_result(path, DatasetMetrics, key="lambada") == metrics
    with pytest.raises(UserError, match=r"lambada\.json: wikitext: must be"):
        read_result(path, DatasetMetrics, key="wikitext")


def test_json_lines_round_trip_with_any_characters(tmp_path):
    stories = [Story(**STORY), Story(**STORY | {"sample": 2})]
    write_lines(tmp_path / "samples.jsonl", stories)
    assert len((tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert read_lines(tmp_path / "samples.jsonl", Story) == stories


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,tokens,val_loss\n", "val.csv: has no rows; `dvc repro` writes it again"),
        ("step,tokens\n0,0\n", "val.csv:2: val_loss: missing"),
        ("step,tokens,val_loss\n0,0,5.7\n3,3", "val.csv:3: val_loss: missing"),
        ("step,tokens,val_loss,x\n0,0,5.7,1\n", "val.csv:2: x: unknown key"),
        ("step,tokens,val_loss\n0,0,low\n", "val.csv:2: val_loss: must be a valid number"),
        ("step,tokens,val_loss\n0,0,nan\n", "val.csv:2: val_loss: must be a finite number"),
        ("step,tokens,val_loss\n0,0,\xff\n", "val.csv: not UTF-8 at byte 25"),
    ],
)
def test_invalid_csv_is_reported_with_line_and_column(tmp_path, text, message):
    (tmp_path / "val.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as error:
        read_rows(tmp_path / "val.csv", ValidationPoint)
    assert str(error.value).startswith(f"{tmp_path}/{message}")


def test_csv_may_be_empty_only_if_allowed(tmp_path):
    path = tmp_path / "minimal_pairs.csv"
    with pytest.raises(UserError, match=r"pairs\.csv: no such file; `dvc repro` makes it"):
        read_rows(path, PairScore, allow_empty=True)
    path.write_text("phenomenon,accuracy,pairs\n")
    assert read_rows(path, PairScore, allow_empty=True) == []
    with pytest.raises(UserError, match=r"pairs\.csv: has no rows"):
        read_rows(path, PairScore)
    path.write_text("phenomenon,accuracy,pairs\nnames,1.5,3\n")
    with pytest.raises(UserError, match=r"pairs\.csv:2: accuracy: must be less .*, got '1.5'$"):
        read_rows(path, PairScore, allow_empty=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"temperature": 1', "not valid JSON: "),
        ('["a story"]', "must be a mapping"),
        (json.dumps({k: v for k, v in STORY.items() if k != "text"}), "text: missing"),
        (json.dumps(STORY | {"text": 3}), "text: must be a valid string"),
    ],
)
def test_invalid_json_line_is_reported(tmp_path, line, message):
    (tmp_path / "samples.jsonl").write_text(f"{json.dumps(STORY)}\n{line}\n")
    with pytest.raises(UserError, match=f"samples.jsonl:2: {message}"):
        read_lines(tmp_path / "samples.jsonl", Story)
