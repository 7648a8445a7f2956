"""Plot a sweep of experiments: python -m tools.sweep sizes -o sizes.png

Plots the commit and those of its experiments that differ from params.yaml only in the keys of the sweep, and
prints them as a table. docs/experiments.md has the commands that run them, and explains the figures.
"""

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import dvc.api
import numpy as np
from dvc.exceptions import DvcException
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from slm.core.config import PARAMS_FILE, read_yaml
from slm.core.errors import UserError, run_command
from slm.data.statistics import wilson_interval
from slm.data.summary import read_summary
from slm.generate.markdown import table
from slm.report.figures.style import BLUE, GRAY, GREEN, ORANGE, PERCENT, WIDTH, write_figure

CORPUS_SUMMARY = Path("data/corpus/summary.json")
# A line fits any two points, so a fit needs more.
MIN_FIT_POINTS = 3


class Run(NamedTuple):
    """The params and metrics of an experiment."""

    name: str
    n_layer: int
    n_embd: int
    block_size: int
    num_params: int
    bits_per_byte: float
    # Fraction of consistent samples, and their number; None where the corpus has no consistency checker.
    consistency: float | None
    num_samples: int | None


class Sweep(NamedTuple):
    """The keys of params.yaml in which the experiments may differ, and how to plot them."""

    keys: tuple[str, ...]
    # Field of Run on the x-axis, and the label of this axis.
    x: str
    xlabel: str
    plot_loss: Callable[[Axes, list[float], list[Run], float | None], None]


def select_runs(rows: list[dict[str, Any]], keys: Collection[str], sections: Collection[str]) -> list[Run]:
    """Return the finished runs that differ from params.yaml in `keys` only, one per combination of values.

    `rows` are the rows of `dvc exp show`, the workspace first; `sections` are the sections of params.yaml.
    """
    workspace, *experiments = rows
    fixed = [key for key in workspace if key.partition(".")[0] in sections and key not in keys]
    runs = {}
    for row in experiments:
        is_finished = row["State"] in (None, "Success") and _metric(row, "eval", "bits_per_byte") is not None
        if is_finished and all(row[key] == workspace[key] for key in fixed):
            runs[tuple(row[key] for key in keys)] = _to_run(row)
    return list(runs.values())


def _to_run(row: dict[str, Any]) -> Run:
    """Convert a row of `dvc exp show`."""
    consistency = _metric(row, "eval_samples", "consistency")
    return Run(
        name=row["Experiment"] or row["rev"],
        n_layer=int(row["model.n_layer"]),
        n_embd=int(row["model.n_embd"]),
        block_size=int(row["model.block_size"]),
        num_params=int(_metric(row, "train", "num_params")),
        bits_per_byte=_metric(row, "eval", "bits_per_byte"),
        consistency=consistency,
        num_samples=None if consistency is None else int(row["eval_samples.num_samples"]),
    )


def _metric(row: dict[str, Any], report: str, name: str) -> float | None:
    """Return a metric, or None. DVC prefixes a name that several files have with the file."""
    value = row.get(f"reports/{report}.json:{name}", row.get(name))
    return value if isinstance(value, float) else None


def fit_power_law(xs: list[float], ys: list[float]) -> tuple[float, float]:
    """Return c and α of y = c·x^−α, by linear least squares on the logarithms."""
    slope, intercept = np.polyfit(np.log(xs), np.log(ys), 1)
    return float(np.exp(intercept)), float(-slope)


def plot_sweep(sweep: Sweep, runs: list[Run], entropy: float | None, path: Path) -> None:
    """Plot the loss, and the consistency if it is known, over the x-axis of the sweep.

    `entropy` of the text is in bits per byte. Writes a PNG.
    """
    xs = [getattr(run, sweep.x) for run in runs]
    n_panels = 2 if any(run.consistency is not None for run in runs) else 1
    figure = Figure(figsize=(WIDTH, 2 + 2.5 * n_panels))
    panels = figure.subplots(n_panels, sharex=True, squeeze=False)
    top, bottom = panels[0, 0], panels[-1, 0]
    sweep.plot_loss(top, xs, runs, entropy)
    if n_panels == 2:
        _plot_consistency(bottom, sweep, runs)
    bottom.set_xlabel(sweep.xlabel)
    write_figure(figure, path)


