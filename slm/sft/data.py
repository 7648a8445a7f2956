"""Batches of conversations in which only the answers are to be learned: supervised finetuning.

A row holds one conversation. Its targets are the tokens of each answer and an `<|endoftext|>` after it. All
others are IGNORED: the model reads the requests, but does not learn to make them. A row is filled up on the
right. Turns that do not fit into block_size tokens are left out, and a first one is cut there.

Shapes: N conversations, B of them in a batch, T = block_size tokens.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from slm.core.errors import UserError
from slm.data.documents import is_validation
from slm.model.gpt import IGNORED
from slm.sft.chat import pieces
from slm.sft.conversations import Conversation, Turn, read_conversations
from slm.sft.params import SFTRun
from slm.tokenizer.tokenizer import END_OF_TEXT, encode
from slm.train.params import TrainParams
from storygrammar.requests.requests import conversations

Rows = tuple[Tensor, Tensor]  # inputs and targets, (N, T) each
HELD_OUT = 0.05  # of the requests of a file


class Pairs:
    """What finetuning learns from, each conversation once an epoch."""

    def __init__(self, train: Rows, validation: Rows, params: TrainParams):
        self._params, self._train, self._validation = params, train, validation
        self.n_targets = count_targets(train[1])  # of an epoch

    def training(self, step: int) -> Rows:
        """Inputs and targets (B, T) of a step; they depend on the seed and the step alone."""
        n_rows, size = len(self._train[0]), self._params.batch_size
        places = [divmod(row, n_rows) for row in range(step * size, (step + 1) * size)]
        rows = [order(n_rows, self._params.seed, epoch)[place] for epoch, place in places]
        return self._train[0][rows].long(), self._train[1][rows].long()

    def validation(self) -> Iterator[Rows]:
        """The held-out conversations with the first `eval_tokens` targets."""
        counts = (self._validation[1] != IGNORED).sum(1).cumsum(0)
        most = self._params.eval_tokens or int(counts[-1])
        n_rows = int((counts < most).sum()) + 1
        inputs, targets = (part[:n_rows].long().split(self._params.batch_size) for part in self._validation)
        yield from zip(inputs, targets, strict=True)


def read_pairs(item: SFTRun, params: TrainParams, tokenizer: Tokenizer, block_size: int) -> Pairs:
    """As many conversations as the training will see, and those to look at meanwhile.

    Raises UserError if there are none, or the file of pairs cannot be read.
    """
    n_seen = params.max_steps * params.batch_size
    train = to_rows(islice(source(item, held_out=False), n_seen), tokenizer, block_size)
    validation = to_rows(islice(source(item, held_out=True), item.num_eval_prompts), tokenizer, block_size)
    place = "sft.tasks" if item.tasks else item.file
    for split, what in ((train, "to train on"), (validation, "that is held out")):
        if not len(split[0]):
            raise UserError(f"{place}: no pair {what} whose answer begins within block_size; give others")
    return Pairs(train, validation, params)


def source(item: SFTRun, held_out: bool) -> Iterator[Conversation]:
    """The conversations to train on, or those that are held out: of a file, a part by the request's hash."""
    if item.tasks:
        talks = conversations(item.tasks, item.seed, held_out)
        return ([Turn(*turn) for turn in talk] for talk in talks)
    return (
        talk
        for talk in read_conversations(Path(item.file))
        if is_validation(talk[0].request, HELD_OUT, seed=0) == held_out
    )


def to_rows(talks: Iterable[Conversation], tokenizer: Tokenizer, block_size: int) -> Rows:
    """Inputs and targets (N, T), int32; a conversation without a token of an answer within T is left out."""
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    rows = [to_row(talk, tokenizer, end_of_text, block_size) for talk in talks]
    rows = [(ids, targets) for ids, targets in rows if any(target != IGNORED for target in targets)]
    inputs = torch.full((len(rows), block_size), end_of_text, dtype=torch.int32)
    wanted = torch.full((len(rows), block_size), IGNORED, dtype=torch.int32)
    for number, (ids, targets) in enumerate(rows):
        inputs[number, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        wanted[number, : len(targets)] = torch.tensor(targets, dtype=torch.int32)
    return inputs, wanted


def to_row(
    talk: Conversation, tokenizer: Tokenizer, end_of_text: int, block_size: int
) -> tuple[list[int], list[int]]:
    """The ids of a conversation, and the target of each."""
    ids, targets = [end_of_text], [IGNORED]
    for given, answer in pieces(talk):
        new, wanted = encode(tokenizer, given), encode(tokenizer, answer)
        if len(ids) > 1 and len(ids) + len(new) + len(wanted) > block_size:
            break
        ids += new + wanted
        targets += [IGNORED] * (len(new) - 1) + wanted + [end_of_text]
    return ids[:block_size], targets[:block_size]


def count_targets(targets: Tensor) -> int:
    return int((targets != IGNORED).sum())


@lru_cache(maxsize=2)
def order(n_rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: (N,)."""
    return np.random.default_rng([seed, epoch]).permutation(n_rows)
