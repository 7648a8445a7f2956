"""Summarize the results: a verdict in one sentence, the headline metrics, and tables."""

from collections.abc import Callable
from math import log
from typing import Any, NamedTuple

from slm.report.display import percent
from slm.report.results import Results


class Headline(NamedTuple):
    """A metric with its formatted value and its definition."""

    value: str
    name: str
    meaning: str


class Table(NamedTuple):
    """A table of formatted cells: text in the first column, numbers in the others."""

    header: list[str]
    rows: list[list[str]]


def verdict(results: Results) -> str:
    """Summarize the results in one sentence."""
    copied = percent(results.samples.copy_rate) if results.samples.copy_rate else "none"
    samples = f"{copied} of its samples are copied from the training data"
    if results.samples.consistency is not None:
        samples = f"{percent(results.samples.consistency)} of its samples are consistent, {copied} are copied"
    return f"The model {_compare_with_ngram(results)}; {samples}."


def _compare_with_ngram(results: Results) -> str:
    """Return the predicate that compares the model with the n-gram baseline, or else its perplexity."""
    metrics, ngram = results.facts.eval, results.ngram
    if ngram is None:
        return (
            f"has a perplexity of {metrics.perplexity:,.1f}: "
            "it is as uncertain as when choosing uniformly among that many tokens"
        )
    saved = 1 - metrics.bits_per_byte / ngram.bits_per_byte
    if saved <= 0:
        return f"does not predict held-out text better than a {ngram.name} model"
    if metrics.ngram_gap_closed is None:
        return f"needs {percent(saved)} fewer bits per byte than a {ngram.name} model on held-out text"
    closed = percent(metrics.ngram_gap_closed)
    return f"closes {closed} of the gap between a {ngram.name} model and the entropy of the text"


def headlines(results: Results) -> list[Headline]:
    """Return the headline metrics, without those that the corpus does not support."""
    metrics, temperature = results.facts.eval, results.params["sample"]["temperature"]
    lines = [
        Headline(
            f"{metrics.val_loss:.3f}",
            "validation loss",
            "Mean −ln p of the next token of held-out text, in nats per token. "
            f"Uniform baseline: {log(results.facts.model.vocab_size):.2f}.",
        ),
        Headline(
            f"{metrics.perplexity:,.2f}",
            "perplexity",
            "exp(loss): as uncertain as when choosing uniformly among this many tokens.",
        ),
        Headline(
            f"{metrics.bits_per_byte:.3f}",
            "bits per byte",
            f"{_interval(results)}Independent of the tokenizer. "
            f"With this model, text compresses to {percent(metrics.bits_per_byte / 8)} of its size.",
        ),
    ]
    # The metrics below need a corpus whose entropy is known, minimal pairs, or a consistency checker.
    ngram, entropy = results.ngram, results.entropy
    if metrics.ngram_gap_closed is not None and ngram and entropy:
        gap = (
            f"Share of the gap between a {ngram.name} model ({ngram.bits_per_byte:.3f} bits per byte) and "
            f"the entropy of the text ({entropy.bits_per_byte:.3f}), the lower bound for every model."
        )
        lines.append(Headline(percent(metrics.ngram_gap_closed), "gap closed", gap))
    if metrics.minimal_pair_acc is not None:
        pairs = "Share of pairs in which the correct sentence is the more probable one. Chance: 50%."
        lines.append(Headline(percent(metrics.minimal_pair_acc), "minimal pairs", pairs))
    if results.samples.consistency is not None:
        consistent = f"Share of samples at temperature {temperature:g} that pass the consistency checker."
        lines.append(Headline(percent(results.samples.consistency), "consistency", consistent))
    copied = (
        f"Share of samples at temperature {temperature:g} of which at least half occurs verbatim, "
        "in one piece, in the training data."
    )
    return [*lines, Headline(percent(results.samples.copy_rate), "copy rate", copied)]


