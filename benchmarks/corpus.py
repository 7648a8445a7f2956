"""Measure the story grammar: speed, size, entropy, vocabulary and duplicates, as a Markdown table.

    python -m benchmarks.corpus --stories 100000

After `dvc repro` the table also has the effect of a short context: the loss of the n-gram model relative to
the entropy, and the loss of the trained model with 32 tokens of context.
"""

import argparse
import re
import time
from itertools import islice
from pathlib import Path

from slm.core.errors import run_command
from slm.data.statistics import ratio_standard_error
from slm.report.reading import read_rows
from slm.results.eval import Baseline
from slm.tokenizer.bins import open_bin, read_meta
from storygrammar.grammar.generator import PLOTS, Story, stories

SEED = 42
# The vocabulary is counted in this many stories.
N_VOCAB_STORIES = 2000
SHORT_CONTEXT = 32


def bits_per_byte(sample: list[Story]) -> tuple[float, float]:
    """Return the entropy in bits per byte and its standard error."""
    sizes = [len(story.text.encode()) for story in sample]
    size = sum(sizes)
    ratio = sum(story.bits for story in sample) / size
    squares = sum((story.bits - ratio * n_bytes) ** 2 for story, n_bytes in zip(sample, sizes, strict=True))
    return ratio, ratio_standard_error(squares, size, len(sample))


def measure_stories(n: int) -> dict[str, str]:
    """Generate n stories and return their measures: name → value."""
    start = time.process_time()
    sample = list(islice(stories(SEED), n))
    seconds = time.process_time() - start
    entropy, error = bits_per_byte(sample)
    vocabulary = {
        word for story in sample[:N_VOCAB_STORIES] for word in re.findall(r"[a-z]+", story.text.lower())
    }
    return {
        "stories per second (one core)": f"{n / seconds:,.0f}",
        "bytes per story": f"{sum(len(story.text.encode()) for story in sample) / n:.1f}",
        "bits per byte": f"{entropy:.5f} ± {error:.5f}",
        f"distinct words in {min(n, N_VOCAB_STORIES):,} stories": f"{len(vocabulary):,}",
        "plots": f"{len(PLOTS)}",
        f"duplicates in {n:,} stories": f"{n - len({story.text for story in sample}):,}",
    }


def measure_context() -> dict[str, str]:
    """Return the effect of a short context on the validation split: name → value."""
    # Importing torch is slow, so do it only when needed.
    from slm.eval.perplexity import token_losses
    from slm.model.gpt import load_model

    tokens = Path("data/tokens")
    model, validation = load_model(Path("models")), open_bin(tokens, "validation")
    end_of_text = read_meta(tokens).end_of_text
    loss, short_loss = (
        token_losses(model, validation, end_of_text, context // 4, 16, context).mean(dtype="float64")
        for context in (model.params.block_size, SHORT_CONTEXT)
    )
    levels = {row.name: row.bits_per_byte for row in read_rows(Path("reports/baselines.csv"), Baseline)}
    ngram = next(name for name in levels if name.endswith("-gram"))
    return {
        f"{ngram} loss, relative to the entropy": f"{levels[ngram] / levels['entropy']:.2f}",
        "loss of the trained model, nats per token": f"{loss:.3f}",
        f"loss with {SHORT_CONTEXT} tokens of context": f"{short_loss:.3f} (+{short_loss / loss - 1:.0%})",
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the story grammar.")
    parser.add_argument(
        "--stories", type=int, default=100_000, help="number of stories, at least 2 (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.stories < 2:
        parser.error(f"--stories: must be at least 2, got {args.stories}")
    print("| measure | value |\n|---|---:|")
    measures = measure_stories(args.stories)
    if Path("models/model.safetensors").exists():
        measures |= measure_context()
    for name, value in measures.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    run_command(main)
