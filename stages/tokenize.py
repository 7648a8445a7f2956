"""Stage 2, tokenize: make the tokenizer and turn the documents into flat files of token ids."""

from pathlib import Path

from slm.core.files import write_metrics
from slm.core.stage import Stage, run_stage
from slm.tokenizer.bins import read_meta
from slm.tokenizer.encode import write_bins
from slm.tokenizer.params import TokenizerParams


def main(stage: Stage) -> None:
    params = stage.load(TokenizerParams)
    tokens = Path("data/tokens")
    write_bins(Path("data/corpus"), tokens, Path("models/tokenizer.json"), params)
    meta = read_meta(tokens)
    result = {
        "vocab_size": meta.vocab_size,
        "train_tokens": meta.train.tokens,
        "validation_tokens": meta.validation.tokens,
        "bytes_per_token": meta.train.bytes
        / (meta.train.tokens - meta.train.documents),  # without ends of text
    }
    write_metrics(Path("reports/tokens.json"), result, ("bytes_per_token",), stage.made_with())


if __name__ == "__main__":
    run_stage("tokenize", main)
