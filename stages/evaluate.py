"""Stage 4, evaluate: how well the model predicts every token of the validation split, and beside what."""

from pathlib import Path

from slm.evaluation.params import EvaluateParams
from slm.files import read_json, write_json
from slm.params import run_stage
from slm.tokens.bins import open_bin, read_meta


def main() -> None:
    params = EvaluateParams.load()
    from slm.device import setup_torch
    from slm.evaluation.baselines import compare
    from slm.evaluation.perplexity import summary, token_losses
    from slm.model.checkpoint import load_model

    tokens = Path("data/tokens")
    meta = read_meta(tokens)
    model = load_model(Path("models"), setup_torch())
    train, validation = open_bin(tokens, "train"), open_bin(tokens, "validation")
    losses = token_losses(model, validation, meta.end_of_text, params.stride, params.batch_size)
    n_bytes = meta.validation.bytes
    entropy = read_json(Path("data/corpus/summary.json"))["validation"].get("entropy")
    result = summary(losses, n_bytes)
    result |= compare(result, train, validation, meta.vocab_size, n_bytes, params.ngram_order, entropy)
    write_json(Path("reports/eval.json"), result)


if __name__ == "__main__":
    run_stage(main)
