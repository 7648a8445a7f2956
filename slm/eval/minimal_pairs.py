"""Which text of a minimal pair does the model find likelier? (BLiMP, Warstadt et al. 2020)

Shapes: B texts, T tokens in each.
"""

from itertools import islice

import torch
from tokenizers import Tokenizer

from slm.core.progress import Progress
from slm.model.gpt import GPT, IGNORED, cross_entropy
from slm.results.eval import PairScore
from slm.tokenizer.tokenizer import encode
from storygrammar.minimal_pairs import PHENOMENA, Pair, pairs

BATCH_SIZE = 8  # pairs in one forward pass


def score_pairs(
    model: GPT, tokenizer: Tokenizer, end_of_text: int, per_phenomenon: int, seed: int
) -> list[PairScore]:
    """Each phenomenon, the share of its pairs in which the model prefers the right text, and their number.

    Who guesses is right in half of them. The model's mode should be `eval`.
    """
    scores = []
    with Progress("minimal pairs", per_phenomenon * len(PHENOMENA), "pair") as progress:
        for phenomenon in PHENOMENA:
            sample = islice(pairs(phenomenon, seed), per_phenomenon)
            n_right = 0
            while batch := list(islice(sample, BATCH_SIZE)):
                n_right += n_preferred(model, tokenizer, end_of_text, batch)
                progress.advance(len(batch))
            accuracy = n_right / per_phenomenon
            scores.append(PairScore(phenomenon=phenomenon, accuracy=accuracy, pairs=per_phenomenon))
    return scores


@torch.inference_mode()
def n_preferred(model: GPT, tokenizer: Tokenizer, end_of_text: int, batch: list[Pair]) -> int:
    """In how many pairs the first text has the larger probability, after `end_of_text`.

    The probability of what both begin with is the same: only the rest is compared, in a window that ends with
    the longer text and has at most block_size tokens.
    """
    windows, targets = [], []
    for pair in batch:
        good, bad = ([end_of_text, *encode(tokenizer, text)] for text in pair)
        differ = next(i for i, (one, other) in enumerate(zip(good, bad, strict=False)) if one != other)
        start = min(max(0, max(len(good), len(bad)) - 1 - model.params.block_size), differ - 1)
        for text in (good, bad):
            window = text[start : start + model.params.block_size + 1]
            windows.append(window[:-1])
            targets.append([IGNORED] * (differ - 1 - start) + window[differ - start :])
    longest = max(map(len, windows))
    first = min(target.count(IGNORED) for target in targets)
    inputs = torch.tensor([ids + [end_of_text] * (longest - len(ids)) for ids in windows])  # (B, T)
    wanted = torch.tensor([ids + [IGNORED] * (longest - len(ids)) for ids in targets])[:, first:]
    logits = model(inputs.to(model.device), last=longest - first)
    losses = cross_entropy(logits, wanted.to(model.device), reduction="none").view_as(wanted).sum(dim=1)
    good, bad = losses.view(-1, 2).unbind(dim=1)
    return int((good < bad).sum())
