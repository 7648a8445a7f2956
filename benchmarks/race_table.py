"""Print the table of a race from the log of train_race.py: python -m benchmarks.race_table race.jsonl"""

import argparse
import json
from pathlib import Path
from statistics import mean

from benchmarks.racing import IMPLEMENTATIONS, Run
from slm.core.errors import UserError, run_command

COLUMNS = [
    "",
    "parameters",
    "seed",
    "learning rate",
    "compiled",
    "dtype",
    "tok/s",
    "seconds",
    "validation loss",
]


def read_log(log: Path) -> list[Run]:
    """Read the runs of a log. Raises UserError if they are not comparable."""
    try:
        values = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{log}: no such file") from None
    runs = [Run(**value) for value in values]
    if len({run.conditions for run in runs}) > 1:
        raise UserError(f"{log}: contains runs with different conditions; start a new log")
    return runs


def table(runs: list[Run]) -> str:
    """Return all runs as a Markdown table, the speed-ups to the best loss of nanoGPT, and the conditions."""
    if not runs:
        raise UserError("no runs")
    nanogpt_runs = [run for run in runs if run.implementation == "nanogpt"]
    best = min(nanogpt_runs, key=lambda run: run.loss) if nanogpt_runs else None
    columns = [*COLUMNS, *([f"seconds to {best.loss:.3f}"] if best else [])]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    order = list(IMPLEMENTATIONS)
    for run in sorted(
        runs, key=lambda run: (order.index(run.implementation), run.name, run.peak_lr, run.seed)
    ):
        cells = [run.name, f"{run.num_params:,}", str(run.seed), f"{run.peak_lr:g}"]
        cells += ["yes" if run.compiled else "no", run.dtype, f"{run.tokens_seen / run.seconds:,.0f}"]
        cells += [f"{run.seconds:.1f}", f"{run.loss:.4f}"]
        if best:
            seconds = run.seconds_to(best.loss)
            cells.append("not reached" if seconds is None else f"{seconds:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    names = dict.fromkeys(run.name for run in runs if run.implementation != "nanogpt") if best else ()
    speedups = [describe_speedup(best, [run for run in runs if run.name == name]) for name in names]
    return "\n".join([*lines, "", *speedups, "", runs[0].conditions])


def describe_speedup(best: Run, runs: list[Run]) -> str:
    """Return the time of nanoGPT to its best loss divided by the mean time of these runs to the same loss."""
    times = [run.seconds_to(best.loss) for run in runs]
    reached = [seconds for seconds in times if seconds is not None]
    subject = f"- {runs[0].name} to the loss {best.loss:.3f}:"
    if len(reached) < len(times):
        return f"{subject} {len(times) - len(reached)} of {len(times)} runs do not reach it"
    nanogpt_seconds = best.seconds_to(best.loss)
    assert nanogpt_seconds is not None
    times_taken = (
        f"{mean(reached):.1f} s on average, nanoGPT (learning rate {best.peak_lr:g}) {nanogpt_seconds:.1f} s"
    )
    return f"{subject} {times_taken}: **{nanogpt_seconds / mean(reached):.2f} ×**"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print the table of a race.")
    parser.add_argument("log", type=Path, help="log of benchmarks.train_race, e.g. race.jsonl")
    print(table(read_log(parser.parse_args().log)))


if __name__ == "__main__":
    run_command(main)
