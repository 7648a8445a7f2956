"""How near exported models come to this project's: logits and greedy stories, by architecture and target.

    python -m benchmarks.exports [FOLDER …]

Each FOLDER holds a trained model (by default `models`); beside them, a random model of each architecture, as
large as the first and with its tokens. Two sequences of random tokens, block_size long, are given to
transformers and to llama.cpp (`pip install llama-cpp-python`; else it is left out), and the largest
difference of a logit is shown beside their standard deviation. Then each writes greedily from three
beginnings, and the tokens are counted up to the first that differs from this project's.
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.peers import machine
from slm.core.errors import run_command
from slm.export.card import find_facts
from slm.export.gguf import write_gguf
from slm.export.huggingface import write_folder
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model.gpt import GPT, load_model, new_gpt
from slm.model.huggingface import ARCHITECTURES, model_type
from slm.tokenizer.tokenizer import END_OF_TEXT, encode, load

PROMPTS = ("", "Once upon a time", "There was a")
ROPE = {"architecture": "rope"}
VARIANTS = {  # of the random models
    "gpt2": {"architecture": "gpt2", "bias": True},
    "classic without biases": {"architecture": "gpt2", "bias": False},
    "gelu": {"architecture": "rope", "activation": "gelu", "tie_embeddings": False},
    "relu2, tied, grouped": {
        "architecture": "rope",
        "activation": "relu2",
        "tie_embeddings": True,
        "n_kv_head": 1,
    },
    "swiglu": {"architecture": "rope", "activation": "swiglu", "tie_embeddings": False},
    "swiglu, tied, grouped": {
        "architecture": "rope",
        "activation": "swiglu",
        "tie_embeddings": True,
        "n_kv_head": 1,
    },
}
SEED, MOST_TOKENS = 1, 200  # the second: of a story


class Target(NamedTuple):
    """An exported model where it runs."""

    name: str
    logits: Callable[[list[int]], Tensor]  # ids to (T, V)
    write: Callable[[list[int], int], list[int]]  # so many greedy tokens after ids


def random_model(like: GPT, changes: dict) -> GPT:
    """A model of the same sizes none of whose weights are zero, as those of a new modern one are."""
    torch.manual_seed(SEED)
    model = new_gpt(like.params.model_copy(update=changes), like.vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def in_transformers(folder: Path) -> Target:
    from transformers import AutoModelForCausalLM  # takes its time

    model = AutoModelForCausalLM.from_pretrained(folder)

    def write(ids: list[int], n_new: int) -> list[int]:
        given = torch.tensor([ids])
        return model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=n_new)[0].tolist()

    name = ARCHITECTURES[model.config.model_type].name
    return Target(name, lambda ids: model(torch.tensor([ids])).logits[0], write)


def in_llama_cpp(path: Path, block_size: int, name: str) -> Target:
    """Keys and values in float32: by default llama.cpp keeps them in 16 bits."""
    from llama_cpp import GGML_TYPE_F32, Llama

    full = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32}
    model = Llama(str(path), n_ctx=block_size, n_batch=block_size, logits_all=True, verbose=False, **full)

    def logits(ids: list[int]) -> Tensor:
        model.reset()
        model.eval(ids)
        return torch.tensor(model.scores[: len(ids)])

    def write(ids: list[int], n_new: int) -> list[int]:
        model.reset()
        steps = model.generate(ids, temp=0.0, repeat_penalty=1.0)
        return [*ids, *(next(steps) for _ in range(n_new))]

    return Target(name, logits, write)


def targets(model: GPT, tokenizer: Tokenizer, about: Path, folder: Path) -> list[Target]:
    write_folder(model, tokenizer, find_facts(about), folder / "hf")
    found = [in_transformers(folder / "hf")]
    if find_spec("llama_cpp") and model_type(model.params) != "nanochat":
        for name, quantize in (("float32", None), ("Q8_0", "q8_0")):
            path = folder / f"{name}.gguf"
            write_gguf(model, tokenizer, path, quantize)
            found.append(in_llama_cpp(path, model.params.block_size, f"llama.cpp, {name}"))
    return found


@torch.no_grad()
def compare(model: GPT, tokenizer: Tokenizer, target: Target) -> list[str]:
    """Cells: the largest difference, the logits' standard deviation, tokens alike of how many."""
    size, end_of_text = model.params.block_size, tokenizer.token_to_id(END_OF_TEXT)
    random = np.random.default_rng(SEED)
    differences, spreads = [], []
    for ids in random.integers(model.vocab_size, size=(2, size)).tolist():
        expected = model(torch.tensor([ids]))[0]
        differences.append(float((target.logits(ids) - expected).abs().max()))
        spreads.append(float(expected.std()))
    same = total = 0
    for prompt in PROMPTS:
        start = encode(tokenizer, prompt)
        n_new = min(MOST_TOKENS, size - 1 - len(start))
        params = SampleParams.load().model_copy(
            update={"temperature": 0.0, "num_samples": 1, "max_new_tokens": n_new, "repetition_penalty": 1.0}
        )
        [[story]] = generate(model, [start], params, end_of_text)
        story += [end_of_text] * (len(story) < n_new)  # which it left out
        theirs = target.write([end_of_text, *start], len(story))[1 + len(start) :]
        same += len([*takewhile(lambda pair: pair[0] == pair[1], zip(story, theirs, strict=False))])
        total += len(story)
    return [f"{max(differences):.1e}", f"{min(spreads):.2f}", f"{same} of {total}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare exported models with this project's.")
    parser.add_argument("folders", type=Path, nargs="*", default=[Path("models")])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first = arguments.folders[0]
    models = {str(path): (load_model(path), load(path / "tokenizer.json")) for path in arguments.folders}
    like, tokenizer = models[str(first)]
    models |= {f"random: {name}": (random_model(like, v), tokenizer) for name, v in VARIANTS.items()}
    head = ["model", "target", "largest difference", "their standard deviation", "same tokens"]
    print(f"| {' | '.join(head)} |\n|---|---|---:|---:|---:|", flush=True)
    for name, (model, tokens) in models.items():
        with TemporaryDirectory() as folder:
            for target in targets(model, tokens, first, Path(folder)):
                cells = compare(model, tokens, target)
                print(f"| {' | '.join([name, target.name, *cells])} |", flush=True)
    packages = {"transformers": "transformers", "gguf": "gguf", "llama_cpp": "llama-cpp-python"}  # by module
    print(f"\n{machine(*(name for module, name in packages.items() if find_spec(module)))}.")


if __name__ == "__main__":
    run_command(main)
