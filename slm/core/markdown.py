"""Markdown: texts that hold whatever a model wrote, quotations and tables."""

import re
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """Keep what is a sign in the text from being Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", text)


def quote(text: str) -> str:
    """A text as a quotation, each of its lines a paragraph."""
    lines = [re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line.strip()) for line in escape(text).splitlines()]
    return "\n>\n".join(f"> {line}" for line in lines if line)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], align: str = "") -> str:
    """A table; `align` has l or r for each column: if it is empty, all but the first go to the right."""
    align = align or "l" + "r" * (len(header) - 1)
    lines = [header, [{"l": "---", "r": "---:"}[side] for side in align], *rows]
    cells = [[str(cell).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
