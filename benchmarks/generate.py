"""Tokens a second in writing: this project, GPT-2 of `transformers` with its cache, and nanoGPT without one.

    python -m benchmarks.generate --nanogpt CHECKOUT [--texts 1 64] [--tokens 400] [--rounds 5]

A classic model of 30 million parameters writes from nothing, in float32, drawing from the likeliest 50. All
sides have the same random weights, which are compared by the logits they give, and must write all of the
tokens. They take turns, round by round; medians are compared. nanoGPT's `generate` works on the whole text
for every token: with more than one text it takes part in the first round only, and still takes long.

To write one text is to read all the weights once a token (but for the embeddings of other positions). The
share is these bytes a second beside those of a matrix-vector product, the faster of two kinds.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.peers import GPT2, SEED, Shape, machine, nanogpt, synchronize
from slm.core.errors import UserError, run_command
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model.device import setup_torch
from slm.model.gpt import GPT, new_gpt
from slm.model.huggingface import to_weights
from slm.model.params import ModelParams

SHAPE = Shape(n_layer=6, n_head=6, n_embd=384, block_size=512, vocab_size=50_257)
END, TOP_K = 0, 50
MATRIX = (65_536, 4_096)  # 1 GiB: no cache holds it

Side = Callable[[int, int], None]  # writes so many texts of so many tokens


def new_model(device: torch.device) -> GPT:
    """A model with random weights; the end of a text is never among its likeliest tokens."""
    sizes = {name: size for name, size in SHAPE._asdict().items() if name != "vocab_size"}
    choices = {"architecture": "gpt2", "n_kv_head": None, "dropout": 0.0, "bias": True}
    torch.manual_seed(SEED)
    model = new_gpt(ModelParams.load().model_copy(update=sizes | choices), SHAPE.vocab_size)
    with torch.no_grad():
        model.token_embedding.weight[END] = 0  # which is the head, too
    return model.to(device).eval()


def share_weights(model: GPT, other: nn.Module, turned: bool) -> None:
    """Copy the model's weights to another GPT-2, whose matrices are `turned` if they are kept as (in, out).

    Ours has biases, all zero; the other's are, too, or there are none.
    """
    others = other.state_dict()
    for name, weight in to_weights(model).items():
        if name in others:
            is_matrix = ".c_" in name and weight.dim() == 2
            others[name].copy_(weight if turned or not is_matrix else weight.T)


def ours(model: GPT) -> Side:
    def write(n_texts: int, n_tokens: int) -> None:
        changes = {"num_samples": n_texts, "max_new_tokens": n_tokens, "temperature": 1.0, "top_k": TOP_K}
        off = {"top_p": None, "min_p": None, "repetition_penalty": 1.0}
        params = SampleParams.load().model_copy(update=changes | off)
        texts = generate(model, [[]], params, END)[0]
        _check(all(len(text) == n_tokens for text in texts))

    return write


def transformers_side(model: GPT) -> Side:
    other = GPT2(SHAPE).gpt2.to(model.device).eval()
    share_weights(model, other, turned=True)
    other.generation_config.eos_token_id = None
    _check_logits(model, lambda ids: other(ids).logits)

    def write(n_texts: int, n_tokens: int) -> None:
        ids = torch.full((n_texts, 1), END, device=model.device)
        options = {"do_sample": True, "top_k": TOP_K, "use_cache": True, "pad_token_id": END}
        mask = torch.ones_like(ids)
        written = other.generate(ids, attention_mask=mask, max_new_tokens=n_tokens, **options)
        _check(written.shape == (n_texts, 1 + n_tokens))

    return write


def nanogpt_side(model: GPT, checkout: Path) -> Side:
    other = nanogpt(checkout, SHAPE).to(model.device).eval()
    share_weights(model, other, turned=False)
    _check_logits(model, lambda ids: other(ids, ids)[0])

    def write(n_texts: int, n_tokens: int) -> None:
        ids = torch.full((n_texts, 1), END, device=model.device)
        written = other.generate(ids, n_tokens, top_k=TOP_K)
        _check(written.shape == (n_texts, 1 + n_tokens))

    return write


@torch.no_grad()
def _check_logits(model: GPT, other: Callable[[Tensor], Tensor]) -> None:
    """The others' GELU may be the exact one, so that logits differ in the third digit."""
    ids = torch.randint(SHAPE.vocab_size, (2, 50), device=model.device)
    torch.testing.assert_close(other(ids), model(ids), atol=0.01, rtol=0)


def _check(is_all_written: bool) -> None:
    if not is_all_written:
        raise UserError("a side did not write all of its tokens")


def seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def bandwidth(device: torch.device) -> float:
    """Bytes a second in which a large matrix is read to multiply it by a vector."""
    matrix = torch.ones(MATRIX, device=device)
    row, column = (torch.ones(size, device=device) for size in MATRIX)
    fastest = min(
        seconds(work, device) for work in (lambda: matrix @ column, lambda: row @ matrix) for _ in range(5)
    )
    return matrix.nbytes / fastest


def bytes_a_token(model: GPT) -> int:
    """Of weights that are read to write one token of one text."""
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())
    return n_bytes - model.position_embedding.weight[1:].nbytes


def measure(sides: dict[str, Side], n_texts: int, n_tokens: int, rounds: int) -> dict[str, float]:
    """Tokens a second of each side."""
    device = setup_torch()
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, write in sides.items():
            if number == 0 or n_texts == 1 or name != "nanoGPT":
                write(n_texts, 2)  # what starts up does not count
                taken = seconds(partial(write, n_texts, n_tokens), device)
                rates[name].append(n_texts * n_tokens / taken)
    return {name: median(rate) for name, rate in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tokens a second in writing.")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT; without it, nanoGPT is left out")
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 64], help="that are written at once")
    parser.add_argument("--tokens", type=int, default=400, help="of each text")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if min(*arguments.texts, arguments.tokens, arguments.rounds) < 1:
        parser.error("--texts, --tokens and --rounds: must be at least 1")
    device = setup_torch()
    model = new_model(device)
    sides = {"this project": ours(model), "transformers": transformers_side(model)}
    if arguments.nanogpt:
        sides["nanoGPT"] = nanogpt_side(model, arguments.nanogpt)

    print(
        "| texts at once | | tok/s | × transformers | share of bandwidth |\n|---:|---|---:|---:|---:|",
        flush=True,
    )
    speeds = []
    for n_texts in arguments.texts:
        speeds.append(bandwidth(device))
        rates = measure(sides, n_texts, arguments.tokens, arguments.rounds)
        speeds.append(bandwidth(device))
        for name, rate in rates.items():
            share = f"{rate * bytes_a_token(model) / max(speeds):.0%}" if n_texts == 1 else ""
            cells = [f"{n_texts}", name, f"{rate:,.1f}", f"{rate / rates['transformers']:.2f}", share]
            print(f"| {' | '.join(cells)} |", flush=True)
    read, memory = bytes_a_token(model) / 1e6, max(speeds) / 1e9
    shape = f"{SHAPE.n_layer} × {SHAPE.n_head} × {SHAPE.n_embd}, vocabulary {SHAPE.vocab_size:,}, float32"
    print(f"\n{shape}; {arguments.tokens} tokens a text, medians of {arguments.rounds} rounds.")
    print(f"A token reads {read:.0f} MB of weights; memory gives {memory:.1f} GB/s.")
    print(f"{machine('transformers')}.")


if __name__ == "__main__":
    run_command(main)
