"""The table of a race, from the log that train_race.py writes.

python -m benchmarks.race_table race.jsonl
"""

import argparse
import json
from pathlib import Path
from statistics import mean

from benchmarks.racing import SIDES, Run
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
    """The runs of a log. Raises UserError if they cannot be compared."""
    try:
        values = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{log}: no such file") from None
    runs = [Run(**value) for value in values]
    if len({run.conditions for run in runs}) > 1:
        raise UserError(f"{log}: holds runs of different conditions; begin another log")
    return runs


def table(runs: list[Run]) -> str:
    """All runs in Markdown, their conditions, and how much sooner the others are where nanoGPT got."""
    if not runs:
        raise UserError("no runs")
    peers = [run for run in runs if run.side == "nanogpt"]
    best = min(peers, key=lambda run: run.loss) if peers else None
    columns = [*COLUMNS, *([f"seconds to {best.loss:.3f}"] if best else [])]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    for run in sorted(runs, key=lambda run: (list(SIDES).index(run.side), run.name, run.rate, run.seed)):
        cells = [run.name, f"{run.parameters:,}", str(run.seed), f"{run.rate:g}"]
        cells += ["yes" if run.compiled else "no", run.dtype, f"{run.tokens / run.seconds:,.0f}"]
        cells += [f"{run.seconds:.1f}", f"{run.loss:.4f}"]
        if best:
            passed = run.seconds_to(best.loss)
            cells.append("not reached" if passed is None else f"{passed:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    names = dict.fromkeys(run.name for run in runs if run.side != "nanogpt") if best else ()
    results = [compare(best, [run for run in runs if run.name == name]) for name in names]
    return "\n".join([*lines, "", *results, "", runs[0].conditions])


def compare(best: Run, runs: list[Run]) -> str:
    """The time that nanoGPT takes to its best loss, over the mean time that these runs take to the same."""
    times = [run.seconds_to(best.loss) for run in runs]
    reached = [seconds for seconds in times if seconds is not None]
    what = f"- {runs[0].name} to the loss {best.loss:.3f}:"
    if len(reached) < len(times):
        return f"{what} {len(times) - len(reached)} of {len(times)} runs do not reach it"
    theirs = best.seconds_to(best.loss)
    assert theirs is not None
    took = f"{mean(reached):.1f} s on average, nanoGPT (learning rate {best.rate:g}) {theirs:.1f} s"
    return f"{what} {took}: **{theirs / mean(reached):.2f} ×**"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of a race.")
    parser.add_argument("log", type=Path)
    print(table(read_log(parser.parse_args().log)))


if __name__ == "__main__":
    run_command(main)
