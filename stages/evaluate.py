"""Stage 4, evaluate: how well the model predicts every token of the validation split, and beside what."""

from pathlib import Path

from slm.evaluation.params import EvaluateParams
from slm.files import write_json
from slm.stage import Stage, run_stage
from slm.tokens.bins import open_bin, read_meta


def main(stage: Stage) -> None:
    params = stage.load(EvaluateParams)
    from slm.device import setup_torch
    from slm.evaluation.baselines import compare, read_entropy
    from slm.evaluation.perplexity import summary, token_losses
    from slm.model.checkpoint import load_model

    tokens = Path("data/tokens")
    meta = read_meta(tokens)
    model = load_model(Path("models"), setup_torch(), meta.vocab_size)
    train, validation = open_bin(tokens, "train"), open_bin(tokens, "validation")
    losses = token_losses(model, validation, meta.end_of_text, params.stride, params.batch_size)
    n_bytes = meta.validation.bytes
    entropy = read_entropy(Path("data/corpus/summary.json"))
    result = summary(losses, n_bytes)
    result |= compare(result, train, validation, meta.vocab_size, n_bytes, params.ngram_order, entropy)
    write_json(Path("reports/eval.json"), result | {"made_with": stage.made_with()})


if __name__ == "__main__":
    run_stage("evaluate", main)
