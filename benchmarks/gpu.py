"""Validate a GPU in five minutes: correctness, resuming, speed, learning and generation.

    python -m benchmarks.gpu [--out gpu-check] [--only PHASE ...] [--nanogpt CHECKOUT] [--minutes 5] [--cpu]

Each phase is a process with its own time limit, the most important first. Results are written at once to
results.jsonl and log.txt in the folder `--out`; a phase that fails leaves its traceback in the log, and the
next one starts. The phases share `--minutes`; time that one does not use passes to the next ones. The results
of other phases are kept, so that failed ones can be repeated with `--only`.

- correct: losses and text on the GPU against the CPU in float32; float types; compiled against eager
- resume: deterministic runs, one of them killed and resumed, end with equal bytes
- speed: tokens per second, utilization of the GPU, memory, and the parts of a training step, per recipe
- learn: train on the story grammar for a minute; n-gram gap closed, consistent stories
- generate: tokens per second of generation and evaluation

The corpus is generated from the story grammar before the phases, outside their time. Nothing is downloaded.
docs/gpu.md lists the packages that are needed. `--cpu` runs all phases on the CPU with tiny models, to test
this program.
"""

import argparse
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any, TextIO

from benchmarks.gpu_settings import ROOT, Context, make_corpus, read_records
from slm.core.errors import UserError, run_command

# Phases and their shares of the time.
PHASES = {"correct": 45, "resume": 60, "speed": 80, "learn": 105, "generate": 25}
# The corpus is generated before, outside the time of the phases.
CORPUS, CORPUS_SECONDS = "corpus", 300
# Time for a hanging process to write its traceback before it is killed.
TRACEBACK_SECONDS = 2
MIN_SECONDS = 10
MAX_THREADS = 8


def run_phase(phase: str, args: argparse.Namespace, seconds: float, log: TextIO) -> bool:
    """Run a phase in a process of its own and record if it fails; return whether it succeeded."""
    print(f"{phase} (at most {seconds:.0f} s)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--phase", phase, "--out", str(args.out)]
    command += ["--seconds", str(seconds)] + ["--cpu"] * args.cpu
    command += ["--nanogpt", str(args.nanogpt)] if args.nanogpt else []
    # With many threads a small model is slower.
    environment = {"OMP_NUM_THREADS": str(min(os.cpu_count() or 1, MAX_THREADS)), **os.environ}
    environment |= {"SLM_PROGRESS": "off", "SLM_PROCESSES": "1", "PYTHONUNBUFFERED": "1"}
    # An empty cache, so that compilation is measured; phases share it.
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(args.out / "compiled")
    # Threads of tiny operations wait for each other most of the time.
    environment |= {"SLM_DEVICE": "cpu", "OMP_NUM_THREADS": "1"} if args.cpu else {}
    start, context = time.monotonic(), Context(phase, args.out, args.cpu)
    # A session of its own, so that its child processes can be killed, too.
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        status: int | str = process.wait(seconds + TRACEBACK_SECONDS)
    except subprocess.TimeoutExpired:
        status = "timeout"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    verdict = "FAILED" if status else "measured"
    context.record("phase", verdict, status=status, seconds=round(time.monotonic() - start, 1))
    return not status


def run_here(args: argparse.Namespace) -> None:
    """Run a phase in this process."""
    deadline = time.monotonic() + args.seconds
    # A process that hangs writes the traceback of all threads and exits.
    faulthandler.dump_traceback_later(args.seconds, exit=True)
    context = Context(args.phase, args.out, args.cpu, deadline, args.nanogpt)
    if args.phase == CORPUS:
        make_corpus(context)
        return
    # Imported here: the processes that generate the corpus import this module, and torch takes seconds.
    from benchmarks import gpu_checks, gpu_learn, gpu_resume, gpu_speed

    phases = {"correct": gpu_checks.run_correct, "resume": gpu_resume.run_resume}
    phases |= {"speed": gpu_speed.run_speed, "learn": gpu_learn.run_learn, "generate": gpu_learn.run_generate}
    try:
        phases[args.phase](context)
    except Exception as error:
        traceback.print_exc()
        context.record("phase", "FAILED", error=f"{type(error).__name__}: {error}"[:500])
        sys.exit(1)


