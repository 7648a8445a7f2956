"""Minimal pairs: the grammar generates only the good text; the model prefers the one with less loss."""

import re
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from slm.eval.minimal_pairs import BATCH_SIZE, score_pairs
from slm.eval.perplexity import token_losses
from slm.results.eval import PairScore
from slm.tokenizer.tokenizer import END_OF_TEXT, encode, train_bpe
from storygrammar.grammar.generator import tell_story
from storygrammar.minimal_pairs import PHENOMENA, pairs
from tests.project import ROOT
from tests.storygrammar.test_stories import Replay, WrongTurnError
from tests.tiny import shaken


class CompleteError(Exception):
    """The text begins with the complete target."""


class BeginningReplay(Replay):
    """A replay that stops when the story begins with the target."""

    def draw(self, n: int) -> int:
        for piece in self.pieces[self._n_pieces :]:
            if not piece.startswith(self.target[self._n_checked : self._n_checked + len(piece)]):
                raise WrongTurnError
            self._n_checked += len(piece)
        self._n_pieces = len(self.pieces)
        if self._n_checked >= len(self.target):
            raise CompleteError
        return super().draw(n)


def is_possible_beginning(beginning: str) -> bool:
    """Return whether a story can begin like this, by depth-first search through all decisions."""
    decisions: list[int] = []
    while True:
        replay = BeginningReplay(beginning, decisions)
        try:
            tell_story(replay)
            if replay.text.startswith(beginning):
                return True
        except CompleteError:
            return True
        except WrongTurnError:
            pass
        taken = replay.taken
        while taken and taken[-1][0] == taken[-1][1] - 1:
            taken.pop()
        if not taken:
            return False
        decisions = [decision for decision, _ in taken]
        decisions[-1] += 1


@pytest.mark.parametrize("n_pairs", [2, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_grammar_generates_good_text_but_not_bad_text(phenomenon, n_pairs):
    for good, bad in islice(pairs(phenomenon, seed=3), n_pairs):
        assert is_possible_beginning(good), good
        assert not is_possible_beginning(bad), bad


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_texts_of_a_pair_differ_in_the_last_sentence_only(phenomenon):
    for pair in islice(pairs(phenomenon, seed=4), 200):
        good, bad = (text.split() for text in pair)
        assert good != bad
        assert len(good) == len(bad)
        first = next(i for i, (one, other) in enumerate(zip(good, bad, strict=True)) if one != other)
        assert not any(re.search(r'[.!?]"?$', word) for word in good[first:-1]), pair.good
        assert re.search(r'[.!?]"?$', good[-1]), pair.good


def test_pairs_depend_on_phenomenon_and_seed():
    def first(phenomenon, seed):
        return list(islice(pairs(phenomenon, seed), 20))

    for phenomenon in PHENOMENA:
        assert first(phenomenon, 1) == first(phenomenon, 1)
        assert not set(first(phenomenon, 1)) & set(first(phenomenon, 2))
    assert not {pair.good for pair in first("name", 1)} & {pair.good for pair in first("look", 1)}


def test_pairs_do_not_depend_on_string_hashes():
    code = """
from itertools import islice
from storygrammar.minimal_pairs import PHENOMENA, pairs
print([list(islice(pairs(phenomenon, 1), 20)) for phenomenon in PHENOMENA])"""
    one, other = (
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    )
    assert one == other


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([pair.good for pair in islice(pairs("name", 5), 100)], vocab_size=400)


@pytest.mark.parametrize("architecture", ["gpt2", "rope"])
def test_preferred_text_has_the_smaller_loss(tokenizer, architecture):
    end = tokenizer.token_to_id(END_OF_TEXT)
    model = shaken(tokenizer.get_vocab_size(), by=0.2, architecture=architecture, block_size=512)
    n = BATCH_SIZE + 3
    expected = []
    for phenomenon in PHENOMENA:
        losses = [
            [
                token_losses(model, np.array(encode(tokenizer, text)), end, None, 8).sum(dtype=np.float64)
                for text in pair
            ]
            for pair in islice(pairs(phenomenon, 7), n)
        ]
        accuracy = sum(good < bad for good, bad in losses) / n
        expected.append(PairScore(phenomenon=phenomenon, accuracy=accuracy, pairs=n))
    assert score_pairs(model, tokenizer, end, n, seed=7) == expected
    assert {score.accuracy for score in expected} - {0.0, 1.0}


def test_pairs_longer_than_block_size_are_scored(tokenizer):
    end = tokenizer.token_to_id(END_OF_TEXT)
    for block_size in (4, 64):
        model = shaken(tokenizer.get_vocab_size(), by=0.2, block_size=block_size)
        scores = score_pairs(model, tokenizer, end, 10, seed=7)
        assert [(score.phenomenon, score.pairs) for score in scores] == [(name, 10) for name in PHENOMENA]
        assert all(0 <= score.accuracy <= 1 for score in scores)
