"""Measure generation throughput: this project, GPT-2 of `transformers` with a KV cache, nanoGPT without one.

    python -m benchmarks.generate --nanogpt CHECKOUT [--texts 1 64] [--tokens 400] [--rounds 5]

A GPT-2 with 30 million parameters samples without a prompt, in float32 with top-k 50. All implementations
have the same random weights, which is verified by their logits, and must generate all tokens. They are
measured in interleaved rounds, and medians are compared. nanoGPT recomputes the whole text for every token:
with more than one text it is measured in the first round only, and still takes long.

Generating one text reads all weights once per token, except for the other position embeddings. The bandwidth
utilization is the bytes per second of these reads relative to a matrix-vector product.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.references import GPT2, SEED, Shape, describe_machine, new_nanogpt, synchronize
from slm.core.errors import UserError, run_command
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model.device import setup_torch
from slm.model.gpt import GPT, new_gpt
from slm.model.huggingface import to_weights
from slm.model.params import ModelParams

SHAPE = Shape(n_layer=6, n_head=6, n_embd=384, block_size=512, vocab_size=50_257)
# Id of the end-of-text token.
END = 0
TOP_K = 50
# Shape of the matrix that measures the bandwidth. It has 1 GiB, so no cache holds it.
MATRIX = (65_536, 4_096)

# Generates n_texts texts of n_tokens tokens each.
Generator = Callable[[int, int], None]


def new_model(device: torch.device) -> GPT:
    """Return a model with random weights that never has end-of-text among its top tokens."""
    sizes = {name: size for name, size in SHAPE._asdict().items() if name != "vocab_size"}
    changes = {"architecture": "gpt2", "n_kv_head": None, "dropout": 0.0, "bias": True}
    torch.manual_seed(SEED)
    model = new_gpt(ModelParams.load().model_copy(update=sizes | changes), SHAPE.vocab_size)
    # The embedding is also the head.
    with torch.no_grad():
        model.token_embedding.weight[END] = 0
    return model.to(device).eval()


def copy_weights(model: GPT, other: nn.Module, transpose: bool) -> None:
    """Copy the weights of the model to another GPT-2.

    `transpose`: its matrices have the shape (in, out). Its biases, if there are any, are zero like those of
    the model.
    """
    state_dict = other.state_dict()
    for name, weight in to_weights(model).items():
        if name in state_dict:
            is_matrix = ".c_" in name and weight.dim() == 2
            state_dict[name].copy_(weight if transpose or not is_matrix else weight.T)


def slm_generator(model: GPT) -> Generator:
    """Return a generator of this project."""

    def generate_texts(n_texts: int, n_tokens: int) -> None:
        changes = {"num_samples": n_texts, "max_new_tokens": n_tokens, "temperature": 1.0, "top_k": TOP_K}
        disabled = {"top_p": None, "min_p": None, "repetition_penalty": 1.0}
        params = SampleParams.load().model_copy(update=changes | disabled)
        texts = generate(model, [[]], params, END)[0]
        _check(all(len(text) == n_tokens for text in texts))

    return generate_texts


def transformers_generator(model: GPT) -> Generator:
    """Return a generator of `transformers` with the weights of the model."""
    other = GPT2(SHAPE).gpt2.to(model.device).eval()
    copy_weights(model, other, transpose=True)
    other.generation_config.eos_token_id = None
    _check_logits(model, lambda ids: other(ids).logits)

    def generate_texts(n_texts: int, n_tokens: int) -> None:
        ids = torch.full((n_texts, 1), END, device=model.device)
        options = {"do_sample": True, "top_k": TOP_K, "use_cache": True, "pad_token_id": END}
        mask = torch.ones_like(ids)
        new_ids = other.generate(ids, attention_mask=mask, max_new_tokens=n_tokens, **options)
        _check(new_ids.shape == (n_texts, 1 + n_tokens))

    return generate_texts


def nanogpt_generator(model: GPT, checkout: Path) -> Generator:
    """Return a generator of nanoGPT with the weights of the model."""
    other = new_nanogpt(checkout, SHAPE).to(model.device).eval()
    copy_weights(model, other, transpose=False)
    _check_logits(model, lambda ids: other(ids, ids)[0])

    def generate_texts(n_texts: int, n_tokens: int) -> None:
        ids = torch.full((n_texts, 1), END, device=model.device)
        new_ids = other.generate(ids, n_tokens, top_k=TOP_K)
        _check(new_ids.shape == (n_texts, 1 + n_tokens))

    return generate_texts


@torch.no_grad()
def _check_logits(model: GPT, other: Callable[[Tensor], Tensor]) -> None:
    """Check that the logits are close. The exact GELU of a reference changes the third digit."""
    ids = torch.randint(SHAPE.vocab_size, (2, 50), device=model.device)
    torch.testing.assert_close(other(ids), model(ids), atol=0.01, rtol=0)


def _check(has_all_tokens: bool) -> None:
    """Raise UserError if tokens are missing."""
    if not has_all_tokens:
        raise UserError("an implementation did not generate all tokens")


def measure_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the duration of a call, with all work on the device."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def measure_bandwidth(device: torch.device) -> float:
    """Return the bytes per second of a matrix-vector product, the faster of M·v and v·M."""
    matrix = torch.ones(MATRIX, device=device)
    row, column = (torch.ones(size, device=device) for size in MATRIX)
    products = (lambda: matrix @ column, lambda: row @ matrix)
    fastest = min(measure_seconds(product, device) for product in products for _ in range(5))
    return matrix.nbytes / fastest


def bytes_per_token(model: GPT) -> int:
    """Return the bytes of weights that generating one token of one text reads."""
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())
    return n_bytes - model.position_embedding.weight[1:].nbytes


def measure(generators: dict[str, Generator], n_texts: int, n_tokens: int, rounds: int) -> dict[str, float]:
    """Return the tokens per second of each implementation, the median of interleaved rounds."""
    device = setup_torch()
    rates: dict[str, list[float]] = {name: [] for name in generators}
    for n in range(rounds):
        for name, generate_texts in generators.items():
            if n == 0 or n_texts == 1 or name != "nanoGPT":
                # Warm up.
                generate_texts(n_texts, 2)
                seconds = measure_seconds(partial(generate_texts, n_texts, n_tokens), device)
                rates[name].append(n_texts * n_tokens / seconds)
    return {name: median(rate) for name, rate in rates.items()}


def main() -> None:
    """Print a row of the table after each measurement."""
    parser = argparse.ArgumentParser(description="Measure generation throughput.")
    parser.add_argument("--nanogpt", type=Path, help="checkout of nanoGPT; omit it to skip nanoGPT")
    parser.add_argument(
        "--texts", type=int, nargs="+", default=[1, 64], help="batch sizes (default: %(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=400, help="tokens per text (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    args = parser.parse_args()
    if min(*args.texts, args.tokens, args.rounds) < 1:
        parser.error("--texts, --tokens and --rounds: must be at least 1")
    device = setup_torch()
    model = new_model(device)
    generators = {"this project": slm_generator(model), "transformers": transformers_generator(model)}
    if args.nanogpt:
        generators["nanoGPT"] = nanogpt_generator(model, args.nanogpt)

    columns = ["batch size", "", "tok/s", "× transformers", "bandwidth utilization"]
    print(f"| {' | '.join(columns)} |\n|---:|---|---:|---:|---:|", flush=True)
    bandwidths = []
    for n_texts in args.texts:
        # Measure the bandwidth before and after: the machine may be busy at one of them.
        bandwidths.append(measure_bandwidth(device))
        rates = measure(generators, n_texts, args.tokens, args.rounds)
        bandwidths.append(measure_bandwidth(device))
        for name, rate in rates.items():
            utilization = f"{rate * bytes_per_token(model) / max(bandwidths):.0%}" if n_texts == 1 else ""
            cells = [f"{n_texts}", name, f"{rate:,.1f}", f"{rate / rates['transformers']:.2f}", utilization]
            print(f"| {' | '.join(cells)} |", flush=True)
    megabytes, bandwidth = bytes_per_token(model) / 1e6, max(bandwidths) / 1e9
    shape = f"{SHAPE.n_layer} × {SHAPE.n_head} × {SHAPE.n_embd}, vocabulary {SHAPE.vocab_size:,}, float32"
    print(f"\n{shape}; {args.tokens} tokens per text, medians of {args.rounds} rounds.")
    print(f"Each token reads {megabytes:.0f} MB of weights; the memory bandwidth is {bandwidth:.1f} GB/s.")
    print(f"{describe_machine('transformers')}.")


if __name__ == "__main__":
    run_command(main)
