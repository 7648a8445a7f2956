"""Measure the numerical parity of exported models: logits and greedy decoding, by architecture and target.

    python -m benchmarks.exports [FOLDER …]

Compares the trained model in each FOLDER, and a random model of each architecture with the sizes and the
tokenizer of the first one. The targets are transformers and llama.cpp (`pip install llama-cpp-python`; it is
skipped if missing). The table has the largest difference of the logits of two random sequences of block_size
tokens, their standard deviation, and the number of tokens that greedy decoding from three prompts generates
before the first difference.
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

from benchmarks.references import describe_machine
from slm.core.errors import run_command
from slm.export.card import find_facts
from slm.export.gguf import write_gguf
from slm.export.huggingface import write_folder
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model.gpt import GPT, load_model, new_gpt
from slm.model.huggingface import model_type
from slm.tokenizer.tokenizer import END_OF_TEXT, encode, load

PROMPTS = ("", "Once upon a time", "There was a")
# Params of the random models.
VARIANTS = {
    "gpt2": {"architecture": "gpt2", "bias": True},
    "gpt2 without biases": {"architecture": "gpt2", "bias": False},
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
SEED = 1
# Maximum number of tokens to generate from a prompt.
MAX_NEW_TOKENS = 200


class Target(NamedTuple):
    """An exported model in another library."""

    name: str
    # Maps T ids to logits (T, V).
    logits: Callable[[list[int]], Tensor]
    # Appends a number of tokens to ids by greedy decoding.
    generate: Callable[[list[int], int], list[int]]


def random_model(like: GPT, changes: dict) -> GPT:
    """Return a model of the same sizes with changed params.

    Its weights are all random: a new RoPE model has zeros in the output projections.
    """
    torch.manual_seed(SEED)
    model = new_gpt(like.params.model_copy(update=changes), like.vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def load_in_transformers(folder: Path) -> Target:
    """Load an exported folder in transformers."""
    # Importing transformers is slow, so do it only when needed.
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)

    def generate_greedily(ids: list[int], n_new: int) -> list[int]:
        prompt = torch.tensor([ids])
        mask = torch.ones_like(prompt)
        return model.generate(prompt, attention_mask=mask, max_new_tokens=n_new)[0].tolist()

    return Target(type(model).__name__, lambda ids: model(torch.tensor([ids])).logits[0], generate_greedily)


def load_in_llama_cpp(path: Path, block_size: int, name: str) -> Target:
    """Load a GGUF file in llama.cpp, with a KV cache in float32 instead of 16 bits."""
    from llama_cpp import GGML_TYPE_F32, Llama

    cache_types = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32}
    sizes = {"n_ctx": block_size, "n_batch": block_size}
    model = Llama(str(path), logits_all=True, verbose=False, **sizes, **cache_types)

    def logits(ids: list[int]) -> Tensor:
        model.reset()
        model.eval(ids)
        return torch.tensor(model.scores[: len(ids)])

    def generate_greedily(ids: list[int], n_new: int) -> list[int]:
        model.reset()
        new_ids = model.generate(ids, temp=0.0, repeat_penalty=1.0)
        return [*ids, *(next(new_ids) for _ in range(n_new))]

    return Target(name, logits, generate_greedily)


def export_to_targets(model: GPT, tokenizer: Tokenizer, model_folder: Path, folder: Path) -> list[Target]:
    """Export a model to a temporary folder and load it in all libraries.

    The model card has the facts beside `model_folder`.
    """
    write_folder(model, tokenizer, find_facts(model_folder), folder / "hf")
    targets = [load_in_transformers(folder / "hf")]
    if find_spec("llama_cpp") and model_type(model.params) != "nanochat":
        for name, quantize in (("float32", None), ("Q8_0", "q8_0")):
            path = folder / f"{name}.gguf"
            write_gguf(model, tokenizer, path, quantize)
            targets.append(load_in_llama_cpp(path, model.params.block_size, f"llama.cpp, {name}"))
    return targets


@torch.no_grad()
def compare(model: GPT, tokenizer: Tokenizer, target: Target) -> list[str]:
    """Return cells: maximum difference and standard deviation of the logits, equal tokens of all tokens."""
    size, end_of_text = model.params.block_size, tokenizer.token_to_id(END_OF_TEXT)
    random = np.random.default_rng(SEED)
    differences, deviations = [], []
    for ids in random.integers(model.vocab_size, size=(2, size)).tolist():
        expected = model(torch.tensor([ids]))[0]
        differences.append(float((target.logits(ids) - expected).abs().max()))
        deviations.append(float(expected.std()))
    n_equal = total = 0
    for prompt in PROMPTS:
        ids = encode(tokenizer, prompt)
        # The end-of-text before the prompt takes one position.
        n_new = min(MAX_NEW_TOKENS, size - 1 - len(ids))
        params = SampleParams.load().model_copy(
            update={"temperature": 0.0, "num_samples": 1, "max_new_tokens": n_new, "repetition_penalty": 1.0}
        )
        [[expected_ids]] = generate(model, [ids], params, end_of_text)
        # `generate` omits the end-of-text at which it stops.
        expected_ids += [end_of_text] * (len(expected_ids) < n_new)
        new_ids = target.generate([end_of_text, *ids], len(expected_ids))[1 + len(ids) :]
        pairs = zip(expected_ids, new_ids, strict=False)
        n_equal += len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        total += len(expected_ids)
    return [f"{max(differences):.1e}", f"{min(deviations):.2f}", f"{n_equal} of {total}"]


def main() -> None:
    """Print a row of the table for each model and target."""
    parser = argparse.ArgumentParser(description="Measure the numerical parity of exported models.")
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        default=[Path("models")],
        metavar="FOLDER",
        help="folders of trained models (default: models)",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    first = args.folders[0]
    models = {str(path): (load_model(path), load(path / "tokenizer.json")) for path in args.folders}
    like, tokenizer = models[str(first)]
    models |= {f"random: {name}": (random_model(like, v), tokenizer) for name, v in VARIANTS.items()}
    header = ["model", "target", "largest difference", "standard deviation of the logits", "equal tokens"]
    print(f"| {' | '.join(header)} |\n|---|---|---:|---:|---:|", flush=True)
    for name, (model, tokens) in models.items():
        with TemporaryDirectory() as folder:
            for target in export_to_targets(model, tokens, first, Path(folder)):
                cells = compare(model, tokens, target)
                print(f"| {' | '.join([name, target.name, *cells])} |", flush=True)
    # Packages by module.
    packages = {"transformers": "transformers", "gguf": "gguf", "llama_cpp": "llama-cpp-python"}
    print(f"\n{describe_machine(*(name for module, name in packages.items() if find_spec(module)))}.")


if __name__ == "__main__":
    run_command(main)
