"""Stage 2, tokenize: make the tokenizer and turn the documents into flat files of token ids."""

from pathlib import Path

from slm.params import run_stage
from slm.tokens.encoding import write_bins
from slm.tokens.params import TokenizerParams


def main() -> None:
    params = TokenizerParams.load()
    write_bins(Path("data/corpus"), Path("data/tokens"), Path("models/tokenizer.json"), params)


if __name__ == "__main__":
    run_stage(main)