def plot_loss_by_size(axes: Axes, xs: list[float], runs: list[Run], entropy: float | None) -> None:
    """Plot the loss over the number of parameters N with logarithmic axes, and fit a power law.

    The law is L = H + c·N^−α (Hoffmann et al. 2022, eq. 2, for constant data) with the known entropy H of the
    text, or L = c·N^−α (Kaplan et al. 2020, eq. 1.1) if H is unknown.
    """
    ys = [run.bits_per_byte - (entropy or 0) for run in runs]
    if min(ys) <= 0:
        raise UserError(f"{CORPUS_SUMMARY}: the entropy is above a loss, so it belongs to another text")
    axes.loglog(xs, ys, "o", color=BLUE)
    for x, y, run in zip(xs, ys, runs, strict=True):
        _label(axes, x, y, f"{run.n_layer} × {run.n_embd}")
    if len(runs) >= MIN_FIT_POINTS:
        factor, exponent = fit_power_law(xs, ys)
        line = np.geomspace(min(xs), max(xs))
        axes.plot(line, factor * line**-exponent, color=ORANGE, linewidth=1, zorder=1)
        label = f"{float(f'{factor:.3g}'):,g} × $N^{{{-exponent:.2f}}}$"
        place = {"xycoords": "axes fraction", "ha": "right", "va": "top", "parse_math": True}
        axes.annotate(label, (0.97, 0.92), color=ORANGE, **place)
    axes.set_ylabel("Loss above the entropy\n(bits per byte)" if entropy else "Loss (bits per byte)")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())


def plot_loss_by_context(axes: Axes, xs: list[float], runs: list[Run], entropy: float | None) -> None:
    """Plot the loss over the context length, with the entropy as a lower bound."""
    ys = [run.bits_per_byte for run in runs]
    axes.plot(xs, ys, "o-", color=BLUE, linewidth=1)
    for x, y in zip(xs, ys, strict=True):
        _label(axes, x, y, f"{y:.3f}")
    if entropy is not None:
        axes.axhline(entropy, color=GRAY, linewidth=1, linestyle="--")
        _label(axes, min(xs), entropy, f"entropy {entropy:.3f}", GRAY)
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs, [str(x) for x in xs])
    axes.set_ylabel("Loss (bits per byte)")


def _plot_consistency(axes: Axes, sweep: Sweep, runs: list[Run]) -> None:
    """Plot the fraction of consistent samples with 95 % confidence intervals."""
    runs = [run for run in runs if run.consistency is not None]
    xs, fractions = [getattr(run, sweep.x) for run in runs], [run.consistency for run in runs]
    intervals = [wilson_interval(run.consistency * run.num_samples, run.num_samples) for run in runs]
    # Matplotlib expects distances from the point: those below, then those above.
    errors = np.abs(np.transpose(intervals) - fractions)
    axes.errorbar(xs, fractions, errors, fmt="o", color=GREEN, linewidth=1)
    axes.set_ylim(-0.03, 1)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel("Consistent stories")


def _label(axes: Axes, x: float, y: float, text: str, color: str = BLUE) -> None:
    """Write a label above and to the right of a point."""
    axes.annotate(text, (x, y), xytext=(5, 5), textcoords="offset points", color=color)


SWEEPS = {
    "sizes": Sweep(
        ("model.n_layer", "model.n_embd", "model.n_head", "model.n_kv_head"),
        "num_params",
        "Parameters",
        plot_loss_by_size,
    ),
    "blocks": Sweep(
        ("model.block_size", "train.batch_size"),
        "block_size",
        "Context length (tokens)",
        plot_loss_by_context,
    ),
}


def markdown(runs: list[Run]) -> str:
    """Return the runs as a Markdown table."""
    header = ["experiment", "layers × width", "block", "parameters", "bits per byte", "consistent"]
    rows = []
    for run in runs:
        size = f"{run.n_layer} × {run.n_embd}"
        consistent = "" if run.consistency is None else f"{run.consistency:.0%} of {run.num_samples}"
        rows.append(
            (run.name, size, run.block_size, f"{run.num_params:,}", f"{run.bits_per_byte:.4f}", consistent)
        )
    return table(header, rows, align="llrrrr")


def main() -> None:
    """Write the figure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.sweep", description="Plot a sweep of experiments.")
    parser.add_argument("sweep", choices=SWEEPS, help="sweep of the model size or of the block size")
    parser.add_argument("-o", dest="path", type=Path, required=True, help="path of the PNG")
    args = parser.parse_args()
    sweep = SWEEPS[args.sweep]
    try:
        rows = dvc.api.exp_show()
    except DvcException as error:
        raise UserError(f"dvc exp show: {error}".splitlines()[0]) from None
    runs = select_runs(rows, sweep.keys, read_yaml(PARAMS_FILE))
    runs.sort(key=lambda run: (getattr(run, sweep.x), run.name))
    if len(runs) < 2:
        keys = ", ".join(sweep.keys)
        raise UserError(f"a sweep needs at least 2 runs that differ only in {keys}, got {len(runs)}")
    entropy = read_summary(CORPUS_SUMMARY).validation.entropy
    plot_sweep(sweep, runs, entropy.bits_per_byte if entropy else None, args.path)
    print(markdown(runs))


if __name__ == "__main__":
    run_command(main)
