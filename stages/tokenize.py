"""Stage tokenize: train or load the tokenizer and encode both splits to token ids."""

from pathlib import Path

from slm.core.files import write_result
from slm.core.stage import Stage, run_stage
from slm.results.tokens import TokensDetails, TokensMetrics
from slm.tokenizer.bins import read_meta
from slm.tokenizer.encode import write_bins
from slm.tokenizer.params import TokenizerParams


def main(stage: Stage) -> None:
    params = stage.load(TokenizerParams)
    tokens = Path("data/tokens")
    write_bins(Path("data/corpus"), tokens, Path("models/tokenizer.json"), params)
    meta = read_meta(tokens)
    # Each document ends with an end-of-text token, which has no bytes of text.
    n_text_tokens = meta.train.tokens - meta.train.documents
    metrics = TokensMetrics(bytes_per_token=meta.train.bytes / n_text_tokens)
    details = TokensDetails(
        vocab_size=meta.vocab_size,
        train_tokens=meta.train.tokens,
        validation_tokens=meta.validation.tokens,
        versions=stage.versions,
    )
    write_result(Path("reports/tokens.json"), metrics)
    write_result(Path("reports/details/tokens.json"), details)


if __name__ == "__main__":
    run_stage("tokenize", main)
