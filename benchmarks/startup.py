"""What it costs to begin: `dvc repro` with nothing to do, and the start of each stage.

    python -m benchmarks.startup [--rounds 5]

`dvc repro` runs in a clone of the project with tiny params in which all is done, beside a pipeline of as many
empty stages: what DVC costs by itself. A stage has started when its `main` begins: until then it has imported
what it always needs, and looked at all of its inputs. The next column is all of it on tiny inputs, with what
it imports on its way. All are processes of their own, in turns; medians are shown.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.peers import machine
from slm.core.errors import UserError, run_command
from tests.pipeline import STAGES
from tests.project import clone, git

UNTIL_MAIN = """
import runpy, sys
import slm.core.stage
slm.core.stage.run_stage = lambda name, main: slm.core.stage.Stage(name)
runpy.run_module(f"stages.{sys.argv[1]}", run_name="__main__")
"""
WHOLE = """
import runpy, sys
runpy.run_module(f"stages.{sys.argv[1]}", run_name="__main__")
print("torch" in sys.modules)
"""
REPRO = [sys.executable, "-m", "dvc", "repro"]
FIRST_TOKEN = [sys.executable, "-m", "slm", "generate", "Once", "--max-new-tokens", "1"]


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """Seconds that a command takes in a folder, and what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "SLM_PROGRESS": "off", "SLM_NO_RESUME": "1", "PATH": path}
    start = time.perf_counter()
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if result.returncode:
        raise UserError(f"{' '.join(command)}:\n{result.stderr}")
    return seconds, result.stdout


def empty_pipeline(folder: Path) -> Path:
    """As many stages that copy a file, one after the other."""
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
    """Print both tables in one: commands, then stages."""
    parser = argparse.ArgumentParser(description="Measure what it costs to begin.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = range(parser.parse_args().rounds)
    with TemporaryDirectory() as name:
        project, empty = clone(Path(name) / "project"), empty_pipeline(Path(name) / "empty")
        commands = {
            "`dvc repro`, nothing to do": (REPRO, project),
            f"the same, {len(STAGES)} empty stages": (REPRO, empty),
            "`python -c pass`": ([sys.executable, "-c", "pass"], project),
            "`import torch`": ([sys.executable, "-c", "import torch"], project),
            "`slm generate`, the first token": (FIRST_TOKEN, project),
        }
        for folder in (project, empty):
            run(REPRO, folder)
        seconds: dict[str, list[float]] = {}
        torch_in: dict[str, str] = {}
        for _ in rounds:
            for what, (command, folder) in commands.items():
                seconds.setdefault(what, []).append(run(command, folder)[0])
            for stage in STAGES:
                start, _ = run([sys.executable, "-c", UNTIL_MAIN, stage], project)
                whole, printed = run([sys.executable, "-c", WHOLE, stage], project)
                seconds.setdefault(f"{stage} starts", []).append(start)
                seconds.setdefault(stage, []).append(whole)
                torch_in[stage] = "yes" if printed.split()[-1] == "True" else "no"

    print("| | until main, s | in all, s | loads torch |\n|---|---:|---:|---|")
    for what in commands:
        print(f"| {what} | | {median(seconds[what]):.2f} | |")
    for stage in STAGES:
        start, whole = median(seconds[f"{stage} starts"]), median(seconds[stage])
        print(f"| stage {stage}, tiny inputs | {start:.2f} | {whole:.2f} | {torch_in[stage]} |")
    print(f"\nMedians of {len(rounds)} rounds. {machine('dvc')}.")


if __name__ == "__main__":
    run_command(main)
