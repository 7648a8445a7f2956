"""Small random models to export, and a project with the results of their training."""

from pathlib import Path

from tokenizers import Tokenizer

from slm.export.card import find_facts
from slm.model.gpt import GPT, save_model
from slm.report.card import Facts
from slm.tokenizer.tokenizer import train_bpe
from tests.result_files import write_facts
from tests.tiny import shaken

TEXT = "Once upon a time there was a duck. It didn't find 12 drums, did it? No – it'll look again!\n\n"
BLOCK_SIZE = 32
ROPE = {"architecture": "rope", "n_head": 2, "n_kv_head": 1, "n_embd": 32, "block_size": BLOCK_SIZE}
MODELS = {
    "gpt2": {"n_head": 2, "n_embd": 32, "block_size": BLOCK_SIZE, "bias": False},
    "gelu": {**ROPE, "activation": "gelu"},
    "relu2, tied": {**ROPE, "activation": "relu2", "tie_embeddings": True},
    "swiglu": {**ROPE, "activation": "swiglu"},
    "swiglu, tied": {**ROPE, "activation": "swiglu", "tie_embeddings": True},
}


def small_tokenizer() -> Tokenizer:
    """Train a tokenizer on TEXT."""
    return train_bpe([TEXT] * 3, vocab_size=300)


def random_model(name: str, vocab_size: int) -> GPT:
    """Return a random model with the params MODELS[name]."""
    return shaken(vocab_size, by=0.2, **MODELS[name])


def write_project(root: Path, name: str) -> tuple[GPT, Tokenizer, Facts]:
    """Write a model, its tokenizer and the results of all stages to a project; return them."""
    tokenizer = small_tokenizer()
    model = random_model(name, tokenizer.get_vocab_size())
    write_facts(root, known=False, corpus={"source": "hub", "name": "owner/tales"})
    save_model(model, root / "models")
    (root / "models/tokenizer.json").write_text(tokenizer.to_str())
    facts = find_facts(root / "models")
    assert facts
    return model, tokenizer, facts
