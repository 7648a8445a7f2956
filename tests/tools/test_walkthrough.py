"""Tests of the walkthrough, with a tiny pipeline whose texts contain Markdown syntax."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from slm.core.errors import UserError
from slm.data.documents import Document, read_documents, write_corpus
from slm.tokenizer.tokenizer import load
from tests.pipeline import enter
from tests.project import ROOT, change_params, clone, git, run_module, run_stages
from tools.walkthrough import find_document

SIGNS = (
    "# *Über* | a `tick` and ``two``, <|endoftext|> & 1 < 2 _said_ [Bo](x): $5!\n- 🦆 quacked.\n1. End\n\n"
)
CHANGES = {
    "data": {"source": "files", "files": {"train": "mine.jsonl", "validation": "held-out.jsonl"}},
    "tokenizer": {"type": "gpt2"},
    "model": {"dropout": 0.2},
    "sample": {"top_k": 3, "temperature": 0.5},
}


def run_walkthrough(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool in a folder with an encoding of stdout that it has to override."""
    command = [sys.executable, "-m", "tools.walkthrough"]
    env = {**os.environ, "SLM_DEVICE": "cpu", "PYTHONIOENCODING": "ascii"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Create a clone with other texts, and run it up to the trained model."""
    folder = clone(tmp_path_factory.mktemp("project"))
    change_params(folder, CHANGES)
    for name, times in (("mine.jsonl", range(1, 9)), ("held-out.jsonl", (5, 1, 3, 4))):
        (folder / name).write_text("\n".join(json.dumps({"text": SIGNS * n + str(n)}) for n in times))
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        patch.setenv("SLM_DEVICE", "cpu")
        run_stages("download", "tokenize", "train")
    return folder


@pytest.fixture(scope="module")
def page(project):
    result = run_walkthrough(project)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def table(page: str, *header: str) -> list[list[str]]:
    """Return the cells of the table with this header."""
    _, _, rest = page.partition(f"| {' | '.join(header)} |\n")
    lines = rest.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def number(page: str, name: str) -> float:
    """Return the value in the first row whose name begins with `name`."""
    return next(float(value) for key, value in table(page, "", "value") if key.startswith(name))


def test_page_states_the_digest_of_the_model(project, page):
    model = (project / "models/model.safetensors").read_bytes()
    assert f"`models/model.safetensors` (md5 `{hashlib.md5(model).hexdigest()}`)" in page


def test_text_is_the_shortest_long_document_and_escaped(page):
    quoted = re.search(r"## 1.*?\n\n(>.*?)\n\n##", page, re.DOTALL)[1].splitlines()
    lines = [re.sub(r"\\(.)", r"\1", line[2:]) for line in quoted if line != ">"]
    assert lines == [line for line in (SIGNS * 3 + "3").splitlines() if line]
    assert quoted[0].startswith(r"> \# \*Über\* \| a \`tick\` and \`\`two\`\`, \<\|endoftext\|\> \& 1")
    assert quoted[2].startswith(r"> \- ")
    assert quoted[4] == r"> 1\. End"


def test_tokens_are_the_start_of_the_text_and_of_the_bin(project, page):
    rows = table(page, "token", "id", "bytes")
    text = next(read_documents(project / "data/corpus/validation.parquet"))[2]
    assert text.encode().startswith(b"".join(bytes.fromhex(row[2].strip("`")) for row in rows))
    start = int(re.search(r"at token ([\d,]+)", page)[1].replace(",", ""))
    ids = np.fromfile(project / "data/tokens/validation.bin", dtype="<u2")[start:]
    assert [int(row[1]) for row in rows] == ids[: len(rows)].tolist()
    assert f"with {' '.join(f'`{i.tobytes().hex()}`' for i in ids[:4])}" in page.replace("\n", " ")
    assert "`decode(encode(text)) == text` is `True`" in page


def test_targets_are_the_inputs_shifted_by_one(page):
    rows = table(page, "position", "input", "target")
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5", "31"]
    assert rows[0][1] == r"`<\|endoftext\|>`"
    assert [row[2] for row in rows[:5]] == [row[1] for row in rows[1:6]]
    assert "Its batch for step 0 has shape (2, 32)" in page


def test_logits_differ_by_the_log_ratio_of_probabilities(page):
    rows = table(page, "next token", "logit", "probability")
    assert "shape (1, 32, 50257)" in page
    assert len(rows) in (5, 6)
    assert sum("← target" in row[0] for row in rows) == 1
    logits = [float(row[1]) for row in rows[:5]]
    probabilities = [float(row[2].rstrip("%")) / 100 for row in rows[:5]]
    assert logits == sorted(logits, reverse=True)
    expected = [probabilities[0] * math.exp(logit - logits[0]) for logit in logits]
    assert probabilities == pytest.approx(expected, rel=0.02)


def test_losses_are_negative_log_probabilities_and_consistent(page):
    rows = table(page, "context", "target", "p", "−ln p")
    assert len(rows) == 6
    for _, _, p, loss in rows:
        assert -math.log(float(p)) == pytest.approx(float(loss), abs=2e-3)
    mean, perplexity, bits = (
        float(figure.replace(",", "")) for figure in re.findall(r"\*\*([\d.,]+)\*\*", page)
    )
    n_tokens, n_bytes = map(int, re.search(r"over the (\d+) tokens, which encode (\d+) bytes", page).groups())
    assert min(float(row[3]) for row in rows) <= mean <= max(float(row[3]) for row in rows)
    assert perplexity == pytest.approx(math.exp(mean), rel=1e-3)
    assert bits == pytest.approx(mean * n_tokens / math.log(2) / n_bytes, rel=1e-3)
    assert number(page, "loss of the trained model") == pytest.approx(mean, abs=1e-3)


def test_first_step_lowers_the_loss_below_ln_v(page):
    before, after = number(page, "loss before the step"), number(page, "loss after the step")
    assert number(page, "ln V") == pytest.approx(math.log(50257), abs=1e-4)
    assert before == pytest.approx(math.log(50257), abs=0.1)
    assert after < before
    assert number(page, "gradient norm") > 0
    # The warm-up has two steps.
    assert number(page, "learning rate") == pytest.approx(1e-2 / 3, rel=1e-3)


def test_weight_changes_by_the_learning_rate(page):
    change = next(value for key, value in table(page, "", "value") if key.startswith("`head_weight"))
    before, after = map(float, change.split(" → "))
    assert after - before == pytest.approx(number(page, "change of this weight"), abs=2e-6)
    assert abs(after - before) == pytest.approx(number(page, "learning rate"), rel=0.02)


def test_sampling_table_shows_temperature_and_top_k(page):
    head = ("next token", "temperature 1", "temperature 0.5", "temperature 0.5, top-k 3")
    *best, rest, n_possible = table(page, *head)
    assert n_possible[1:] == ["50,257", "50,257", "3"]
    percentages = [[float(cell.rstrip("%")) for cell in row[1:]] for row in [*best, rest]]
    assert np.sum(percentages, axis=0) == pytest.approx([100, 100, 100], abs=0.4)
    assert [row[2] > 0 for row in percentages] == [True, True, True, False, False, False]


def test_page_is_deterministic(project, page):
    assert run_walkthrough(project).stdout == page


def test_error_without_a_pipeline_run_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "slm").symlink_to(ROOT / "slm")
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    result = run_module("tools.walkthrough")
    expected = "error: models/tokenizer.json: no such file; `dvc repro` makes it\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)


def test_tokens_of_another_corpus_are_rejected(project, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tokens").symlink_to(project / "data/tokens")
    documents = [Document("train", "Once."), Document("validation", "Another text.")]
    write_corpus(documents, tmp_path / "data/corpus", {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^data/tokens: does not match data/corpus; run `dvc repro`$"):
        find_document(load(project / "models/tokenizer.json"))


def test_committed_page_belongs_to_the_committed_model():
    # After another run, the page may belong to the new model or still to the committed one.
    locks = git(ROOT, "show", "HEAD:dvc.lock"), (ROOT / "dvc.lock").read_text(encoding="utf-8")
    models = {
        out["md5"]
        for lock in locks
        for out in YAML(typ="safe").load(lock)["stages"]["train"]["outs"]
        if out["path"] == "models/model.safetensors"
    }
    page = (ROOT / "docs/walkthrough.md").read_text(encoding="utf-8")
    assert re.search(r"md5 `(\w{32})`", page)[1] in models, "run python -m tools.walkthrough"
