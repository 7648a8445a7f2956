"""Write result files for tests of the report: with all optional results, or with none of them."""

import json
from pathlib import Path
from typing import Any

from slm.core.files import write_lines, write_result, write_rows
from slm.report.results import PNG_HEADER, PNG_SIGNATURE
from slm.results.eval import (
    Baseline,
    DatasetMetrics,
    EvalDetails,
    EvalMetrics,
    FrequencyLoss,
    PairScore,
    PositionLoss,
)
from slm.results.samples import Inspection, SampleDetails, SampleMetrics, SampleQuality, Story
from slm.results.tokens import TokensDetails, TokensMetrics
from slm.results.train import TrainDetails, TrainMetrics, TrainPoint, ValidationPoint
from tests.tiny import DATA, MODEL, SAMPLE, TRAIN

HOSTILE = "<script src='http://localhost/x.js'></script><img src=http://localhost/y.png onerror=alert(1)>"
TEXT = f"Once *there* was {HOSTILE} and\n# a \"cat\" & 'dog'.\n\n1. `It` ended | $here$."
PARAMS = {"data": DATA, "model": MODEL, "train": TRAIN, "sample": SAMPLE | {"prompts": [HOSTILE]}}
PARAMS |= {"evaluate": {"ngram_order": 5, "datasets": {}}}
# One more per temperature than the report contains.
N_STORIES = 4
VERSIONS = {"torch": "2.0", "Pillow": "1.0"}


