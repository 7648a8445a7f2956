"""Declared inputs of a stage, their changes during a run, and the versions of libraries."""

import json
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest

from slm.core.errors import UserError
from slm.core.stage import Stage, check_versions, read_pins, resolve, run_stage
from slm.data.params import DataParams
from slm.tokenizer.params import TokenizerParams
from tests.kill_training import STAGE, environment_of, last_step, run
from tests.kill_training import project as ready_to_train
from tests.project import change_params, clone, git, run_stages
from tests.tiny import SFT


@pytest.fixture(scope="module")
def clone_once(tmp_path_factory):
    folder = clone(tmp_path_factory.mktemp("clone"))
    with chdir(folder):
        run_stages("download")
    return folder


@pytest.fixture
def project(clone_once, monkeypatch):
    monkeypatch.chdir(clone_once)
    yield clone_once
    git(clone_once, "checkout", "-q", ".")


def test_load_returns_only_declared_sections(project):
    stage = Stage("tokenize")
    assert stage.load(TokenizerParams).vocab_size == 300
    with pytest.raises(LookupError, match=r"dvc\.yaml: stage tokenize does not declare the params `data`"):
        stage.load(DataParams)


def test_rewritten_file_and_other_param_count_as_unchanged(project):
    stage = Stage("tokenize")
    for path in (Path("slm/core/files.py"), Path("data/corpus/train.parquet")):
        # This changes only the modification time.
        path.write_bytes(path.read_bytes())
    change_params(project, {"sample": {"temperature": 0.1}})
    stage.check_unchanged()


@pytest.mark.parametrize(
    "path", ["slm/core/files.py", "data/corpus/train.parquet", "requirements/tokens.txt"]
)
def test_changed_file_is_reported(project, path):
    stage, path = Stage("tokenize"), Path(path)
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    expected = f"{path} changed while the stage ran; run dvc repro again"
    with pytest.raises(UserError, match=f"^{expected}"):
        stage.check_unchanged()
    path.write_bytes(before)
    stage.check_unchanged()


def test_new_and_removed_files_are_reported(project):
    stage, extra = Stage("tokenize"), Path("data/corpus/extra.parquet")
    extra.write_bytes(b"")
    assert stage.changed_inputs() == ["data/corpus/extra.parquet"]
    extra.unlink()
    other = Path("slm/core/progress.py").rename("slm/moved.py")
    assert stage.changed_inputs() == ["slm/core/progress.py"]
    other.rename("slm/core/progress.py")


def test_changed_param_is_reported_by_key(project):
    stage = Stage("download")
    change_params(project, {"data": {"max_documents": 7, "files": {"train": "a", "validation": ""}}})
    changes = stage.changed_inputs()
    assert changes[:2] == ["params.yaml (data.files.train)", "params.yaml (data.files.validation)"]
    assert "params.yaml (data.max_documents)" in changes


def test_foreach_stage_depends_only_on_its_own_item(project):
    change_params(project, {"sft": {"a": SFT, "b": SFT}})
    stage = Stage("sft@a")
    assert stage.params["sft"] == {"a": SFT}
    change_params(project, {"sft": {"a": SFT, "b": {**SFT, "seed": 2}}})
    stage.check_unchanged()
    change_params(project, {"sft": {"a": {**SFT, "seed": 2}}})
    assert stage.changed_inputs() == ["params.yaml (sft.a.seed)"]


def test_item_name_that_is_a_number_is_refused(project):
    change_params(project, {"sft": {1: SFT}})
    with pytest.raises(UserError, match=r"^params\.yaml: sft: must contain '1', got no names$"):
        Stage("sft@1")


def test_edit_during_a_stage_fails_it_and_keeps_dvc_lock(tmp_path):
    folder = ready_to_train(tmp_path, max_steps=300)
    lock = (folder / "dvc.lock").read_text()
    dvc = [sys.executable, "-m", "dvc", "repro", "train"]
    process = subprocess.Popen(dvc, cwd=folder, env=environment_of(), stderr=subprocess.PIPE, text=True)
    while not last_step(folder / ".slm/checkpoints"):
        time.sleep(0.01)
    change_params(folder, {"model": {"n_layer": 2}})
    error = process.communicate()[1]
    assert process.returncode != 0
    assert "error: params.yaml (model.n_layer) changed while the stage ran; run dvc repro" in error
    assert (folder / "dvc.lock").read_text() == lock
    log = [json.loads(line) for line in (folder / ".slm/log.jsonl").read_text().splitlines()]
    assert (log[-1]["stage"], log[-1]["result"]) == ("train", "failed")

    # After the edit is reverted, training resumes from its last checkpoint.
    change_params(folder, {"model": {"n_layer": 1}})
    again = run(folder, *STAGE)
    assert again.returncode == 0
    assert "resuming from step 300/300" in again.stderr


def test_invalid_section_is_one_line(project, capsys):
    change_params(project, {"data": {"files": 3}})
    with pytest.raises(SystemExit) as end:
        run_stage("download", lambda stage: stage.load(DataParams))
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("error: params.yaml: data.files: ")


def test_resolve_replaces_known_placeholders():
    values = {"data": {"files": {"train": "a.txt"}}}
    assert resolve("${data.files.train}", values) == "a.txt"
    assert resolve("slm/core/files.py", values) == "slm/core/files.py"
    assert resolve("${data.files.other}", values) == "${data.files.other}"


def test_version_that_is_not_pinned_is_a_warning(tmp_path, capsys):
    path = tmp_path / "torch.txt"
    path.write_text("# why\ntorch==1.0.0  # old\nnumpy==2.4.6\nnot-there==1.0\n-r other.txt\n")
    assert read_pins(path) == {"torch": "1.0.0", "numpy": "2.4.6", "not-there": "1.0"}
    assert check_versions([path]) == {"torch": "2.13.0", "numpy": "2.4.6", "not-there": "none"}
    assert capsys.readouterr().err == (
        f"warning: torch 2.13.0 is installed, {path} pins 1.0.0\n"
        f"warning: not-there none is installed, {path} pins 1.0\n"
    )


def test_stage_logs_its_run_and_writes_no_tracked_file(project):
    before = git(project, "status", "--short")
    assert run(project, sys.executable, "-m", "stages.download").returncode == 0
    assert git(project, "status", "--short") == before
    entry = json.loads(Path(".slm/log.jsonl").read_text().splitlines()[-1])
    assert entry.keys() == {"started", "stage", "result", "seconds", "versions"}
    assert entry["stage"] == "download"
    assert 0 < entry["seconds"] < 100
