"""Choosing what the model runs on."""

import platform
import subprocess
import sys

import pytest
import torch

from slm.core.errors import UserError
from slm.model.device import autocast, pick_dtype, setup_torch, should_compile
from tests.project import ROOT

CPU = torch.device("cpu")


def test_the_environment_chooses_the_device(monkeypatch):
    monkeypatch.setenv("SLM_DEVICE", "cpu")
    assert setup_torch() == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "cpu:0"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch, name):
    monkeypatch.setenv("SLM_DEVICE", name)
    with pytest.raises(
        UserError, match=f"^SLM_DEVICE: must be one of auto, .* on this machine, got {name!r}$"
    ):
        setup_torch()


def test_the_environment_sets_the_threads(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("SLM_THREADS", "1")
        setup_torch()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", ["0", "two", "-1", "", "1.5"])
def test_a_wrong_number_of_threads_is_named(monkeypatch, threads):
    monkeypatch.setenv("SLM_THREADS", threads)
    with pytest.raises(UserError, match=f"^SLM_THREADS: must be a whole number .*, got {threads!r}"):
        setup_torch()


def test_dtypes_of_the_cpu():
    assert pick_dtype("auto", CPU) == torch.float32
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(
        UserError, match=r"^train\.dtype: must be one of auto, float32, bfloat16 on cpu, got 'float16'$"
    ):
        pick_dtype("float16", CPU)


def test_autocast_computes_products_in_the_dtype():
    a = torch.ones(2, 2)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(CPU, dtype):
            assert (a @ a).dtype == dtype


def test_the_cpu_compiles_only_when_told_to():
    assert [should_compile(choice, CPU) for choice in ("auto", True, False)] == [False, True, False]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no GNU C library")
def test_kept_memory_is_used_again_instead_of_new_pages():
    code = """
import resource, torch
from slm.model.device import keep_memory
def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)  # 40 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
without = new_pages()
keep_memory()
new_pages()  # kept from now on
print(without, new_pages())
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    without, kept = map(int, result.stdout.split())
    assert kept < 100 < without