def write(folder: Path, name: str, content: Any) -> None:
    """Write a text file, or a JSON file if `content` is not text."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_results(folder: Path, known: bool) -> Path:
    """Write all results.

    `known` adds an n-gram model, the entropy, minimal pairs, a consistency checker and another dataset.
    """
    write_facts(folder, known)
    reports = folder / "reports"
    details = TokensDetails(vocab_size=300, train_tokens=9000, validation_tokens=100, versions=VERSIONS)
    write_result(reports / "details/tokens.json", details)
    curve = [
        TrainPoint(step=1, tokens=5, train_loss=3.0, learning_rate=0.1, grad_norm=1.0),
        TrainPoint(step=2, tokens=9, train_loss=2.0, learning_rate=0.1, grad_norm=float("inf")),
    ]
    validation = [
        ValidationPoint(step=0, tokens=0, val_loss=6.0),
        ValidationPoint(step=2, tokens=9, val_loss=2.1),
    ]
    write_rows(reports / "train.csv", TrainPoint, curve)
    write_rows(reports / "val.csv", ValidationPoint, validation)
    write_evaluation(reports, known)
    write_samples(folder, known)
    return folder


def write_facts(folder: Path, known: bool, corpus: dict[str, Any] | None = None) -> None:
    """Write the results that a model card states."""
    split = {"documents": 1234, "bytes": 5_000_000}
    corpus = corpus or {"source": "synthetic: stories", "license": "MIT", "versions": VERSIONS}
    write(folder, "data/corpus/summary.json", corpus | {"train": split, "validation": split})
    write(folder, "models/config.json", {"architecture": "gpt", "vocab_size": 300, "model": MODEL})
    reports = folder / "reports"
    details = TrainDetails(
        steps=20,
        stopped_early=False,
        best_step=20,
        best_val_loss=2.1,
        epochs=1.5,
        dtype="float32",
        device="cpu",
        versions=VERSIONS,
    )
    metrics = EvalMetrics(val_loss=2.0, perplexity=7.389, bits_per_byte=1.0)
    if known:
        metrics = metrics.model_copy(update={"ngram_gap_closed": 0.75, "minimal_pair_acc": 0.9})
    write_result(reports / "tokens.json", TokensMetrics(bytes_per_token=4.0))
    write_result(reports / "train.json", TrainMetrics(num_params=5000, tokens_seen=2_000_000))
    write_result(reports / "details/train.json", details)
    write_result(reports / "eval.json", metrics)


def write_evaluation(reports: Path, known: bool) -> None:
    """Write the details and tables of the stages evaluate and eval_dataset."""
    interval = [0.9, 1.1] if known else None
    details = EvalDetails(bits_per_byte_ci95=interval, tokens=100, bytes=400, documents=9, versions=VERSIONS)
    write_result(reports / "details/eval.json", details)
    baselines = [("uniform", "baseline", 8.0), ("this model", "model", 1.0)]
    if known:
        baselines.insert(1, ("5-gram", "baseline", 1.6))
        baselines.append(("entropy", "bound", 0.8))
        metrics = DatasetMetrics(loss=5.0, perplexity=148.4, bits_per_byte=2.5, last_word_accuracy=0.125)
        write_result(reports / "datasets/lambada.json", metrics, key="lambada")
    rows = [Baseline(name=name, kind=kind, bits_per_byte=bits) for name, kind, bits in baselines]
    write_rows(reports / "baselines.csv", Baseline, rows)
    positions = [
        PositionLoss(position=1, context="in_context", loss=3.0, tokens=10),
        PositionLoss(position=2, context="in_context", loss=2.5, tokens=20),
    ]
    write_rows(reports / "by_position.csv", PositionLoss, positions)
    frequencies = [
        FrequencyLoss(train_frequency=0, loss=9.0, tokens=1, types=1),
        FrequencyLoss(train_frequency=1, loss=5.0, tokens=2, types=2),
    ]
    write_rows(reports / "by_frequency.csv", FrequencyLoss, frequencies)
    pairs = [PairScore(phenomenon=HOSTILE, accuracy=0.9, pairs=10)] * known
    write_rows(reports / "minimal_pairs.csv", PairScore, pairs)


def write_samples(folder: Path, known: bool) -> None:
    """Write the results of the stages sample and eval_samples."""
    consistency = 0.5 if known else None
    rows = [quality(temperature, consistency) for temperature in (0.5, 1.0)]
    write_rows(folder / "reports/eval_samples.csv", SampleQuality, rows)
    metrics = SampleMetrics(eos_rate=1.0, distinct_2=0.5, copy_rate=0.25, consistency=consistency)
    details = SampleDetails(temperature=1.0, num_samples=N_STORIES, versions=VERSIONS)
    write_result(folder / "reports/eval_samples.json", metrics)
    write_result(folder / "reports/details/eval_samples.json", details)
    stories = [
        Story(
            temperature=temperature,
            sample=number,
            text=f"{number} at {temperature}. {TEXT}",
            tokens=20,
            ended=number > 1,
            longest_copy=5,
            consistent=False if known else None,
            complaints=[HOSTILE] * known,
        )
        for number in range(N_STORIES, 0, -1)
        for temperature in (1.0, 0.5)
    ]
    write_lines(folder / "data/samples.jsonl", stories)
    inspection = Inspection(
        given=1,
        tokens=["Once", HOSTILE, "\n", "<|endoftext|>"],
        probabilities=[0.5, 0.001, 0.25, 1.0],
        alternatives=[[("Once", 0.5), (HOSTILE, 0.25)]] * 4,
        attention=[[[[1.0, 0.0], [0.5, 0.5]]] * 3] * 2,
    )
    write_result(folder / "data/inspection.json", inspection, indent=None)


def quality(temperature: float, consistency: float | None) -> SampleQuality:
    """Return a row of eval_samples.csv."""
    return SampleQuality(
        temperature=temperature,
        num_samples=N_STORIES,
        eos_rate=1.0,
        distinct_1=0.25,
        distinct_2=0.5,
        seq_rep_4=0.0,
        vocab_coverage=1.0,
        copy_rate=0.25,
        longest_copy=5,
        self_bleu_4=0.5,
        consistency=consistency,
    )


def with_datasets(*names: str) -> dict[str, Any]:
    """Return params with other datasets of these names."""
    datasets = {name: {"file": f"{name}.txt", "metric": "bits_per_byte"} for name in names}
    return PARAMS | {"evaluate": {"ngram_order": 5, "datasets": datasets}}


def write_figure(folder: Path) -> None:
    """Write a file with the header of a PNG, for tests that do not display figures."""
    (folder / "reports/figures").mkdir(parents=True)
    (folder / "reports/figures/loss.png").write_bytes(PNG_SIGNATURE + bytes(PNG_HEADER))
