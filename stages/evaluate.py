"""Stage 4, evaluate: how well the model predicts every token of the validation split, and beside what."""

from itertools import chain
from pathlib import Path

from slm.core.stage import Stage, run_stage
from slm.core.tables import write_result, write_rows
from slm.eval.params import EvaluateParams
from slm.results.eval import Baseline, EvalDetails, EvalMetrics, FrequencyLoss, PairScore, PositionLoss
from slm.tokenizer.bins import open_bin, read_meta

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
    train_counts = breakdown.count_tokens(train, meta.vocab_size)
    texts = chain.from_iterable(read_documents(corpus / "validation.parquet"))
    levels = baselines(meta, train, validation, train_counts, texts, params.ngram_order)
    rows = [Baseline(name=name, kind="baseline", bits_per_byte=bits) for name, bits in levels.items()]
    rows.append(Baseline(name="this model", kind="model", bits_per_byte=total["bits_per_byte"]))
    ngram_gap_closed = None
    if entropy:
        rows.append(Baseline(name="entropy", kind="bound", bits_per_byte=entropy.bits_per_byte))
    if entropy and params.ngram_order:
        ngram = levels[f"{params.ngram_order}-gram"]
        ngram_gap_closed = gap_closed(ngram, total["bits_per_byte"], entropy.bits_per_byte)
    positions = breakdown.by_position(model, validation, meta.end_of_text, params.batch_size)
    frequencies = breakdown.by_frequency(losses, validation, train_counts)
    pairs, minimal_pair_acc = [], None
    if params.minimal_pairs:
        tokenizer = load(Path("models/tokenizer.json"))
        pairs = score_pairs(model, tokenizer, meta.end_of_text, params.minimal_pairs, PAIRS_SEED)
        minimal_pair_acc = sum(row.accuracy * row.pairs for row in pairs) / sum(row.pairs for row in pairs)
    metrics = EvalMetrics(
        val_loss=total["val_loss"],
        perplexity=total["perplexity"],
        bits_per_byte=total["bits_per_byte"],
        ngram_gap_closed=ngram_gap_closed,
        minimal_pair_acc=minimal_pair_acc,
    )
    details = EvalDetails(
        bits_per_byte_ci95=breakdown.bits_per_byte_ci95(losses, validation, meta.end_of_text, n_bytes),
        tokens=meta.validation.tokens,
        bytes=meta.validation.bytes,
        documents=meta.validation.documents,
        versions=stage.versions,
    )

    reports = Path("reports")
    write_result(reports / "eval.json", metrics)
    write_result(reports / "details/eval.json", details)
    write_rows(reports / "baselines.csv", Baseline, rows)
    write_rows(reports / "by_position.csv", PositionLoss, positions)
    write_rows(reports / "by_frequency.csv", FrequencyLoss, frequencies)
    write_rows(reports / "minimal_pairs.csv", PairScore, pairs)


if __name__ == "__main__":
    run_stage("evaluate", main)
