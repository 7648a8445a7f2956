"""Measure start-up times: `dvc repro` with nothing to do, and each stage.

    python -m benchmarks.startup [--rounds 5]

`dvc repro` runs in a clone of the project with tiny params that is up to date, and in a pipeline of equally
many trivial stages, which shows the cost of DVC itself. A stage has started when its `main` begins: by then
it has imported its modules and checked its inputs. The next column is the time of the whole stage on tiny
inputs, with later imports. Each measurement is a new process, in interleaved rounds; the table has medians.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.references import describe_machine
from slm.core.errors import UserError, run_command
from tests.pipeline import STAGES
from tests.project import clone, git

UNTIL_MAIN = """
import runpy, sys
import slm.core.stage
slm.core.stage.run_stage = lambda name, main, **_: slm.core.stage.Stage(name)
runpy.run_module(f"stages.{sys.argv[1]}", run_name="__main__")
"""
WHOLE_STAGE = """
import runpy, sys
runpy.run_module(f"stages.{sys.argv[1]}", run_name="__main__")
print("torch" in sys.modules)
"""
REPRO = [sys.executable, "-m", "dvc", "repro"]
FIRST_TOKEN = [sys.executable, "-m", "slm", "generate", "Once", "--max-new-tokens", "1"]


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """Return the duration of a command in seconds, and its output. Raises UserError if it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "SLM_PROGRESS": "off", "SLM_NO_RESUME": "1", "PATH": path}
    start = time.perf_counter()
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if result.returncode:
        raise UserError(f"{' '.join(command)}:\n{result.stderr}")
    return seconds, result.stdout


def trivial_pipeline(folder: Path) -> Path:
    """Create a pipeline with as many stages as the project, each of which copies a file."""
    folder.mkdir()
    git(folder, "init", "-q")
    run([sys.executable, "-m", "dvc", "init", "-q"], folder)
    (folder / "0").write_text("nothing")
    stages = [
        f"  s{i}: {{cmd: cp {i} {i + 1}, deps: ['{i}'], outs: ['{i + 1}']}}" for i in range(len(STAGES))
    ]
    (folder / "dvc.yaml").write_text("\n".join(["stages:", *stages, ""]))
    return folder


def main() -> None:
    """Print one table of commands and stages."""
    parser = argparse.ArgumentParser(description="Measure start-up times.")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    rounds = range(parser.parse_args().rounds)
    with TemporaryDirectory() as name:
        project, trivial = clone(Path(name) / "project"), trivial_pipeline(Path(name) / "trivial")
        commands = {
            "`dvc repro`, nothing to do": (REPRO, project),
            f"`dvc repro`, {len(STAGES)} trivial stages": (REPRO, trivial),
            "`python -c pass`": ([sys.executable, "-c", "pass"], project),
            "`import torch`": ([sys.executable, "-c", "import torch"], project),
            "`slm generate`, one token": (FIRST_TOKEN, project),
        }
        # Bring both pipelines up to date.
        for folder in (project, trivial):
            run(REPRO, folder)
        seconds: dict[str, list[float]] = {}
        imports_torch: dict[str, str] = {}
        for _ in rounds:
            for label, (command, folder) in commands.items():
                seconds.setdefault(label, []).append(run(command, folder)[0])
            for stage in STAGES:
                start, _ = run([sys.executable, "-c", UNTIL_MAIN, stage], project)
                total, output = run([sys.executable, "-c", WHOLE_STAGE, stage], project)
                seconds.setdefault(f"{stage} starts", []).append(start)
                seconds.setdefault(stage, []).append(total)
                imports_torch[stage] = "yes" if output.split()[-1] == "True" else "no"

    print("| | until main, s | total, s | imports torch |\n|---|---:|---:|---|")
    for label in commands:
        print(f"| {label} | | {median(seconds[label]):.2f} | |")
    for stage in STAGES:
        start, total = median(seconds[f"{stage} starts"]), median(seconds[stage])
        print(f"| stage {stage}, tiny inputs | {start:.2f} | {total:.2f} | {imports_torch[stage]} |")
    print(f"\nMedians of {len(rounds)} rounds. {describe_machine('dvc')}.")


if __name__ == "__main__":
    run_command(main)
