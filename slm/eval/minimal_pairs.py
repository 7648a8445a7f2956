"""Minimal-pair accuracy: does the model prefer the correct text of a pair? (BLiMP, Warstadt et al. 2020)

Shapes: B texts, T tokens in each.
"""

from itertools import islice

import torch
from tokenizers import Tokenizer

from slm.core.progress import Progress
from slm.model.gpt import GPT
from slm.model.loss import IGNORE_INDEX
from slm.results.eval import PairScore
from slm.tokenizer.tokenizer import encode
from storygrammar.minimal_pairs import PHENOMENA, Pair, pairs

# Pairs per forward pass.
BATCH_SIZE = 8


def score_pairs(
    model: GPT, tokenizer: Tokenizer, end_of_text: int, pairs_per_phenomenon: int, seed: int
) -> list[PairScore]:
    """Return the accuracy of the model on each phenomenon; chance is 1/2.

    The model must be in `eval` mode.
    """
    scores = []
    with Progress("minimal pairs", pairs_per_phenomenon * len(PHENOMENA), "pair") as progress:
        for phenomenon in PHENOMENA:
            sample = islice(pairs(phenomenon, seed), pairs_per_phenomenon)
            n_correct = 0
            while batch := list(islice(sample, BATCH_SIZE)):
                n_correct += count_preferred(model, tokenizer, end_of_text, batch)
                progress.advance(len(batch))
            accuracy = n_correct / pairs_per_phenomenon
            scores.append(PairScore(phenomenon=phenomenon, accuracy=accuracy, pairs=pairs_per_phenomenon))
    return scores


@torch.inference_mode()
def count_preferred(model: GPT, tokenizer: Tokenizer, end_of_text: int, batch: list[Pair]) -> int:
    """Return the number of pairs whose good text has the higher probability, after `end_of_text`.

    The two texts of a pair begin with the same tokens, whose probability is the same. So only the rest is
    compared, in a window of at most block_size tokens that ends with the longer text.
    """
    windows, targets = [], []
    for pair in batch:
        good, bad = ([end_of_text, *encode(tokenizer, text)] for text in pair)
        first_difference = next(i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b)
        start = min(max(0, max(len(good), len(bad)) - 1 - model.params.block_size), first_difference - 1)
        for text in (good, bad):
            window = text[start : start + model.params.block_size + 1]
            windows.append(window[:-1])
            targets.append(
                [IGNORE_INDEX] * (first_difference - 1 - start) + window[first_difference - start :]
            )
    longest = max(map(len, windows))
    n_shared = min(target.count(IGNORE_INDEX) for target in targets)
    padded = [ids + [end_of_text] * (longest - len(ids)) for ids in windows]
    inputs = torch.tensor(padded, device=model.device)  # (B, T)
    padded = [ids + [IGNORE_INDEX] * (longest - len(ids)) for ids in targets]
    compared = torch.tensor(padded, device=model.device)[:, n_shared:]  # (B, T − n_shared)
    losses = model.loss(inputs, compared, reduction="none").sum(dim=1)  # (B,)
    good_losses, bad_losses = losses.view(-1, 2).unbind(dim=1)
    return int((good_losses < bad_losses).sum())
