"""Stage 4, evaluate: how well the model predicts every token of the validation split, and beside what."""

from itertools import chain
from pathlib import Path
from typing import Any

from slm.core.files import write_metrics, write_table
from slm.core.stage import Stage, run_stage
from slm.eval.params import EvaluateParams
from slm.tokenizer.bins import open_bin, read_meta

COLUMNS = ("val_loss", "perplexity", "bits_per_byte", "ngram_gap_closed", "minimal_pair_acc")
PAIRS_SEED = 1


def main(stage: Stage) -> None:
    params = stage.load(EvaluateParams)
    from slm.data.documents import read_documents
    from slm.data.summary import read_summary
    from slm.eval import breakdown
    from slm.eval.baselines import baselines, gap_closed
    from slm.eval.minimal_pairs import score_pairs
    from slm.eval.perplexity import summary, token_losses
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.tokenizer.tokenizer import load

    tokens, corpus = Path("data/tokens"), Path("data/corpus")
    meta = read_meta(tokens)
    train, validation = open_bin(tokens, "train"), open_bin(tokens, "validation")
    n_bytes = breakdown.document_bytes(corpus / "validation.parquet", meta.validation)
    entropy = read_summary(corpus / "summary.json").validation.entropy
    model = load_model(Path("models"), setup_torch(), meta.vocab_size)

    losses = token_losses(model, validation, meta.end_of_text, params.stride, params.batch_size)
    total = summary(losses, meta.validation.bytes)
    result: dict[str, Any] = {key: total[key] for key in ("val_loss", "perplexity", "bits_per_byte")}
    train_counts = breakdown.count_tokens(train, meta.vocab_size)
    texts = chain.from_iterable(read_documents(corpus / "validation.parquet"))
    levels = baselines(meta, train, validation, train_counts, texts, params.ngram_order)
    rows = [(name, "baseline", bits) for name, bits in levels.items()]
    rows.append(("this model", "model", result["bits_per_byte"]))
    if entropy:
        rows.append(("entropy", "bound", entropy.bits_per_byte))
    if entropy and params.ngram_order:
        ngram = levels[f"{params.ngram_order}-gram"]
        result["ngram_gap_closed"] = gap_closed(ngram, result["bits_per_byte"], entropy.bits_per_byte)
    positions = breakdown.by_position(model, validation, meta.end_of_text, params.batch_size)
    frequencies = breakdown.by_frequency(losses, validation, train_counts)
    pairs = []
    if params.minimal_pairs:
        tokenizer = load(Path("models/tokenizer.json"))
        pairs = score_pairs(model, tokenizer, meta.end_of_text, params.minimal_pairs, PAIRS_SEED)
        n_right, n_pairs = sum(accuracy * n for _, accuracy, n in pairs), sum(n for *_, n in pairs)
        result["minimal_pair_acc"] = n_right / n_pairs
    if interval := breakdown.bits_per_byte_ci95(losses, validation, meta.end_of_text, n_bytes):
        result["bits_per_byte_ci95"] = interval
    result["split"] = [meta.validation.tokens, meta.validation.bytes, meta.validation.documents]

    reports = Path("reports")
    write_metrics(reports / "eval.json", result, COLUMNS, stage.made_with())
    write_table(reports / "baselines.csv", ("name", "kind", "bits_per_byte"), rows)
    write_table(reports / "by_position.csv", breakdown.Position._fields, positions)
    write_table(reports / "by_frequency.csv", breakdown.Frequency._fields, frequencies)
    write_table(reports / "minimal_pairs.csv", ("phenomenon", "accuracy", "pairs"), pairs)


if __name__ == "__main__":
    run_stage("evaluate", main)
