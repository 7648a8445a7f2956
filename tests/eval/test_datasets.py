"""Evaluation on other datasets, compared with sums by hand and one token at a time."""

import json
import math
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.core.errors import UserError
from slm.eval.breakdown import bits_per_byte_ci95
from slm.eval.datasets import count_words, evaluate_dataset, evaluate_last_words, running_text
from slm.eval.params import EvaluateParams
from slm.eval.perplexity import token_losses
from slm.model.gpt import new_gpt
from slm.model.loss import cross_entropy
from slm.tokenizer.tokenizer import END_OF_TEXT, encode, train_bpe
from tests.hub import commit_of, serve
from tests.project import ROOT
from tests.tiny import HUB, model_params

FARM = ["The cat says meow", "Then the old dog says woof", "The cow in the field says moo"]
LINES = ' \n = The Title = \n \n The cat says , " meow " . \n\n日本 says\u00a0moo \n'


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([*FARM, LINES], 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    """A model that has learned how the first two of FARM end."""
    torch.manual_seed(0)
    model = new_gpt(model_params(architecture="rope", block_size=16), tokenizer.get_vocab_size())
    end = tokenizer.token_to_id(END_OF_TEXT)
    texts = [torch.tensor([[end, *encode(tokenizer, text)]]) for text in FARM[:2]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        sum(cross_entropy(model(ids[:, :-1]), ids[:, 1:]) for ids in texts).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def params(path, metric, **keys):
    datasets = {"other": {"file": str(path), "metric": metric, **keys}}
    values = {"batch_size": 2, "stride": 3, "ngram_order": 0, "minimal_pairs": 0, "datasets": datasets}
    return EvaluateParams.check(values)


def jsonl(folder, texts):
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def tokens_of(tokenizer, texts):
    end = tokenizer.token_to_id(END_OF_TEXT)
    return np.array([i for text in texts for i in (*encode(tokenizer, text), end)], dtype=np.uint16)


def test_bits_per_byte_match_the_validation_evaluation(model, tokenizer, tmp_path):
    tokens, end = tokens_of(tokenizer, FARM), tokenizer.token_to_id(END_OF_TEXT)
    losses = token_losses(model, tokens, end, 3, 2).astype(np.float64)
    n_bytes = np.array([len(text.encode()) for text in FARM])
    path = jsonl(tmp_path, [FARM[0], " \n", *FARM[1:], ""])
    metrics, scope = evaluate_dataset(model, tokenizer, "other", params(path, "bits_per_byte"))
    assert metrics.model_dump(exclude_none=True) == {
        "loss": pytest.approx(losses.mean()),
        "perplexity": pytest.approx(math.exp(losses.mean())),
        "bits_per_byte": pytest.approx(losses.sum() / math.log(2) / n_bytes.sum()),
    }
    assert scope.bits_per_byte_ci95 == pytest.approx(bits_per_byte_ci95(losses, tokens, end, n_bytes))
    assert (scope.tokens, scope.bytes, scope.documents) == (len(tokens), n_bytes.sum(), 3)


def test_file_formats_give_the_same_metrics(model, tokenizer, tmp_path):
    (tmp_path / "texts.txt").write_text(f"\n{END_OF_TEXT}\n".join(FARM))
    (tmp_path / "folder").mkdir()
    for number, text in enumerate(FARM):
        (tmp_path / f"folder/{number}.txt").write_text(text)
    pq.write_table(pa.table({"text": FARM}), tmp_path / "texts.parquet")
    paths = [tmp_path / name for name in ("texts.txt", "folder", "texts.parquet")] + [jsonl(tmp_path, FARM)]
    first, *others = [
        evaluate_dataset(model, tokenizer, "other", params(path, "bits_per_byte")) for path in paths
    ]
    assert others == [first] * 3


def test_word_perplexity_counts_words_and_line_ends(model, tokenizer, tmp_path):
    path = tmp_path / "wiki.txt"
    path.write_text(LINES)
    tokens = tokens_of(tokenizer, [LINES])
    losses = token_losses(model, tokens, tokenizer.token_to_id(END_OF_TEXT), 3, 2).astype(np.float64)
    lines = ["", "= The Title =", "", 'The cat says , " meow " .', "", "日本 says moo"]
    words = " <eos> ".join([*lines, ""]).split()
    metrics, scope = evaluate_dataset(model, tokenizer, "other", params(path, "word_perplexity"))
    assert count_words(LINES) == len(words)
    assert metrics.word_perplexity == pytest.approx(math.exp(losses.sum() / len(words)))
    assert (scope.tokens, scope.bytes, scope.documents) == (len(tokens), len(LINES.encode()), 1)
    assert scope.bits_per_byte_ci95 is None


def test_word_perplexity_joins_lines_to_running_text(model, tokenizer, tmp_path):
    (tmp_path / "wiki.txt").write_text(LINES)
    whole = evaluate_dataset(model, tokenizer, "other", params(tmp_path / "wiki.txt", "word_perplexity"))
    lines = jsonl(tmp_path, LINES.splitlines(keepends=True))
    assert evaluate_dataset(model, tokenizer, "other", params(lines, "word_perplexity")) == whole
    assert running_text(["a", "", "b\n"]) == "a\n\nb\n"


@torch.inference_mode()
def last_word_by_hand(model, tokenizer, text):
    """Decode greedily as many tokens as the last word has; return whether they match, and its loss."""
    precise = new_gpt(model.params, model.vocab_size).double().eval()
    precise.load_state_dict(model.state_dict())
    context, word = text.rsplit(" ", 1)
    start = [tokenizer.token_to_id(END_OF_TEXT), *encode(tokenizer, context)]
    generated, targets, loss = list(start), encode(tokenizer, f" {word}"), 0.0
    for n, target in enumerate(targets):
        # All tokens of the word are predicted in the same window.
        first = len(start) + len(targets) - 1 - model.params.block_size
        after_generated = precise(torch.tensor([generated[max(0, first) :]]))[0, -1]
        after_text = precise(torch.tensor([[*start, *targets[:n]][max(0, first) :]]))[0, -1]
        loss -= after_text.log_softmax(-1)[target].item()
        generated.append(int(after_generated.argmax()))
    return generated[len(start) :] == targets, loss


@pytest.mark.parametrize("texts", [FARM, [*FARM, f"{'Long ago ' * 20}{FARM[0]}", "It\n\nsays woof"]])
def test_last_word_accuracy_matches_greedy_decoding(model, tokenizer, tmp_path, texts):
    right, losses = zip(*(last_word_by_hand(model, tokenizer, text) for text in texts), strict=True)
    # Some match, some do not.
    assert len({*right}) == 2
    # Whitespace at the end is not a word.
    path = jsonl(tmp_path, [f"{text} \n" for text in texts])
    metrics, scope = evaluate_dataset(model, tokenizer, "other", params(path, "last_word_accuracy"))
    assert metrics.last_word_accuracy == sum(right) / len(texts)
    assert metrics.last_word_perplexity == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    assert (scope.tokens, scope.bytes, scope.documents) == (
        len(tokens_of(tokenizer, texts)),
        len("".join(texts).encode()),
        len(texts),
    )


def test_last_word_ignores_earlier_documents(model, tokenizer):
    alone = evaluate_last_words(model, tokenizer, tokens_of(tokenizer, FARM[2:]), "other")
    losses = []
    for first, second in pairwise([FARM[2]] * 3):
        metrics = evaluate_last_words(model, tokenizer, tokens_of(tokenizer, [first, second]), "other")
        losses.append(metrics["last_word_perplexity"])
    assert losses == pytest.approx([alone["last_word_perplexity"]] * 2)


@settings(max_examples=200)
@given(
    context=st.lists(st.sampled_from(["The", "cat", "'s", "?!", "7", "\n\n", "\u00a0", "日", "“"])).map(
        " ".join
    ),
    word=st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=9),
)
def test_last_word_tokens_are_a_suffix_of_the_text(tokenizer, context, word):
    whole, last = encode(tokenizer, f"{context} {word}"), encode(tokenizer, f" {word}")
    assert whole[len(whole) - len(last) :] == last


@pytest.mark.parametrize(
    ("texts", "metric", "line"),
    [
        ([], "bits_per_byte", "no text in .*texts.jsonl"),
        ([" \n", ""], "word_perplexity", "no text in .*texts.jsonl"),
        (["a b", "word"], "last_word_accuracy", "document 2: its last word has no space before it"),
        (
            ["a " + "?!" * 20],
            "last_word_accuracy",
            "document 1: its last word has more tokens than block_size",
        ),
    ],
)
def test_dataset_error_is_reported(model, tokenizer, tmp_path, texts, metric, line):
    with pytest.raises(UserError, match=f"^evaluate.datasets.other: {line}$"):
        evaluate_dataset(model, tokenizer, "other", params(jsonl(tmp_path, texts), metric))


READ = """if True:
    import json, sys
    from slm.eval.datasets import read_dataset
    from slm.eval.params import Dataset
    from slm.core.errors import UserError
    for dataset in json.loads(sys.argv[1]):
        try:
            print(json.dumps(list(read_dataset("other", Dataset.model_validate(dataset)))))
        except UserError as error:
            print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Return what a separate process reads from a Hub on loopback, and its requests.

    The client reads the address of the Hub only when it is imported.
    """
    folder = tmp_path_factory.mktemp("hub")
    for name in ("wiki", "plain"):
        for split, texts in {"train": ["One", "Two"], "test": [f"Three {END_OF_TEXT}", "", "日本"]}.items():
            path = folder / f"hub/owner/{name}/main/{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"text": texts}), path)
    datasets = [
        hub_text("owner/wiki", validation_split="test"),
        hub_text("owner/plain", validation_split=None),
        hub_text("owner/plain", validation_split=None, text_column="story"),
    ]
    with serve(folder / "hub") as server:
        env = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(folder / "home")}
        command = [sys.executable, "-c", READ, json.dumps(datasets)]
        result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in result.stdout.splitlines()], server.requests


def hub_text(name, **changes):
    keys = {**HUB, "name": name, "revision": commit_of(name, "main"), **changes}
    return {"file": "any.txt", "metric": "bits_per_byte", "hub": keys}


def test_hub_dataset_fetches_one_split_only(hub):
    read, requests = hub
    assert read[0] == [f"Three {END_OF_TEXT}", "", "日本"]
    fetched = {line.split("/")[-1] for line in requests if "owner/wiki" in line and ".parquet" in line}
    assert fetched == {"test-00000-of-00001.parquet"}


def test_hub_dataset_without_validation_split_reads_train(hub):
    assert hub[0][1] == ["One", "Two"]


def test_hub_error_names_the_dataset_key(hub):
    line = "evaluate.datasets.other.hub.text_column: owner/plain must have a column 'story'"
    assert hub[0][2].startswith(line)
