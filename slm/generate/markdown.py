"""Write Markdown: escaped text, quotations and tables."""

import re
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """Escape all characters that Markdown interprets."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", text)


def quote(text: str) -> str:
    """Return a text as a quotation with one paragraph per line."""
    # At the start of a line, numbers and these signs would begin a list or a heading.
    lines = [re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line.strip()) for line in escape(text).splitlines()]
    return "\n>\n".join(f"> {line}" for line in lines if line)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], align: str = "") -> str:
    """Return a table. `align` has l or r for each column; by default, all but the first are right-aligned."""
    align = align or "l" + "r" * (len(header) - 1)
    lines = [header, [{"l": "---", "r": "---:"}[side] for side in align], *rows]
    cells = [[str(cell).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
