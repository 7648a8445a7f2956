"""Stage plot: plot the training curves, the evaluation and the samples."""

from pathlib import Path

from slm.core.stage import Stage, run_stage
from slm.model.params import ModelConfig
from slm.report.figures.curves import plot_loss, plot_optimization
from slm.report.figures.evaluation import (
    plot_bits_per_byte,
    plot_by_frequency,
    plot_by_position,
    plot_minimal_pairs,
    plot_samples,
)
from slm.report.figures.inspection import plot_attention, plot_token_probabilities
from slm.report.figures.style import write_figures
from slm.report.reading import read_result, read_rows
from slm.results.eval import Baseline, EvalDetails, EvalMetrics, FrequencyLoss, PairScore, PositionLoss
from slm.results.samples import Inspection, SampleQuality
from slm.results.train import TrainMetrics, TrainPoint, ValidationPoint


def main(stage: Stage) -> None:
    reports, config = Path("reports"), Path("models/config.json")
    train = read_rows(reports / "train.csv", TrainPoint)
    validation = read_rows(reports / "val.csv", ValidationPoint)
    evaluation = read_result(reports / "eval.json", EvalMetrics)
    interval = read_result(reports / "details/eval.json", EvalDetails).bits_per_byte_ci95
    baselines = read_rows(reports / "baselines.csv", Baseline)
    num_params = read_result(reports / "train.json", TrainMetrics).num_params
    flops_per_token = read_result(config, ModelConfig).flops_per_token(num_params)
    inspection = read_result(Path("data/inspection.json"), Inspection)
    figures = {
        "loss": plot_loss(train, validation, baselines, evaluation.nats_per_bit, flops_per_token),
        "optimization": plot_optimization(train),
        "bits_per_byte": plot_bits_per_byte(baselines, interval),
        "by_position": plot_by_position(read_rows(reports / "by_position.csv", PositionLoss)),
        "by_frequency": plot_by_frequency(read_rows(reports / "by_frequency.csv", FrequencyLoss)),
        "samples": plot_samples(read_rows(reports / "eval_samples.csv", SampleQuality)),
        "token_probabilities": plot_token_probabilities(inspection),
        "attention": plot_attention(inspection),
    }
    if pairs := read_rows(reports / "minimal_pairs.csv", PairScore, allow_empty=True):
        figures["minimal_pairs"] = plot_minimal_pairs(pairs)
    write_figures(figures, reports / "figures")


if __name__ == "__main__":
    run_stage("plot", main)
