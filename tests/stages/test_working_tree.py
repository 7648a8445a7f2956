"""Stages run the code of their own working tree, although the package is installed from another one."""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.pipeline import enter
from tests.project import clone, commit

LICENSE = '"license": "MIT"'


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Enter a second clone, whose download stage writes its own path as the license of the corpus."""
    clone(tmp_path)
    sources = tmp_path / "slm/data/sources.py"
    code = sources.read_text(encoding="utf-8")
    assert LICENSE in code
    sources.write_text(code.replace(LICENSE, '"license": __file__'), encoding="utf-8")
    commit(tmp_path)
    enter(tmp_path, monkeypatch)
    return tmp_path


def run(*command):
    return subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, text=True).stdout


def test_package_is_installed_from_a_checkout():
    urls = [package.read_text("direct_url.json") for package in distributions(name="slm")]
    assert any(json.loads(url)["dir_info"]["editable"] for url in urls if url), (
        "pip install -r requirements.txt"
    )


def test_stage_in_a_second_clone_imports_that_clone(other):
    run("dvc", "repro", "download")
    written_by = json.loads(Path("data/corpus/summary.json").read_text())["license"]
    assert Path(written_by) == other / "slm/data/sources.py"


def test_stage_in_a_temporary_experiment_imports_its_copy(other):
    run("dvc", "exp", "run", "--temp", "-n", "elsewhere", "-S", "data.seed=7", "download")
    run("dvc", "get", "--rev", "elsewhere", ".", "data/corpus/summary.json", "-o", "summary.json")
    written_by = Path(json.loads(Path("summary.json").read_text())["license"])
    assert written_by.is_relative_to(other / ".dvc/tmp/exps")
