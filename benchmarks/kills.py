"""Kill a training at random moments and compare what it leaves in the end with one that was left alone.

    python -m benchmarks.kills [--kills 20] [--steps 12000] [--seed 0]

Each row is one training: what is killed, the stage itself or the dvc that runs it, and by which signal; how
often, the last step that was on disk each time, and whether the model, both curves, the metrics and dvc.lock
have the same bytes. Where dvc is killed, its training has to end by itself before the next one starts.
"""

import argparse
import signal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from slm.core.errors import UserError, run_command
from tests.killing import DVC, STAGE, digests, project, run, run_killed

COMMANDS = {"the stage": STAGE, "dvc repro": DVC}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def results(folder: Path) -> dict[str, str]:
    """Run to the end; digests of what training left, and the lock file."""
    ended = run(folder, *DVC)
    if ended.returncode:
        raise UserError(ended.stderr)
    return {**digests(folder), "dvc.lock": (folder / "dvc.lock").read_text()}


def main() -> None:
    """Print a row as soon as it is known; end with status 1 if any bytes differ."""
    parser = argparse.ArgumentParser(description="Kill a training at random moments.")
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # in the background it may be ignored, and inherited
    random = Random(arguments.seed)
    print("| killed | by | kills | steps on disk | bytes |")
    print("|---|---|---:|---|---|")
    with TemporaryDirectory() as folder:
        whole = results(project(Path(folder) / "whole", arguments.steps))
    all_equal = True
    for what, command in COMMANDS.items():
        for number in SIGNALS:
            if command is DVC and number == signal.SIGINT:
                continue  # dvc ignores it while a stage runs; a terminal sends it to the stage as well
            with TemporaryDirectory() as folder:
                killed = project(Path(folder) / "killed", arguments.steps)
                steps = [run_killed(killed, command, number, random) for _ in range(arguments.kills)]
                steps = [step for step in steps if step >= 0]
                equal = results(killed) == whole
            all_equal &= equal
            row = [what, number.name, len(steps), ", ".join(map(str, steps)), "equal" if equal else "DIFFER"]
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    if not all_equal:
        raise UserError("the bytes differ")


if __name__ == "__main__":
    run_command(main)
