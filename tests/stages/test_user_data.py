"""User data is at paths that neither git nor DVC writes, so no recommended command overwrites it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slm.core.config import NOT_SET, read_yaml
from slm.core.errors import UserError
from slm.core.stage import DVC_FILE, Stage
from tests.pipeline import clone_that_ran, enter
from tests.project import ROOT, change_params, git, outputs
from tests.tiny import SFT

TEXT = "<|endoftext|>".join(f"Once there were {n} cats." for n in range(200))


@pytest.fixture
def project(tmp_path_factory, monkeypatch):
    folder = clone_that_ran(tmp_path_factory)
    enter(folder, monkeypatch)
    return folder


def run(*command):
    return subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, text=True)


def test_params_name_no_tracked_file_except_the_placeholder():
    tracked = set(git(ROOT, "ls-files").splitlines())
    assert (ROOT / NOT_SET).read_bytes() == b""
    for path in [ROOT / "params.yaml", *(ROOT / "recipes").glob("*.yaml")]:
        values = read_yaml(path)
        names = list((values.get("data", {}).get("files") or {}).values())
        names += [values.get("train", {}).get("init_from")]
        names += [item["file"] for item in values.get("sft", {}).values()]
        assert {name for name in names if name} & tracked <= {NOT_SET}


def test_user_folder_is_ignored_and_no_stage_writes_there():
    assert git(ROOT, "check-ignore", "data/user/stories.txt").strip() == "data/user/stories.txt"
    for stage in read_yaml(ROOT / DVC_FILE)["stages"].values():
        for out in map(Path, outputs(stage.get("do", stage))):
            assert Path("data/user") not in (out, *out.parents)
            assert out not in Path("data/user/stories.txt").parents


def test_git_and_dvc_keep_user_data(project):
    run("dvc", "exp", "run", "-n", "older", "-S", "sample.seed=2", "sample")
    git(project, "checkout", ".")
    files = [Path("data/user/stories.txt"), Path("data/user/model/model.safetensors")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT)
    change_params(
        project, {"data": {"source": "files", "files": {"train": str(files[0]), "validation": NOT_SET}}}
    )
    run("dvc", "exp", "run", "-n", "user", "download")
    ref = git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()[0]
    assert "data/user" not in git(project, "ls-tree", "-r", "--name-only", ref)
    for command in (["exp", "apply", "older"], ["checkout"]):
        run("dvc", *command)
        git(project, "checkout", ".")
        run("dvc", "checkout")
        assert [path.read_text() for path in files] == [TEXT, TEXT]
    assert git(project, "status", "--porcelain", "data/user") == ""


def test_filled_placeholder_is_refused(project):
    Path(NOT_SET).write_text(TEXT)
    result = subprocess.run([sys.executable, "-m", "stages.train"], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "error: data/none: must be empty, because it stands for no file; "
        "move your data to data/user/ and set train.init_from to its path"
    )
    assert Path(NOT_SET).read_text() == TEXT


@pytest.mark.parametrize("content", ["text", "folder"])
@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("download", "data.files.train"),
        ("train", "train.init_from"),
        ("sft@a", "sft.a.file"),
        ("eval_sft@a", "sft.a.file"),
        ("eval_dataset@b", "evaluate.datasets.b.file"),
    ],
)
def test_filled_placeholder_is_reported_with_the_key(tmp_path, monkeypatch, stage, key, content):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy2(ROOT / name, tmp_path)
    dataset = {"file": NOT_SET, "metric": "bits_per_byte"}
    change_params(tmp_path, {"sft": {"a": SFT}, "evaluate": {"datasets": {"b": dataset}}})
    monkeypatch.chdir(tmp_path)
    if content == "folder":
        Path(NOT_SET).mkdir(parents=True)
    else:
        Path(NOT_SET).parent.mkdir()
        Path(NOT_SET).write_text(TEXT)
    with pytest.raises(UserError, match=f"^{NOT_SET}: must be empty, .* and set {key} to its path$"):
        Stage(stage)


def test_source_files_without_a_file_names_the_key(project):
    change_params(project, {"data": {"source": "files"}})
    result = subprocess.run([sys.executable, "-m", "stages.download"], capture_output=True, text=True)
    assert "params.yaml: data.files: train must be the path of your text" in result.stderr
