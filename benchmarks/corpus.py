"""Measure the story grammar, as one Markdown table: speed, size, entropy, vocabulary, duplicates.

    python -m benchmarks.corpus --stories 100000

Where `dvc repro` has trained on it, also what a short context costs: the loss of a 5-gram model beside the
entropy, and that of the trained model when it sees only 32 tokens.
"""

import argparse
import math
import re
import time
from itertools import islice
from pathlib import Path

from slm.core.tables import read_rows
from slm.results.eval import Baseline
from slm.tokenizer.bins import open_bin, read_meta
from storygrammar.grammar.generator import PLOTS, Story, stories

SEED = 42
N_FOR_WORDS = 2000


def bits_per_byte(told: list[Story]) -> tuple[float, float]:
    """Bits a byte and its standard error: of a ratio of means, by the delta method (Cochran, 1977, §2.11)."""
    sizes = [len(story.text.encode()) for story in told]
    n, size = len(told), sum(sizes)
    ratio = sum(story.bits for story in told) / size
    squares = sum((story.bits - ratio * y) ** 2 for story, y in zip(told, sizes, strict=True))
    return ratio, math.sqrt(squares * n / (n - 1)) / size


def measure(n: int) -> dict[str, str]:
    """Tell n stories and return what to report: name → value."""
    start = time.process_time()
    told = list(islice(stories(SEED), n))
    seconds = time.process_time() - start
    ratio, error = bits_per_byte(told)
    words = {word for story in told[:N_FOR_WORDS] for word in re.findall(r"[a-z]+", story.text.lower())}
    return {
        "stories a second (one core)": f"{n / seconds:,.0f}",
        "bytes a story": f"{sum(len(story.text.encode()) for story in told) / n:.1f}",
        "bits a byte": f"{ratio:.5f} ± {error:.5f}",
        f"different words in {min(n, N_FOR_WORDS):,} stories": f"{len(words):,}",
        "plots": f"{len(PLOTS)}",
        f"duplicates in {n:,} stories": f"{n - len({story.text for story in told}):,}",
    }


def measure_context() -> dict[str, str]:
    """What a short context costs on the validation split of data/tokens: name → value."""
    from slm.eval.perplexity import token_losses
    from slm.model.gpt import load_model

    tokens = Path("data/tokens")
    model, validation = load_model(Path("models")), open_bin(tokens, "validation")
    end_of_text = read_meta(tokens).end_of_text
    full, cut = (
        token_losses(model, validation, end_of_text, context // 4, 16, context).mean(dtype="float64")
        for context in (model.params.block_size, 32)
    )
    levels = {row.name: row.bits_per_byte for row in read_rows(Path("reports/baselines.csv"), Baseline)}
    ngram = next(name for name in levels if name.endswith("-gram"))
    return {
        f"{ngram} model, times the entropy": f"{levels[ngram] / levels['entropy']:.2f}",
        "trained model, nats a token": f"{full:.3f}",
        "the same with 32 tokens of context": f"{cut:.3f} (+{cut / full - 1:.0%})",
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the story grammar.")
    parser.add_argument("--stories", type=int, default=100_000, help="how many to tell, at least 2")
    args = parser.parse_args()
    if args.stories < 2:
        parser.error("--stories: must be at least 2")
    print("| measure | value |\n|---|---:|")
    trained = Path("models/model.safetensors").exists()
    for name, value in (measure(args.stories) | (measure_context() if trained else {})).items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
