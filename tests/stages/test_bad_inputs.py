"""Bad inputs are reported in one line, and existing files stay unchanged."""

import ast
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from dvc.cli import main as dvc
from safetensors.torch import load_file

from slm.core.errors import UserError, run_command
from slm.tokenizer import bins
from tests import bad_inputs
from tests.bad_inputs import BLOWS_UP, CASES_BY_TOPIC, Case, row, run
from tests.faults import (
    START,
    TRAIN_BIN,
    TRAP,
    WINDOW,
    edit_params,
    init_from_export,
    no_fault,
    replace_by_folder,
    shorten_training_split,
    use_text,
    write,
)
from tests.project import ROOT, change_params, commit, git

PAGE = Path(__file__).with_name("messages.md").read_text(encoding="utf-8")
# Lines that may come before the error.
OTHER_LINES = ("warning: ", "training: ")
TOO_LARGE = edit_params(model={"n_layer": 1000, "n_embd": 100_000})
CASES = [
    pytest.param(case, id=f"{topic}: {case.name}")
    for topic, cases in CASES_BY_TOPIC.items()
    for case in cases
]


@pytest.fixture(scope="module")
def clone_once(tmp_path_factory):
    """Return a clone in which all stages have run."""
    return bad_inputs.clone_and_run(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def project(clone_once, tmp_path, monkeypatch):
    """Enter a copy of the clone."""
    monkeypatch.chdir(bad_inputs.copy(clone_once, tmp_path / "project"))


def contents() -> dict[Path, bytes]:
    """Return the content of every file of data/, models/ and reports/, including hidden ones."""
    paths = [path for top in ("data", "models", "reports") for path in Path(top).rglob("*")]
    return {path: path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_changes_no_file(project, case):
    case.inject()
    before = contents()
    status, stderr = run(case)
    lines = stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert status == 1
    assert all(line.startswith(("error: ", *OTHER_LINES)) for line in lines), stderr
    assert len(errors) == 1 or (errors and all(line.startswith("error: params.yaml: ") for line in errors))
    assert len(max(errors, key=len)) < 400
    assert row(case, stderr) in PAGE.splitlines(), "python -m tests.bad_inputs > tests/stages/messages.md"
    assert contents() == before
    assert not list(Path().rglob("*.tmp"))
    assert not Path(TRAP).exists()


def test_messages_page_has_exactly_these_cases():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "| case |" not in line]
    assert len(rows) == len(CASES) >= 60
    assert [line.split(" | ")[0][2:] for line in rows] == [param.values[0].name for param in CASES]


def test_nan_loss_keeps_the_last_finite_checkpoint(project, monkeypatch):
    monkeypatch.setenv("SLM_CHECKPOINT_INTERVAL", "0")
    before = set(Path(".slm/checkpoints").glob("*/*.safetensors"))
    change_params(Path(), {"train": BLOWS_UP})
    status, stderr = run(Case("", "train", no_fault))
    assert (status, "step 3: the training loss is nan" in stderr) == (1, True)
    kept = set(Path(".slm/checkpoints").glob("*/*.safetensors")) - before
    assert [path.name[:10] for path in kept] == ["0000000001"]
    assert all(tensor.isfinite().all() for path in kept for tensor in load_file(path).values())


@pytest.mark.parametrize("at", [0, 999, 1000, -1])
def test_id_outside_the_vocabulary_is_refused_at_any_position(project, monkeypatch, at):
    monkeypatch.setattr(bins, "BLOCK", 1000)
    ids = np.fromfile(TRAIN_BIN, "<u2")
    ids[at] = 300
    write(TRAIN_BIN, ids.tobytes())()
    with pytest.raises(UserError, match=f"token {at % len(ids)} must be less than 300, got 300"):
        bins.open_bin(Path("data/tokens"), "train")


def test_infinite_gradient_norm_is_plotted_as_a_gap(project):
    *rows, last = Path("reports/train.csv").read_text().splitlines()
    write("reports/train.csv", "\n".join([*rows, last.rpartition(",")[0] + ",inf\n"]))()
    before = Path("reports/figures/optimization.png").read_bytes()
    assert run(Case("", "plot", no_fault)) == (0, "")
    assert Path("reports/figures/optimization.png").read_bytes() != before


def test_programming_error_keeps_its_traceback():
    def bug() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_command(bug)


def test_training_split_of_one_window_suffices(project):
    shorten_training_split(WINDOW)()
    status, stderr = run(Case("", "train", no_fault))
    assert (status, "error" in stderr) == (0, False)


def test_training_starts_from_an_exported_model(project):
    best = json.loads(Path("reports/details/train.json").read_text())["best_val_loss"]
    init_from_export(no_fault)()
    assert run(Case("", "train", no_fault))[0] == 0
    first = Path("reports/val.csv").read_text().splitlines()[1]
    assert float(first.split(",")[-1]) == pytest.approx(best, rel=1e-5)
    assert json.loads(Path("reports/details/train.json").read_text())["init_from"] == START


def test_unwritable_log_is_only_a_warning(project):
    replace_by_folder(".slm/log.jsonl")()
    Path("reports/eval.json").unlink()
    status, stderr = run(Case("", "evaluate", no_fault))
    assert (status, stderr) == (0, "warning: .slm/log.jsonl: could not be written: Is a directory\n")
    assert json.loads(Path("reports/eval.json").read_text())["val_loss"] > 0


@pytest.mark.parametrize(
    ("inject", "line"),
    [
        (use_text("mine.txt", b"na\xefve"), "error: mine.txt: not UTF-8 at byte 2"),
        (TOO_LARGE, "error: params.yaml: training needs more than 1,5"),
    ],
    ids=["text", "model"],
)
def test_dvc_prints_the_line_and_results_can_be_restored(
    clone_once, tmp_path, monkeypatch, capfd, inject, line
):
    monkeypatch.chdir(shutil.copytree(clone_once, tmp_path / "project"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    assert dvc(["commit", "--force", "--quiet"]) == 0
    commit(Path())
    before = contents()
    inject()
    capfd.readouterr()
    assert dvc(["repro"]) != 0
    stderr = capfd.readouterr().err
    assert [text.startswith(line) for text in stderr.splitlines() if text.startswith("error: ")] == [True]
    assert "Traceback" not in stderr
    git(Path(), "checkout", "--quiet", "params.yaml", "reports")
    assert dvc(["checkout", "--quiet"]) == 0
    assert contents() == before
    assert dvc(["repro", "--dry"]) == 0


def test_no_module_loads_executable_formats():
    """Only safetensors, JSON and flat numbers are loaded, so that a file cannot bring code."""
    forbidden = {"pickle", "dill", "joblib", "shelve", "marshal", "eval", "exec"}
    forbidden |= {"torch.load", "torch.jit.load", "numpy.load", "np.load"}
    for path in [*(ROOT / "slm").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                used |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        assert not used & forbidden, path
