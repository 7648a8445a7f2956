"""How a conversation is laid out as one text: requests are quoted as in mail, answers stand as they are.

    > Write a story about a frog who loses a drum.
    Once upon a time there was a little frog named Gus. …
    > Sum it up in one sentence.
    Gus lost a red drum, and Rosa found it.

Like every text it begins after `<|endoftext|>`. An answer ends with that token, too: a model that was tuned
predicts it after the last word of an answer, though the next request follows there if the talk goes on. So
who asks gives the text up to the end of a request (`prompt`), and lets the model write until the token.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from slm.sft.conversations import Turn

QUOTE = "> "


def prompt(turns: Iterable[Turn], request: str) -> str:
    """What the model goes on with: the turns so far, and a new request."""
    return "".join(given + answer for given, answer in pieces([*turns, Turn(request, "")]))


def n_out_of_sight(
    turns: Sequence[Turn], request: str, n_tokens: Callable[[str], int], block_size: int
) -> int:
    """How many of the first turns are to be left out, that a model sees all others and the request."""

    def is_in_sight(first: int) -> bool:
        return n_tokens(prompt(turns[first:], request)) < block_size

    return bisect_left(range(len(turns)), True, key=is_in_sight)


def pieces(turns: Iterable[Turn]) -> Iterator[tuple[str, str]]:
    """What comes before each answer, and the answer. Laid end to end they are the conversation.

    They begin and end where no token can reach across, so that their ids laid end to end are its ids.
    """
    for number, (request, answer, _) in enumerate(turns):
        lines = "".join(f"{QUOTE}{line}".rstrip() + "\n" for line in request.strip().splitlines() or [""])
        yield ("\n" if number else "") + lines, answer.strip()
