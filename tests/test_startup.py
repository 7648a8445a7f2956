"""A stage begins quickly: torch takes seconds to import, so only the stages that compute with it do."""

import os
import subprocess
import sys

import pytest

from tests.pipeline import STAGES
from tests.project import clone

NEED_TORCH = {"train", "evaluate", "sample", "quality"}
RUN = """
import runpy, sys
runpy.run_module(f"stages.{sys.argv[1]}", run_name="__main__")
print("torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def loads_torch(tmp_path_factory):
    """For each stage, run to its end on tiny inputs: whether torch was imported."""
    folder, found = clone(tmp_path_factory.mktemp("project")), {}
    for stage in STAGES:
        command, env = [sys.executable, "-c", RUN, stage], {**os.environ, "SLM_PROGRESS": "off"}
        result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        found[stage] = result.stdout.split()[-1] == "True"
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_torch_only_if_it_computes_with_it(stage, loads_torch):
    assert loads_torch[stage] == (stage in NEED_TORCH)


def test_neither_does_the_client_of_the_hub_import_torch():
    code = "import datasets, slm.corpus.hub, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
