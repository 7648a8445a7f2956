"""Stage evaluate: evaluate the model on every token of the validation split, with baselines."""

from itertools import chain
from pathlib import Path

from slm.core.files import write_result, write_rows
from slm.core.stage import Stage, run_stage
from slm.eval.params import EvaluateParams
from slm.results.eval import Baseline, EvalDetails, EvalMetrics, FrequencyLoss, PairScore, PositionLoss
from slm.tokenizer.bins import open_bin, read_meta

CORPUS, TOKENS, MODELS, REPORTS = Path("data/corpus"), Path("data/tokens"), Path("models"), Path("reports")
PAIRS_SEED = 1


def main(stage: Stage) -> None:
    params = stage.load(EvaluateParams)
    # Imported after the params are checked: torch takes a second.
    from slm.data.documents import read_documents
    from slm.data.summary import read_summary
    from slm.eval.baselines import baselines, gap_closed
    from slm.eval.breakdown import bits_per_byte_ci95, by_frequency, by_position, count_tokens, document_bytes
    from slm.eval.minimal_pairs import score_pairs
    from slm.eval.perplexity import summarize_losses, token_losses
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.tokenizer.tokenizer import load

    # Open and compare the inputs first: an error should not come after minutes of evaluation.
    meta = read_meta(TOKENS)
    train, validation = open_bin(TOKENS, "train"), open_bin(TOKENS, "validation")
    n_bytes = document_bytes(CORPUS / "validation.parquet", meta.validation)  # (D,)
    entropy = read_summary(CORPUS / "summary.json").validation.entropy
    model = load_model(MODELS, setup_torch(), meta.vocab_size)

    # Loss of every validation token; its mean, its confidence interval and what it depends on.
    losses = token_losses(model, validation, meta.end_of_text, params.stride, params.batch_size)
    summary = summarize_losses(losses, meta.validation.bytes)
    interval = bits_per_byte_ci95(losses, validation, meta.end_of_text, n_bytes)
    train_counts = count_tokens(train, meta.vocab_size)
    frequencies = by_frequency(losses, validation, train_counts)
    positions = by_position(model, validation, meta.end_of_text, params.batch_size)

    # Simpler models of the same text.
    texts = chain.from_iterable(read_documents(CORPUS / "validation.parquet"))
    bits = baselines(meta, train, validation, train_counts, texts, params.ngram_order)

    # Sentences of the story grammar that differ in one phenomenon.
    pairs: list[PairScore] = []
    if params.minimal_pairs:
        tokenizer = load(MODELS / "tokenizer.json")
        pairs = score_pairs(model, tokenizer, meta.end_of_text, params.minimal_pairs, PAIRS_SEED)

    bound = entropy.bits_per_byte if entropy else None
    ngram_gap_closed = None
    if bound is not None and params.ngram_order:
        ngram_bits = bits[f"{params.ngram_order}-gram"]
        ngram_gap_closed = gap_closed(ngram_bits, summary["bits_per_byte"], bound)
    metrics = EvalMetrics(
        **summary,
        ngram_gap_closed=ngram_gap_closed,
        minimal_pair_acc=sum(row.accuracy for row in pairs) / len(pairs) if pairs else None,
    )
    details = EvalDetails(
        bits_per_byte_ci95=interval, **meta.validation.model_dump(), versions=stage.versions
    )
    write_result(REPORTS / "eval.json", metrics)
    write_result(REPORTS / "details/eval.json", details)
    write_rows(REPORTS / "baselines.csv", Baseline, comparison(bits, summary["bits_per_byte"], bound))
    write_rows(REPORTS / "by_position.csv", PositionLoss, positions)
    write_rows(REPORTS / "by_frequency.csv", FrequencyLoss, frequencies)
    write_rows(REPORTS / "minimal_pairs.csv", PairScore, pairs)


def comparison(baselines: dict[str, float], model: float, entropy: float | None) -> list[Baseline]:
    """Return the rows of baselines.csv, in bits per byte: baselines, the model and, if known, the entropy."""
    rows = [Baseline(name=name, kind="baseline", bits_per_byte=bits) for name, bits in baselines.items()]
    rows.append(Baseline(name="this model", kind="model", bits_per_byte=model))
    if entropy is not None:
        rows.append(Baseline(name="entropy", kind="bound", bits_per_byte=entropy))
    return rows


if __name__ == "__main__":
    run_stage("evaluate", main)
