"""Phase `resume` of the GPU validation (benchmarks/gpu.py)."""

import json
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

from benchmarks.gpu_checks import case, model_and_train_params, small_batches
from benchmarks.gpu_settings import ROOT, Context
from slm.model.device import setup_torch, should_compile
from slm.train.checkpoints import RunInputs
from slm.train.trainer import train


def run_resume(context: Context) -> None:
    """Kill deterministic training runs, resume them, and compare their bytes with those of undisturbed runs.

    All runs train at the same time, which saves the time to start and compile.
    """
    root = context.out / "resume"
    # Checkpoints of an earlier validation would be resumed.
    rmtree(root, ignore_errors=True)
    runs = [root / name / kind for name in context.settings.resume for kind in ("first", "second", "killed")]
    processes = {run: start_training(context, run) for run in runs}
    try:
        killed_at = {run: 0 for run in runs if run.name == "killed"}
        while not all(killed_at.values()) and any(process.poll() is None for process in processes.values()):
            for run in [run for run, step in killed_at.items() if not step]:
                if (
                    last_checkpoint(run) >= context.settings.resume_steps // 4
                    and processes[run].poll() is None
                ):
                    processes[run].kill()
                    processes[run].wait()
                    killed_at[run] = last_checkpoint(run)
                    processes[run] = start_training(context, run)
            time.sleep(0.01)
        for name in context.settings.resume:
            with case(context, name):
                for kind in ("first", "second", "killed"):
                    if status := processes[root / name / kind].wait():
                        raise RuntimeError(f"the {kind} run ended with status {status}")
                step = killed_at[root / name / "killed"]
                if not step:
                    raise RuntimeError("the run ended before it could be killed")
                expected = digest(root / name / "first")
                for kind, check in (("second", "two runs"), ("killed", "SIGKILL and resume")):
                    actual = digest(root / name / kind)
                    values = {"digest": actual, "expected_digest": expected}
                    values |= {"killed_at_step": step} if kind == "killed" else {}
                    context.record(f"{name}: {check}", "ok" if actual == expected else "FAILED", **values)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def start_training(context: Context, run: Path) -> subprocess.Popen[bytes]:
    """Start a process that trains in the folder `run`, whose parent is named in `Settings.resume`."""
    run.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_resume", str(context.out), str(run)]
    command += ["cpu"] if context.is_cpu else []
    # Several processes compile at the same time. Only the run to kill needs checkpoints, at every step.
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "4"}
    environment |= {"SLM_CHECKPOINT_INTERVAL": "0"} if run.name == "killed" else {}
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def last_checkpoint(run: Path) -> int:
    """Return the step of the last checkpoint, or 0."""
    return max((int(path.name[:10]) for path in run.glob("checkpoints/*/*.safetensors")), default=0)


def digest(folder: Path) -> str:
    """Return the start of the SHA-256 of the weights and the loss curves."""
    files = (folder / "models/model.safetensors", folder / "curves.json")
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def train_once(context: Context, folder: Path) -> None:
    """Train deterministically with dropout, and write the weights and the curves."""
    device = setup_torch(deterministic=True)
    architecture, _, mode = folder.parent.name.partition("-")
    changes = {
        "deterministic": True,
        "dtype": "auto",
        "compile": mode != "eager" and should_compile("auto", device),
    }
    changes["optimizer"] = "muon" if architecture == "rope" else "adamw"
    model, params = model_and_train_params(context, architecture, context.settings.resume_steps, **changes)
    model = model.model_copy(update={"dropout": 0.1})
    batches, vocab_size, _ = small_batches(context, model.block_size, params)
    inputs = {"params": {"train": params.model_dump(), "model": model.model_dump()}}
    run = RunInputs(folder / "checkpoints", inputs)
    result = train(model, params, batches, vocab_size, folder / "models", run)
    curves = [point.model_dump() for point in (*result.train_curve, *result.val_curve)]
    (folder / "curves.json").write_text(json.dumps(curves), encoding="utf-8")


if __name__ == "__main__":
    out, run = map(Path, sys.argv[1:3])
    train_once(Context("resume", out, is_cpu="cpu" in sys.argv[3:]), run)