def describe_device(is_cpu: bool) -> str:
    """Return the machine as text. Raises UserError if there is no GPU."""
    if is_cpu:
        os.environ["SLM_DEVICE"] = "cpu"
    import torch

    from benchmarks.references import describe_machine
    from slm.model.device import pick_device

    if not is_cpu and pick_device().type == "cpu":
        raise UserError(f"torch {torch.__version__} finds no GPU; --cpu runs tiny models on the CPU")
    return describe_machine()


def table(records: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| phase | check | verdict | values |", "|---|---|---|---|"]
    for record in records:
        phase, check, verdict, *values = record.items()
        cells = [str(value).replace("|", "\\|") for _, value in (phase, check, verdict)]
        described = [f"{name} {format_value(value)}" for name, value in values if value is not None]
        text = ", ".join(described).replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {' | '.join(cells)} | {text} |")
    return "\n".join(lines)


def format_value(value: Any) -> str:
    """Return a value with separators of thousands."""
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def main() -> None:
    """Run the phases and print the table. Exit with status 1 if a check failed."""
    parser = argparse.ArgumentParser(description="Validate a GPU.")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="default: %(default)s")
    phases_help = f"phases to run: {', '.join(PHASES)} (default: all)"
    parser.add_argument(
        "--only", nargs="+", choices=PHASES, default=list(PHASES), metavar="PHASE", help=phases_help
    )
    parser.add_argument("--nanogpt", type=Path, help="checkout of nanoGPT to compare the speed with")
    parser.add_argument("--minutes", type=float, default=5, help="time limit of all phases (default: 5)")
    parser.add_argument("--cpu", action="store_true", help="run all phases on the CPU with tiny models")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.nanogpt = args.nanogpt and args.nanogpt.resolve()
    if args.phase:
        run_here(args)
        return

    machine = describe_device(args.cpu)
    args.out.mkdir(parents=True, exist_ok=True)
    phases = [phase for phase in PHASES if phase in args.only]
    shares = {phase: PHASES[phase] for phase in phases}
    # A previous corpus may be of another size.
    needs_corpus = not (args.out / "corpus/meta.json").exists() or phases == list(PHASES)
    repeated = [*phases, CORPUS] if needs_corpus else phases
    kept = [record for record in read_records(args.out) if record["phase"] not in repeated]
    lines = [json.dumps(record) + "\n" for record in kept]
    (args.out / "results.jsonl").write_text("".join(lines), encoding="utf-8")
    mode = "a" if kept else "w"
    rmtree(args.out / "compiled", ignore_errors=True)
    with (args.out / "log.txt").open(mode, encoding="utf-8") as log:
        if needs_corpus and not run_phase(CORPUS, args, CORPUS_SECONDS, log):
            raise UserError(f"the corpus could not be generated; see {args.out / 'log.txt'}")
        deadline = time.monotonic() + 60 * args.minutes
        for number, phase in enumerate(shares):
            left = deadline - time.monotonic()
            seconds = left * shares[phase] / sum(list(shares.values())[number:]) - TRACEBACK_SECONDS
            if seconds < MIN_SECONDS:
                Context(phase, args.out, args.cpu).record("phase", "FAILED", error="no time left")
            else:
                run_phase(phase, args, seconds, log)
    order = [CORPUS, *PHASES]
    records = sorted(read_records(args.out), key=lambda record: order.index(record["phase"]))
    print(f"{table(records)}\n\n{machine}.")
    failed = [record for record in records if record["verdict"] == "FAILED"]
    print(f"{len(failed)} failed; details in {args.out / 'log.txt'}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