def _interval(results: Results) -> str:
    """Return the confidence interval of the bits per byte as a sentence, or nothing."""
    interval = results.eval_details.bits_per_byte_ci95
    return f"95% CI over documents: {interval[0]:.3f} to {interval[1]:.3f}. " if interval else ""


def tables(results: Results) -> dict[str, Table]:
    """Return the non-empty tables of results, by the name of their figure."""
    bits_per_byte = results.facts.eval.bits_per_byte
    by_name = {
        "bits_per_byte": Table(
            ["model or baseline", "bits per byte", "relative to this model"],
            [
                [row.name, f"{row.bits_per_byte:.4f}", f"{row.bits_per_byte / bits_per_byte:.2f} ×"]
                for row in results.baselines
            ],
        ),
        "by_position": Table(
            ["context length (up to)", "nats per token", "tokens", "context"],
            [
                [f"{row.position:,}", f"{row.loss:.3f}", f"{row.tokens:,}", row.context.replace("_", " ")]
                for row in results.by_position
            ],
        ),
        "by_frequency": Table(
            ["occurrences in the training data (at least)", "nats per token", "tokens", "distinct tokens"],
            [
                [f"{row.train_frequency:,}", f"{row.loss:.3f}", f"{row.tokens:,}", f"{row.types:,}"]
                for row in results.by_frequency
            ],
        ),
        "minimal_pairs": Table(
            ["phenomenon", "accuracy", "pairs"],
            [[row.phenomenon, percent(row.accuracy), f"{row.pairs:,}"] for row in results.minimal_pairs],
        ),
        "samples": _samples(results),
        "datasets": _datasets(results),
    }
    return {name: table for name, table in by_name.items() if table.rows}


def params_tables(params: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return a table of dotted keys and values for each section of params.yaml."""
    return {
        section: Table(["key", "value"], [[key, _yaml_value(value)] for key, value in _flatten(keys)])
        for section, keys in params.items()
    }


def _samples(results: Results) -> Table:
    """Return the metrics of the samples by temperature."""
    header = ["temperature", "samples", "EOS rate", "consistency", "distinct-2", "seq-rep-4", "copy rate"]
    rows = []
    for row in results.sample_quality:
        metrics = [row.eos_rate, row.consistency, row.distinct_2, row.seq_rep_4, row.copy_rate]
        rows.append(
            [f"{row.temperature:g}", f"{row.num_samples:,}", *(_cell(value, percent) for value in metrics)]
        )
    return _without_empty_columns(header, rows)


def _datasets(results: Results) -> Table:
    """Return the metrics of the evaluation on other datasets."""
    header = ["dataset", "bits per byte", "word perplexity", "last-word accuracy"]
    rows = []
    for name, metrics in results.datasets.items():
        word_perplexity = _cell(metrics.word_perplexity, "{:,.1f}".format)
        accuracy = _cell(metrics.last_word_accuracy, percent)
        rows.append([name, f"{metrics.bits_per_byte:.3f}", word_perplexity, accuracy])
    return _without_empty_columns(header, rows)


def _cell(value: float | None, format_value: Callable[[float], str]) -> str:
    """Format a value; None becomes an empty cell."""
    return "" if value is None else format_value(value)


def _without_empty_columns(header: list[str], rows: list[list[str]]) -> Table:
    """Return a table of the columns that have a non-empty cell."""
    kept = [n for n in range(len(header)) if any(row[n] for row in rows)]
    return Table([header[n] for n in kept], [[row[n] for n in kept] for row in rows])


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return pairs of a dotted key and its value for nested mappings."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        is_section = isinstance(value, dict) and value
        pairs += _flatten(value, f"{prefix}{key}.") if is_section else [(f"{prefix}{key}", value)]
    return pairs


def _yaml_value(value: Any) -> str:
    """Format a value as in params.yaml."""
    if isinstance(value, list):
        return ", ".join(f"“{item}”" if isinstance(item, str) else _yaml_value(item) for item in value)
    if value is None or isinstance(value, bool):
        return str({None: "null", True: "true", False: "false"}[value])
    return f"{value:g}" if isinstance(value, float) else str(value)
