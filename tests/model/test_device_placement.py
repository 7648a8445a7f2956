"""Tests that no tensor is left on the wrong device, without a second device (see tests/fake_device.py)."""

import json
import os
import subprocess
import sys

import pytest

from tests.fake_device import MISTAKES
from tests.project import ROOT


@pytest.fixture(scope="module")
def errors():
    """Return the error of the unchanged code and of each mistake, or None."""
    # A process of its own, because the fake device is registered for good.
    command = [sys.executable, "-m", "tests.fake_device"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_training_evaluation_and_generation_stay_on_the_device(errors):
    assert errors["none"] is None


@pytest.mark.parametrize("mistake", MISTAKES)
def test_misplaced_tensor_is_detected(errors, mistake):
    assert errors[mistake].startswith("FakeTensorDeviceMismatchError: Expected all tensors to be on the same")
