"""Tables of the report: every number that a picture shows, and every setting."""

from typing import Any, NamedTuple

from slm.report.display import percent
from slm.report.results import Results


class Table(NamedTuple):
    """Cells as they are shown; the first column is text, the others are numbers."""

    header: list[str]
    rows: list[list[str]]


def tables(results: Results) -> dict[str, Table]:
    """The results' tables by name, without empty ones."""
    all_of_them = {
        "baselines": Table(
            ["predicted by", "bits a byte", "compared with this model"],
            [
                [
                    b.name,
                    f"{b.bits_per_byte:.4f}",
                    f"{b.bits_per_byte / results.facts.eval.bits_per_byte:.2f} ×",
                ]
                for b in results.baselines
            ],
        ),
        "by_position": Table(
            ["context, up to", "nats a token", "tokens", "length"],
            [[f"{r.position:,}", f"{r.loss:.3f}", f"{r.tokens:,}", r.context] for r in results.by_position],
        ),
        "by_frequency": Table(
            ["times in training, at least", "nats a token", "tokens", "different ones"],
            [
                [f"{r.train_frequency:,}", f"{r.loss:.3f}", f"{r.tokens:,}", f"{r.types:,}"]
                for r in results.by_frequency
            ],
        ),
        "pairs": Table(
            ["phenomenon", "right", "pairs"],
            [[r.phenomenon, percent(r.accuracy), f"{r.pairs:,}"] for r in results.minimal_pairs],
        ),
        "quality": _quality(results),
        "scores": _scores(results),
    }
    return {name: table for name, table in all_of_them.items() if table.rows}


def params_table(params: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """For each section of params.yaml its keys, with dots, and their values."""
    return {
        section: Table(["key", "value"], [[key, _value(value)] for key, value in _flat(keys)])
        for section, keys in params.items()
    }


def _quality(results: Results) -> Table:
    header = ["temperature", "texts", "ended", "contradict nothing", "distinct-2", "repetition", "copied"]
    shares = [
        [r.eos_rate, r.consistency, r.distinct_2, r.seq_rep_4, r.copy_rate] for r in results.sample_quality
    ]
    rows = [
        [f"{r.temperature:g}", f"{r.num_samples:,}", *("" if s is None else percent(s) for s in of_row)]
        for r, of_row in zip(results.sample_quality, shares, strict=True)
    ]
    return _without_empty_columns(header, rows)


def _scores(results: Results) -> Table:
    rows = [
        [
            name,
            f"{score.bits_per_byte:.3f}",
            f"{score.word_perplexity:,.1f}" if score.word_perplexity is not None else "",
            percent(score.last_word_accuracy) if score.last_word_accuracy is not None else "",
        ]
        for name, score in results.datasets.items()
    ]
    return _without_empty_columns(["text", "bits a byte", "perplexity a word", "last words right"], rows)


def _without_empty_columns(header: list[str], rows: list[list[str]]) -> Table:
    kept = [n for n in range(len(header)) if any(row[n] for row in rows)]
    return Table([header[n] for n in kept], [[row[n] for n in kept] for row in rows])


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        is_section = isinstance(value, dict) and value
        pairs += _flat(value, f"{prefix}{key}.") if is_section else [(f"{prefix}{key}", value)]
    return pairs


def _value(value: Any) -> str:
    """As params.yaml has it."""
    if isinstance(value, list):
        return ", ".join(f"“{item}”" if isinstance(item, str) else _value(item) for item in value)
    if value is None or isinstance(value, bool):
        return str({None: "null", True: "true", False: "false"}[value])
    return f"{value:g}" if isinstance(value, float) else str(value)
