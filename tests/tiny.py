"""Parameters small enough for a test; each test changes what it is about."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from slm.core.config import ParamsSection
from slm.core.errors import UserError
from slm.data.params import DataParams
from slm.generate.params import SampleParams
from slm.model.gpt import GPT, new_gpt
from slm.model.params import ModelParams
from slm.train.params import TrainParams

HUB = {
    "name": "owner/stories",
    "config": None,
    "revision": "main",
    "text_column": "text",
    "train_split": "train",
    "validation_split": "validation",
}
DATA = {
    "source": "synthetic",
    "max_documents": 100,
    "max_validation_documents": None,
    "validation_fraction": 0.1,
    "seed": 1,
    "files": {"train": "train.txt", "validation": "validation.txt"},
    "hub": HUB,
}
MODEL = {
    "architecture": "gpt2",
    "n_layer": 2,
    "n_head": 3,
    "n_kv_head": None,
    "n_embd": 12,
    "block_size": 8,
    "activation": "relu2",
    "tie_embeddings": False,
    "dropout": 0.0,
    "bias": True,
}
TRAIN = {
    "seed": 1,
    "init_from": "data/none",
    "batch_size": 4,
    "grad_accum_steps": 1,
    "max_steps": 20,
    "optimizer": "adamw",
    "schedule": "cosine",
    "learning_rate": 0.01,
    "min_lr": 0.001,
    "warmup_steps": 2,
    "decay_steps": 0,
    "seq_len_warmup_steps": 0,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.99,
    "grad_clip": 1.0,
    "eval_interval": 5,
    "eval_tokens": 0,
    "patience": 0,
    "dtype": "float32",
    "compile": False,
    "deterministic": False,
}
SAMPLE = {
    "prompts": [""],
    "num_samples": 3,
    "max_new_tokens": 20,
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "min_p": None,
    "repetition_penalty": 1.0,
    "seed": 1,
}
SFT = {
    "file": "data/none",
    "tasks": {"story": 1.0, "chat": 1.0},
    "seed": 1,
    "max_steps": 4,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "num_eval_prompts": 6,
    "temperature": 0.0,
}


def data_params(**changes: Any) -> DataParams:
    return DataParams.check({**DATA, **changes})


def model_params(**changes: Any) -> ModelParams:
    return ModelParams.check({**MODEL, **changes})


def train_params(**changes: Any) -> TrainParams:
    return TrainParams.check({**TRAIN, **changes})


def sample_params(**changes: Any) -> SampleParams:
    return SampleParams.check({**SAMPLE, **changes})


def shaken(vocab_size: int, by: float = 0.3, **changes: Any) -> GPT:
    """Return a model with noise added to every weight: zero-initialized weights would hide mistakes."""
    torch.manual_seed(0)
    model = new_gpt(model_params(**changes), vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * by
    return model


def complaint(section: type[ParamsSection], values: dict[str, Any]) -> str:
    """Return the error message for these values of a section."""
    with pytest.raises(UserError) as caught:
        section.check(values)
    return str(caught.value)


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Make writing fail beyond this many bytes of a file, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
