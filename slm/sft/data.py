"""Batches for supervised fine-tuning: conversations in which only the answers are targets.

A row holds one conversation and is padded on the right. Its targets are the tokens of each answer and the
`<|endoftext|>` after it. All other targets are IGNORE_INDEX: the model reads the prompts but does not learn
to write them. Turns that do not fit into block_size tokens are left out; a first turn is truncated instead.

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
from slm.model.loss import IGNORE_INDEX
from slm.sft.conversations import Conversation, Turn, read_conversations, segments
from slm.sft.params import SFTRun
from slm.tokenizer.tokenizer import encode, end_of_text_id
from slm.train.data import Batch, to_device, to_rank
from slm.train.params import TrainParams
from storygrammar.prompts.conversations import conversations

# Inputs and targets, (N, T) each.
Rows = tuple[Tensor, Tensor]
# Fraction of a file's conversations that is held out.
VALIDATION_FRACTION = 0.05


class SFTBatches:
    """Batches of the training conversations, each once per epoch, and of the held-out ones."""

    def __init__(self, train: Rows, validation: Rows, params: TrainParams):
        self._params, self._train, self._validation = params, train, validation
        self.targets_per_epoch = count_targets(train[1])

    def train_batch(self, step: int, device: torch.device) -> Batch:
        """Return this rank's shard of a step, which depends on the seed and the step alone."""
        n_rows, size = len(self._train[0]), self._params.batch_size
        positions = [divmod(row, n_rows) for row in range(step * size, (step + 1) * size)]
        rows = [epoch_order(n_rows, self._params.seed, epoch)[position] for epoch, position in positions]
        inputs, targets = self._train[0][rows].long(), self._train[1][rows].long()
        return to_rank(Batch(inputs, targets, count_targets(targets)), device)

    def val_batches(self, device: torch.device) -> Iterator[Batch]:
        """Yield batches of the first held-out conversations with `eval_tokens` targets; 0 is all."""
        counts = (self._validation[1] != IGNORE_INDEX).sum(1).cumsum(0)
        n_targets = self._params.eval_tokens or int(counts[-1])
        n_rows = int((counts < n_targets).sum()) + 1
        inputs, targets = (part[:n_rows].long().split(self._params.batch_size) for part in self._validation)
        for x, y in zip(inputs, targets, strict=True):
            yield to_device(Batch(x, y, count_targets(y)), device)


def load_batches(run: SFTRun, params: TrainParams, tokenizer: Tokenizer, block_size: int) -> SFTBatches:
    """Return as many conversations as the run trains on, and the held-out ones.

    Raises UserError if a split is empty or the file cannot be read.
    """
    n_seen = params.max_steps * params.batch_size
    train = to_rows(islice(read_source(run, held_out=False), n_seen), tokenizer, block_size)
    held_out = islice(read_source(run, held_out=True), run.num_eval_prompts)
    validation = to_rows(held_out, tokenizer, block_size)
    source = "sft.tasks" if run.tasks else run.file
    for split, name in ((train, "training"), (validation, "held-out")):
        if not len(split[0]):
            raise UserError(
                f"{source}: no {name} conversation fits: at least one prompt must be shorter than "
                f"model.block_size, which is {block_size} tokens"
            )
    return SFTBatches(train, validation, params)


def read_source(run: SFTRun, held_out: bool) -> Iterator[Conversation]:
    """Yield the training or the held-out conversations of the tasks, or of the file.

    A file has no split of its own: a hash of the first prompt decides.
    """
    if run.tasks:
        for turns in conversations(run.tasks, run.seed, held_out):
            yield [Turn(*turn) for turn in turns]
        return
    for conversation in read_conversations(Path(run.file)):
        if is_validation(conversation[0].prompt, VALIDATION_FRACTION, seed=0) == held_out:
            yield conversation


def to_rows(examples: Iterable[Conversation], tokenizer: Tokenizer, block_size: int) -> Rows:
    """Return inputs and targets (N, T), int32, of the conversations that have a target within T tokens."""
    end_of_text = end_of_text_id(tokenizer)
    rows = [to_row(example, tokenizer, end_of_text, block_size) for example in examples]
    rows = [(ids, targets) for ids, targets in rows if any(target != IGNORE_INDEX for target in targets)]
    inputs = torch.full((len(rows), block_size), end_of_text, dtype=torch.int32)
    all_targets = torch.full((len(rows), block_size), IGNORE_INDEX, dtype=torch.int32)
    for number, (ids, targets) in enumerate(rows):
        inputs[number, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        all_targets[number, : len(targets)] = torch.tensor(targets, dtype=torch.int32)
    return inputs, all_targets


def to_row(
    conversation: Conversation, tokenizer: Tokenizer, end_of_text: int, block_size: int
) -> tuple[list[int], list[int]]:
    """Return the ids of a conversation and the target of each id, at most `block_size` of them."""
    ids, targets = [end_of_text], [IGNORE_INDEX]
    for prompt, answer in segments(conversation):
        prompt_ids, answer_ids = encode(tokenizer, prompt), encode(tokenizer, answer)
        if len(ids) > 1 and len(ids) + len(prompt_ids) + len(answer_ids) > block_size:
            break
        ids += prompt_ids + answer_ids
        # The last token of the prompt predicts the first token of the answer.
        targets += [IGNORE_INDEX] * (len(prompt_ids) - 1) + answer_ids + [end_of_text]
    return ids[:block_size], targets[:block_size]


def count_targets(targets: Tensor) -> int:
    """Return the number of targets that are not IGNORE_INDEX."""
    return int((targets != IGNORE_INDEX).sum())


@lru_cache(maxsize=2)
def epoch_order(n_rows: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order (N,) of the rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n_rows)
