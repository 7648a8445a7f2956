"""Run training, evaluation and generation on a fake second device: python -m tests.fake_device > result.json

Tensors under FakeTensorMode have a shape, a type and a device but no values, and an operation on tensors of
different devices raises an error, as on a GPU. So a tensor left on the CPU is found without a GPU. Results
are read back as zeros. Each mistake of MISTAKES leaves one tensor on the CPU and must be found.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration

from slm.eval.breakdown import by_position
from slm.eval.perplexity import token_losses
from slm.generate import batch as generation
from slm.generate.params import DEFAULTS, SampleParams
from slm.model import gpt, layers
from slm.model import loss as loss_module
from slm.model.gpt import GPT, new_gpt
from slm.train import data, state
from slm.train.data import Batch, gpu_batch, tokens_to_gpu
from slm.train.state import TrainState
from slm.train.trainer import train_step, validation_loss
from tests.tiny import model_params, train_params
from tests.train.test_trainer import TRAIN, VOCAB, windows

CPU = torch.device("cpu")
MODELS = {
    "gpt2": {"architecture": "gpt2"},
    "rope": {"architecture": "rope", "n_head": 2, "n_kv_head": 1, "n_embd": 16},
}


class DeviceModule(backend_registration._DummyBackendModule):
    """What torch asks of the module of a device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def device_count(self) -> int:
        return 1


def register_device() -> torch.device:
    """Register a device without kernels. It affects the whole process."""
    backend_registration._setup_privateuseone_for_python_backend("fakegpu", backend_module=DeviceModule())
    library = torch.library.Library("_", "IMPL")
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    # A library lives as long as the object.
    DeviceModule.library = library
    return torch.device("fakegpu:0")


@contextmanager
def fake_device(device: torch.device) -> Iterator[None]:
    """Make new models and states live on the device, with fake tensors."""

    def on_device(*arguments: Any) -> GPT:
        with device:
            return new_gpt(*arguments)

    def tensor(values: Any, device: Any = CPU, make: Any = torch.tensor, **options: Any) -> Tensor:
        return make(values, **options).to(device)

    with ExitStack() as stack:
        # Model.to would exchange fake parameters, which torch does not support.
        stack.enter_context(patch.object(nn.Module, "to", lambda self, *_: self))
        stack.enter_context(patch.object(state, "new_gpt", on_device))
        stack.enter_context(patch.object(state, "setup_torch", lambda _: device))
        stack.enter_context(patch.object(state, "pick_dtype", lambda name, _: getattr(torch, name)))
        # torch.tensor would allocate memory on the device.
        stack.enter_context(patch.object(torch, "tensor", tensor))
        # Fake tensors have no values to read.
        stack.enter_context(patch.object(FakeTensor, "tolist", lambda self: np.zeros(self.shape).tolist()))
        stack.enter_context(patch.object(FakeTensor, "numpy", lambda self: np.zeros(self.shape), create=True))
        stack.enter_context(patch.object(FakeTensor, "item", lambda self: 0))
        stack.enter_context(patch.object(FakeTensor, "__int__", lambda self: 0, create=True))
        stack.enter_context(patch.object(FakeTensor, "__float__", lambda self: 0.0, create=True))
        stack.enter_context(patch.object(FakeTensor, "__bool__", lambda self: True, create=True))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def run_training(name: str, device: torch.device, dtype: str) -> None:
    """Take a step of two micro-batches and evaluate."""
    params = train_params(optimizer="muon", grad_accum_steps=2, dtype=dtype)
    run = TrainState(model_params(**MODELS[name]), params, VOCAB)
    batches = windows(params)
    train_step(run, batches.train_batch(0, device), lr=0.01)
    train_step(run, gpu_batch(tokens_to_gpu(TRAIN, device), 8, 8, 1, 0), lr=0.01)
    validation_loss(run, batches)
    # The chunked loss.
    with patch.object(loss_module, "MAX_LOGITS", 5 * VOCAB):
        train_step(run, batches.train_batch(1, device), lr=0.01)


def run_evaluation(name: str, device: torch.device) -> None:
    """Evaluate tokens in sliding windows and by position, and generate text."""
    model = state.new_gpt(model_params(**MODELS[name]), VOCAB).eval()
    token_losses(model, TRAIN[:40], 0, stride=2, batch_size=3)
    by_position(model, TRAIN[:40], 0, batch_size=2)
    values = {**DEFAULTS, "prompts": [""], "num_samples": 2, "max_new_tokens": 12, "seed": 1}
    generation.generate(model, [[1, 2, 3], [4]], SampleParams(**values), end_of_text=VOCAB - 1)


def misplace(owner: Any, name: str, change: Callable[..., Any]) -> Any:
    """Return a patch of a function that passes its result or arguments through `change`."""
    original = getattr(owner, name)
    return patch.object(owner, name, lambda *arguments, **options: change(original, *arguments, **options))


def result_on_cpu(function: Callable[..., Tensor | None], *arguments: Any, **options: Any) -> Tensor | None:
    """Return the result of a function, moved to the CPU."""
    result = function(*arguments, **options)
    return None if result is None else result.to(CPU)


# What is on the CPU by mistake, and how.
MISTAKES: dict[str, Callable[[], Any]] = {
    "attention mask": lambda: misplace(gpt, "attention_mask", result_on_cpu),
    "positions of cached tokens": lambda: misplace(layers.KVCache, "positions", result_on_cpu),
    "rotary positions": lambda: misplace(gpt, "rotary_angles", lambda f, x, n: f(x.to(CPU), n)),
    "targets of a batch": lambda: misplace(
        data, "to_device", lambda f, batch, device: Batch(f(batch, device).inputs, batch.targets, 1)
    ),
    "targets of the loss": lambda: misplace(
        gpt, "linear_cross_entropy", lambda f, x, w, y, r: f(x, w, y.to(CPU), r)
    ),
    "random numbers of sampling": lambda: misplace(
        generation, "sample_next", lambda f, logits, ids, params, u: f(logits, ids, params, u.to(CPU))
    ),
}


def run_all(device: torch.device) -> None:
    """Run everything for both architectures and all types."""
    for name in MODELS:
        for dtype in ("float32", "bfloat16", "float16"):
            run_training(name, device, dtype)
        run_evaluation(name, device)


def main() -> None:
    """Print the error of each mistake, and that of the unchanged code, as JSON; null is none."""
    device = register_device()
    results: dict[str, str | None] = {}
    for name, mistake in {"none": ExitStack, **MISTAKES}.items():
        results[name] = None
        try:
            with fake_device(device), mistake():
                run_all(device)
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
