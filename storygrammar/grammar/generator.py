"""The synthetic corpus: an endless, seeded sequence of stories with their probabilities.

python -m storygrammar.grammar.generator --seed 42 --count 10
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

from storygrammar.grammar import plots_friends, plots_home, plots_things, plots_trips
from storygrammar.grammar.scenes import opening
from storygrammar.grammar.teller import Teller

PLOTS = (*plots_things.PLOTS, *plots_friends.PLOTS, *plots_home.PLOTS, *plots_trips.PLOTS)


class Story(NamedTuple):
    """A story and its negative log2-probability under the grammar."""

    text: str
    bits: float


def stories(seed: int) -> Iterator[Story]:
    """Yield stories without end; a larger corpus begins with the stories of a smaller one."""
    random = Random(seed).random
    while True:
        teller = Teller(random)
        tell_story(teller)
        yield Story(teller.text, teller.bits)


def tell_story(s: Teller) -> str:
    """Tell one story, an opening and a random plot, and return the name of the plot."""
    opening(s)
    plot = s.pick(PLOTS)
    plot(s)
    return plot.__name__


def main() -> None:
    """Print stories."""
    parser = argparse.ArgumentParser(description="Print the first stories of a seed.")
    parser.add_argument("--seed", type=int, default=42, help="seed of the stories (default: 42)")
    parser.add_argument("--count", type=int, default=10, help="number of stories (default: 10)")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"--count: must be at least 1, got {args.count}")
    print(*(story.text for story in islice(stories(args.seed), args.count)), sep="\n\n")


if __name__ == "__main__":
    main()
