"""Kill a training run at random moments, and compare its results with those of an uninterrupted run.

    python -m benchmarks.kills [--kills 20] [--steps 12000] [--seed 0]

Each row is one training run: the killed process (the stage, or the dvc that runs it), the signal, the number
of kills, the step of the last checkpoint at each kill, and whether the model, both curves, the metrics and
dvc.lock are bitwise identical. If dvc is killed, the training must exit by itself before the next one starts.
"""

import argparse
import signal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from slm.core.errors import UserError, run_command
from tests.kill_training import DVC, STAGE, digests, project, run, run_killed

COMMANDS = {"the stage": STAGE, "dvc repro": DVC}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def results(folder: Path) -> dict[str, str]:
    """Run to the end; return the digests of the results, and the lock file."""
    process = run(folder, *DVC)
    if process.returncode:
        raise UserError(process.stderr)
    return {**digests(folder), "dvc.lock": (folder / "dvc.lock").read_text()}


def main() -> None:
    """Print a row after each run. Raises UserError if any result differs."""
    parser = argparse.ArgumentParser(description="Kill a training run at random moments.")
    parser.add_argument("--kills", type=int, default=20, help="kills per training run (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=12000, help="steps of a training run (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: %(default)s)")
    args = parser.parse_args()
    # A background process may inherit that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random = Random(args.seed)
    print("| killed | signal | kills | steps of the checkpoints | results |")
    print("|---|---|---:|---|---|")
    with TemporaryDirectory() as folder:
        expected = results(project(Path(folder) / "uninterrupted", args.steps))
    all_identical = True
    for name, command in COMMANDS.items():
        for number in SIGNALS:
            # dvc ignores SIGINT while a stage runs, because a terminal also sends it to the stage.
            if command is DVC and number == signal.SIGINT:
                continue
            with TemporaryDirectory() as folder:
                killed = project(Path(folder) / "killed", args.steps)
                steps = [run_killed(killed, command, number, random) for _ in range(args.kills)]
                # −1: the command ended before it could be killed.
                steps = [step for step in steps if step >= 0]
                identical = results(killed) == expected
            all_identical &= identical
            verdict = "identical" if identical else "DIFFERENT"
            row = [name, number.name, len(steps), ", ".join(map(str, steps)), verdict]
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    if not all_identical:
        raise UserError("the results differ")


if __name__ == "__main__":
    run_command(main)
