"""Tests of slm.model.device."""

import platform
import subprocess
import sys

import pytest
import torch

from slm.core.errors import UserError
from slm.model.device import autocast, pick_dtype, setup_torch, should_compile
from tests.project import ROOT

CPU = torch.device("cpu")


def test_slm_device_chooses_device(monkeypatch):
    monkeypatch.setenv("SLM_DEVICE", "cpu")
    assert setup_torch() == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "cpu:0"])
def test_absent_device_is_refused_with_choices(monkeypatch, name):
    monkeypatch.setenv("SLM_DEVICE", name)
    with pytest.raises(
        UserError, match=f"^SLM_DEVICE: must be one of auto, .* on this machine, got {name!r}$"
    ):
        setup_torch()


def test_slm_threads_sets_threads(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("SLM_THREADS", "1")
        setup_torch()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", ["0", "two", "-1", "", "1.5"])
def test_wrong_slm_threads_is_refused(monkeypatch, threads):
    monkeypatch.setenv("SLM_THREADS", threads)
    with pytest.raises(UserError, match=f"^SLM_THREADS: must be an integer .*, got {threads!r}"):
        setup_torch()


def test_cpu_dtypes():
    assert pick_dtype("auto", CPU) == torch.float32
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(
        UserError, match=r"^train\.dtype: must be one of auto, float32, bfloat16 on cpu, got 'float16'$"
    ):
        pick_dtype("float16", CPU)


def test_autocast_sets_matmul_dtype():
    a = torch.ones(2, 2)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(CPU, dtype):
            assert (a @ a).dtype == dtype


def test_auto_does_not_compile_on_cpu():
    assert [should_compile(choice, CPU) for choice in ("auto", True, False)] == [False, True, False]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no GNU C library")
def test_freed_memory_is_reused():
    code = """
import resource, torch
from slm.model.device import keep_freed_memory
def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)  # 40 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
without = new_pages()
keep_freed_memory()
new_pages()  # kept from now on
print(without, new_pages())
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    without, kept = map(int, result.stdout.split())
    assert kept < 100 < without
