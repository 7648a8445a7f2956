"""Which documents are kept from training, where the corpus does not say it."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain, islice

from slm.corpus.documents import Document


def is_validation(text: str, fraction: float, seed: int) -> bool:
    """Whether a text is held out: a hash decides, so that equal texts always fall into the same split."""
    digest = blake2b(text.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") / 2**64 < fraction


def hold_out(texts: Iterator[str], fraction: float, seed: int) -> Iterator[Document]:
    """Hold out a fraction of the documents, each whole, or the end of the only one."""
    first = list(islice(texts, 2))
    if len(first) == 1:
        (text,) = first
        cut = _place_to_cut(text, fraction)
        yield Document("train", text[:cut])
        yield Document("validation", text[cut:])
        return
    for text in chain(first, texts):
        yield Document("validation" if is_validation(text, fraction, seed) else "train", text)


def _place_to_cut(text: str, fraction: float) -> int:
    """Where the last `fraction` of a text begins: at a line, if one begins near."""
    size = max(1, round(len(text) * fraction))
    cut = len(text) - size
    before = text.rfind("\n", max(0, cut - size), cut) + 1
    after = text.find("\n", cut) + 1
    return before or (after if text[after:].strip() else 0) or cut
