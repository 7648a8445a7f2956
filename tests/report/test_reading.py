"""Results are read back as they were written, and one clear line says what is wrong with a file."""

import json

import pytest

from slm.core.errors import UserError
from slm.generate.inspection import inspect
from slm.model.gpt import n_params, new_gpt
from slm.report.display import percent, shown, surprise
from slm.report.reading import read_lines, read_result, read_table
from slm.report.schema import Insight, Network, PairScore, Story, TrainPoint, ValidationPoint
from slm.tokenizer.tokenizer import encode, train_bpe
from slm.train import history as curves
from tests.tiny import model_params


def test_a_curve_is_read_as_training_wrote_it(tmp_path):
    points = [curves.TrainPoint(1, 10, 7.5, 0.1, 2.0), curves.TrainPoint(2, 20, 6.25, 0.2, float("inf"))]
    curves.write_curve(tmp_path / "train.csv", points)
    found = read_table(tmp_path / "train.csv", TrainPoint)
    assert [(p.tokens, p.train_loss, p.learning_rate, p.grad_norm) for p in found] == [
        (10, 7.5, 0.1, 2.0),
        (20, 6.25, 0.2, float("inf")),
    ]


@pytest.mark.parametrize("text, said", [
    ("step,tokens,val_loss\n", "val.csv: no rows"),
    ("step,tokens\n0,0\n", "val.csv:2: val_loss is missing"),
    ("tokens,val_loss\n0,5.7\n3", "val.csv:3: val_loss is missing"),
    ("tokens,val_loss\n0,low\n", "val.csv:2: val_loss should be a valid number"),
    ("tokens,val_loss\n0,nan\n", "val.csv:2: val_loss should be a finite number"),
    ("tokens,val_loss\n0,\xff\n", "val.csv: not UTF-8 at byte 18"),
])  # fmt: skip
def test_a_wrong_table_is_one_line_that_names_place_and_column(tmp_path, text, said):
    (tmp_path / "val.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "val.csv", ValidationPoint)
    assert str(error.value) == f"{tmp_path}/{said}"


def test_a_table_may_be_empty_where_that_is_known_but_never_missing(tmp_path):
    path = tmp_path / "minimal_pairs.csv"
    with pytest.raises(UserError, match=r"pairs\.csv: no such file; `dvc repro` makes it"):
        read_table(path, PairScore, may_be_empty=True)
    path.write_text("phenomenon,accuracy,pairs\n")
    assert read_table(path, PairScore, may_be_empty=True) == []
    with pytest.raises(UserError, match=r"pairs\.csv: no rows"):
        read_table(path, PairScore)
    path.write_text("phenomenon,accuracy,pairs\nnames,1.5,3\n")
    with pytest.raises(UserError, match=r"pairs\.csv:2: accuracy should be less than or equal to 1$"):
        read_table(path, PairScore, may_be_empty=True)


@pytest.mark.parametrize("line, said", [
    ('{"temperature": 1', "not valid JSON: "),
    ('["a story"]', "should be a valid dictionary"),
    ('{"temperature": 1, "sample": 1, "ended": true}', "text is missing"),
    ('{"temperature": 1, "sample": 1, "ended": true, "text": 3}', "text should be a valid string"),
])  # fmt: skip
def test_a_wrong_line_of_json_is_named(tmp_path, line, said):
    good = json.dumps({"temperature": 1.0, "sample": 1, "ended": True, "text": "a\u2028b"})
    (tmp_path / "samples.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(UserError, match=f"samples.jsonl:2: {said}"):
        read_lines(tmp_path / "samples.jsonl", Story)


@pytest.mark.parametrize("change, said", [
    ({"tokens": ["a"]}, "inspection: tokens, probabilities and alternatives should be equally many"),
    ({"attention": [[[[1.0, 0.0]]]]}, "inspection: attention should be square, with no more rows than"),
    ({"attention": []}, "inspection: attention should be square"),
    ({"probabilities": [0.5, 1.5]}, r"inspection.probabilities.1: 1.5 should be less than or equal to 1"),
])  # fmt: skip
def test_an_insight_whose_parts_do_not_belong_together_is_refused(tmp_path, change, said):
    two = {"given": 0, "tokens": ["a", "b"], "probabilities": [0.5, 0.5], "alternatives": [[], []]}
    right = two | {"attention": [[[[1.0, 0.0], [0.5, 0.5]]]]}
    path = tmp_path / "inspection.json"
    path.write_text(json.dumps(right))
    assert read_result(path, Insight).tokens == ["a", "b"]
    path.write_text(json.dumps(right | change))
    with pytest.raises(UserError, match=said):
        read_result(path, Insight)


def test_an_insight_is_read_as_it_was_found(tmp_path):
    tokenizer = train_bpe(["a cat sat"], 270)
    model = new_gpt(model_params(), tokenizer.get_vocab_size()).eval()
    found = inspect(model, tokenizer, encode(tokenizer, "a cat"))
    (tmp_path / "inspection.json").write_text(json.dumps(found))
    assert read_result(tmp_path / "inspection.json", Insight).model_dump(exclude={"made_with"}) == {
        **found,
        "alternatives": [[tuple(other) for other in best] for best in found["alternatives"]],
    }


@pytest.mark.parametrize("shape", [
    {"architecture": "classic"},
    {"architecture": "modern", "tied": False},
    {"architecture": "modern", "tied": True, "n_head": 3, "n_kv_head": 1},
])  # fmt: skip
def test_the_operations_a_token_are_six_a_weight_that_multiplies_and_those_of_attention(shape):
    params, vocab_size = model_params(**shape | {"n_embd": 24}), 50
    model = new_gpt(params, vocab_size)
    weights = {id(p): p for name, p in model.named_parameters() if "embedding" not in name}
    weights[id(model.head_weight)] = model.head_weight
    products = sum(p.numel() for p in weights.values())
    network = Network(vocab_size=vocab_size, model=params)
    attention = 12 * params.n_layer * params.n_embd * params.block_size
    assert network.flops_per_token(n_params(model)) == 6 * products + attention


def test_what_cannot_be_seen_in_a_token_is_given_a_sign():
    assert shown("\n a\tb<|endoftext|>") == "↵ a→b∎"
    assert shown("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("share, text", [
    (1, "100%"), (0.9951, "100%"), (0.504, "50%"), (0.0996, "10%"), (0.0994, "9.9%"), (0.026, "2.6%"),
    (0.00996, "1.0%"), (0.00994, "0.99%"), (0.00043, "0.043%"), (0, "0%"), (-0.3, "-30%"),
])  # fmt: skip
def test_a_share_has_the_digits_that_tell_something(share, text):
    assert percent(share) == text


def test_surprise_counts_the_powers_of_ten_that_a_probability_lacks():
    assert [surprise(p) for p in (1.0, 0.1, 0.01, 0.001, 1e-5, 0.0)] == pytest.approx([0, 1, 2, 3, 3, 3])
