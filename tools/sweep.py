"""What a sweep shows: python -m tools.sweep sizes -o sizes.png

Draws the commit and those of its experiments that differ from params.yaml in nothing but the keys of the
sweep, and prints them as a table. docs/experiments.md has the commands that run them, and how to read it.
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
from slm.core.markdown import table
from slm.core.statistics import wilson_interval
from slm.data.summary import read_summary
from slm.report.figures.style import BLUE, GRAY, GREEN, ORANGE, PERCENT, WIDTH, write_figure

CORPUS_SUMMARY = Path("data/corpus/summary.json")
ENOUGH_TO_FIT = 3  # any two points lie on a line


class Run(NamedTuple):
    """What is shown of an experiment."""

    name: str
    n_layer: int
    n_embd: int
    block_size: int
    parameters: int
    bits_per_byte: float
    consistent: float | None  # the share of its stories; None where nothing can tell
    stories: int | None


class Sweep(NamedTuple):
    """The keys of params.yaml in which its experiments may differ, and what they are drawn over."""

    keys: tuple[str, ...]
    x: str  # a field of Run
    label: str
    draw_loss: Callable[[Axes, list[float], list[Run], float | None], None]


def select(rows: list[dict[str, Any]], keys: Collection[str], sections: Collection[str]) -> list[Run]:
    """The finished runs that differ from params.yaml in nothing but `keys`; one of equal ones.

    `rows` are the lines of `dvc exp show`, the workspace first; `sections` are those of params.yaml.
    """
    here, *others = rows
    fixed = [column for column in here if column.partition(".")[0] in sections and column not in keys]
    found = {}
    for row in others:
        finished = row["State"] in (None, "Success") and _metric(row, "eval", "bits_per_byte") is not None
        if finished and all(row[column] == here[column] for column in fixed):
            found[tuple(row[key] for key in keys)] = _run(row)
    return list(found.values())


def _run(row: dict[str, Any]) -> Run:
    consistent = _metric(row, "eval_samples", "consistency")
    return Run(
        name=row["Experiment"] or row["rev"],
        n_layer=int(row["model.n_layer"]),
        n_embd=int(row["model.n_embd"]),
        block_size=int(row["model.block_size"]),
        parameters=int(_metric(row, "train", "parameters")),
        bits_per_byte=_metric(row, "eval", "bits_per_byte"),
        consistent=consistent,
        stories=None if consistent is None else int(row["eval_samples.num_samples"]),
    )


def _metric(row: dict[str, Any], report: str, name: str) -> float | None:
    """A number of a report, if it has it. DVC puts the file before a name that several files have."""
    value = row.get(f"reports/{report}.json:{name}", row.get(name))
    return value if isinstance(value, float) else None


def fit_power_law(xs: list[float], ys: list[float]) -> tuple[float, float]:
    """c and α of y = c·x^−α: the straight line through the logarithms with the least squares."""
    slope, intercept = np.polyfit(np.log(xs), np.log(ys), 1)
    return float(np.exp(intercept)), float(-slope)


def draw(sweep: Sweep, runs: list[Run], entropy: float | None, path: Path) -> None:
    """Loss, and where it is known how many stories are consistent, over what the sweep changes."""
    xs = [getattr(run, sweep.x) for run in runs]
    n_panels = 2 if any(run.consistent is not None for run in runs) else 1
    figure = Figure(figsize=(WIDTH, 2 + 2.5 * n_panels))
    panels = figure.subplots(n_panels, sharex=True, squeeze=False)
    top, bottom = panels[0, 0], panels[-1, 0]
    sweep.draw_loss(top, xs, runs, entropy)
    if n_panels == 2:
        _draw_consistency(bottom, sweep, runs)
    bottom.set_xlabel(sweep.label)
    write_figure(figure, path)


def draw_sizes(axes: Axes, xs: list[float], runs: list[Run], entropy: float | None) -> None:
    """Loss as a power law of the number of parameters N, straight where both scales are logarithmic.

    L = H + c·N^−α (Hoffmann et al. 2022, eq. 2, with the data held fixed), where the entropy H of the text is
    known and so need not be fitted; else L = c·N^−α (Kaplan et al. 2020, eq. 1.1).
    """
    ys = [run.bits_per_byte - (entropy or 0) for run in runs]
    if min(ys) <= 0:
        raise UserError(f"{CORPUS_SUMMARY}: the entropy is above a loss, so it is of another text")
    axes.loglog(xs, ys, "o", color=BLUE)
    for x, y, run in zip(xs, ys, runs, strict=True):
        _label(axes, x, y, f"{run.n_layer} × {run.n_embd}")
    if len(runs) >= ENOUGH_TO_FIT:
        factor, exponent = fit_power_law(xs, ys)
        line = np.geomspace(min(xs), max(xs))
        axes.plot(line, factor * line**-exponent, color=ORANGE, linewidth=1, zorder=1)
        label = f"{float(f'{factor:.3g}'):,g} × $N^{{{-exponent:.2f}}}$"
        place = {"xycoords": "axes fraction", "ha": "right", "va": "top", "parse_math": True}
        axes.annotate(label, (0.97, 0.92), color=ORANGE, **place)
    axes.set_ylabel("Loss above the entropy\n(bits a byte)" if entropy else "Loss (bits a byte)")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())


def draw_blocks(axes: Axes, xs: list[float], runs: list[Run], entropy: float | None) -> None:
    """Loss over context, with the entropy as its floor."""
    ys = [run.bits_per_byte for run in runs]
    axes.plot(xs, ys, "o-", color=BLUE, linewidth=1)
    for x, y in zip(xs, ys, strict=True):
        _label(axes, x, y, f"{y:.3f}")
    if entropy is not None:
        axes.axhline(entropy, color=GRAY, linewidth=1, linestyle="--")
        _label(axes, min(xs), entropy, f"entropy {entropy:.3f}", GRAY)
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs, [str(x) for x in xs])
    axes.set_ylabel("Loss (bits a byte)")


def _draw_consistency(axes: Axes, sweep: Sweep, runs: list[Run]) -> None:
    """Shares with their 95 % intervals."""
    known = [run for run in runs if run.consistent is not None]
    xs, shares = [getattr(run, sweep.x) for run in known], [run.consistent for run in known]
    intervals = [wilson_interval(run.consistent * run.stories, run.stories) for run in known]
    below_above = np.abs(np.transpose(intervals) - shares)
    axes.errorbar(xs, shares, below_above, fmt="o", color=GREEN, linewidth=1)
    axes.set_ylim(-0.03, 1)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel("Consistent stories")


def _label(axes: Axes, x: float, y: float, text: str, color: str = BLUE) -> None:
    axes.annotate(text, (x, y), xytext=(5, 5), textcoords="offset points", color=color)


SWEEPS = {
    "sizes": Sweep(
        ("model.n_layer", "model.n_embd", "model.n_head", "model.n_kv_head"),
        "parameters",
        "Parameters",
        draw_sizes,
    ),
    "blocks": Sweep(("model.block_size", "train.batch_size"), "block_size", "Context (tokens)", draw_blocks),
}


def markdown(runs: list[Run]) -> str:
    """The runs as a table."""
    head = ["experiment", "layers × width", "block", "parameters", "bits a byte", "consistent"]
    rows = []
    for run in runs:
        size = f"{run.n_layer} × {run.n_embd}"
        consistent = "" if run.consistent is None else f"{run.consistent:.0%} of {run.stories}"
        rows.append(
            (run.name, size, run.block_size, f"{run.parameters:,}", f"{run.bits_per_byte:.4f}", consistent)
        )
    return table(head, rows, align="llrrrr")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.sweep", description="Draw a sweep of experiments.")
    parser.add_argument("sweep", choices=SWEEPS)
    parser.add_argument("-o", dest="path", type=Path, required=True, help="the PNG to write")
    args = parser.parse_args()
    sweep = SWEEPS[args.sweep]
    try:
        rows = dvc.api.exp_show()
    except DvcException as error:
        raise UserError(f"dvc exp show: {error}".splitlines()[0]) from None
    runs = select(rows, sweep.keys, read_yaml(PARAMS_FILE))
    runs.sort(key=lambda run: (getattr(run, sweep.x), run.name))
    if len(runs) < 2:
        raise UserError(f"fewer than two experiments of this commit differ in {', '.join(sweep.keys)} alone")
    found = read_summary(CORPUS_SUMMARY).validation.entropy
    draw(sweep, runs, found.bits_per_byte if found else None, args.path)
    print(markdown(runs))


if __name__ == "__main__":
    run_command(main)
