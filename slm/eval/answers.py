"""A page of requests and what a model answered, to be read."""

from collections.abc import Iterable

from slm.core.markdown import escape
from slm.eval.constraints import granted
from slm.eval.sft import Answered
from slm.sft.conversations import Conversation


def answers_page(answered: Iterable[Answered], talks: Iterable[Conversation]) -> str:
    """Markdown: each request as a quotation, the answer, and what of the wishes it grants.

    Where nothing of an answer can be checked, the one that was wanted stands below. Talks, in which the model
    goes on from its own answers, come last.
    """
    parts = ["# Requests and answers\n\nThe requests are held out: the model was not trained on them.\n"]
    for number, one in enumerate(answered, start=1):
        parts.append(f"\n## {number}\n\n{_told(one.turn.request, one.text)}\n\n*{_checked(one)}*\n")
    for number, talk in enumerate(talks, start=1):
        turns = "\n\n".join(_told(turn.request, turn.answer) for turn in talk)
        parts.append(f"\n## Conversation {number}\n\n{turns}\n")
    return "".join(parts)


def _checked(one: Answered) -> str:
    """Which wishes are met, or what was wanted."""
    if not one.turn.wishes:
        return escape(" ".join(f"Wanted: {one.turn.answer}".split()))
    found = granted(one.text)
    marks = [
        f"{'met' if value in found[kind] else 'not met'}: {kind}, {value}"
        for kind, value in one.turn.wishes.items()
    ]
    return escape("; ".join(marks))


def _told(request: str, answer: str) -> str:
    quoted = "\n".join(f"> {escape(line)}  " for line in request.splitlines())
    return f"{quoted}\n\n" + "  \n".join(escape(line) for line in answer.splitlines())
