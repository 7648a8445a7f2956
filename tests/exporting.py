"""Models to be exported, and a project in which they might have been trained."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from slm.export.card import About, read_about
from slm.model.gpt import GPT, save_model
from slm.tokenizer.tokenizer import train_bpe
from tests.tiny import shaken

TEXT = "Once upon a time there was a duck. It didn't find 12 drums, did it? No – it'll look again!\n\n"
BLOCK_SIZE = 32
MODERN = {"architecture": "modern", "n_head": 2, "n_kv_head": 1, "n_embd": 32, "block_size": BLOCK_SIZE}
MODELS = {
    "classic": {"n_head": 2, "n_embd": 32, "block_size": BLOCK_SIZE, "bias": False},
    "gelu": {**MODERN, "mlp": "gelu"},
    "relu2, tied": {**MODERN, "mlp": "relu2", "tied": True},
    "swiglu": {**MODERN, "mlp": "swiglu"},
    "swiglu, tied": {**MODERN, "mlp": "swiglu", "tied": True},
}


def small_tokenizer() -> Tokenizer:
    return train_bpe([TEXT] * 3, vocab_size=300)


def random_model(name: str, vocab_size: int) -> GPT:
    return shaken(vocab_size, by=0.2, **MODELS[name])


def write_project(root: Path, name: str) -> tuple[GPT, Tokenizer, About]:
    """A model, its tokenizer, and what the stages would have found, as files."""
    tokenizer = small_tokenizer()
    model = random_model(name, tokenizer.get_vocab_size())
    split = {"documents": 1234, "bytes": 5_000_000}
    files = {
        "data/corpus/summary.json": {
            "source": "hub",
            "name": "owner/tales",
            "train": split,
            "validation": split,
        },
        "reports/tokens.json": {"train_tokens": 9000, "validation_tokens": 100, "bytes_per_token": 4.0},
        "reports/train.json": {
            "steps": 20,
            "tokens": 2_000_000,
            "epochs": 1.5,
            "parameters": 5000,
            "dtype": "float32",
            "device": "cpu",
        },
        "reports/eval.json": {"val_loss": 2.0, "perplexity": 7.389, "bits_per_byte": 1.25},
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps(content))
    save_model(model, root / "models")
    (root / "models/tokenizer.json").write_text(tokenizer.to_str())
    return model, tokenizer, read_about(root / "models")
