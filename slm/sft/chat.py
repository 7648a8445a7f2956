"""The layout of a conversation as one text: prompts are quoted as in mail, answers stand as they are.

    > Write a story about a frog who loses a drum.
    Once upon a time there was a little frog named Gus. …
    > Sum it up in one sentence.
    Gus lost a red drum, and Rosa found it.

Like every document it follows `<|endoftext|>`. Each answer ends with that token, too: a fine-tuned model
predicts it after the last word of an answer, although the text continues with the next prompt. So a caller
renders the conversation up to the end of a prompt, and lets the model write until the token.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from slm.sft.conversations import Turn

QUOTE = "> "


def render(turns: Iterable[Turn], prompt: str) -> str:
    """Return the text that the model continues: the turns so far and a new prompt."""
    return "".join(quoted + answer for quoted, answer in segments([*turns, Turn(prompt, "")]))


def n_dropped(turns: Sequence[Turn], prompt: str, n_tokens: Callable[[str], int], block_size: int) -> int:
    """Return how many of the first turns must be dropped so that the rest and the prompt fit the context."""

    def fits(first: int) -> bool:
        return n_tokens(render(turns[first:], prompt)) < block_size

    return bisect_left(range(len(turns)), True, key=fits)


def segments(turns: Iterable[Turn]) -> Iterator[tuple[str, str]]:
    """Yield the quoted prompt before each answer, and the answer. Concatenated they are the conversation.

    No token can reach across a boundary, so the concatenated ids of the segments are the ids of the text.
    """
    for number, turn in enumerate(turns):
        lines = turn.prompt.strip().splitlines() or [""]
        quoted = "".join(f"{QUOTE}{line}".rstrip() + "\n" for line in lines)
        yield ("\n" if number else "") + quoted, turn.answer.strip()
