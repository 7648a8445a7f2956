"""Stage 8, plot: plot the training curves, the evaluation and the samples."""

from pathlib import Path

from slm.core.stage import Stage, run_stage
from slm.core.tables import read_result, read_rows
from slm.model.params import ModelConfig
from slm.report.figures.curves import draw_loss, draw_optimization
from slm.report.figures.evaluation import (
    draw_bits_per_byte,
    draw_by_frequency,
    draw_by_position,
    draw_pairs,
    draw_quality,
)
from slm.report.figures.style import save
from slm.report.figures.text import draw_attention, draw_heat
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
        "loss": draw_loss(train, validation, baselines, evaluation.nats_per_bit, flops_per_token),
        "optimization": draw_optimization(train),
        "bits_per_byte": draw_bits_per_byte(baselines, interval),
        "by_position": draw_by_position(read_rows(reports / "by_position.csv", PositionLoss)),
        "by_frequency": draw_by_frequency(read_rows(reports / "by_frequency.csv", FrequencyLoss)),
        "quality": draw_quality(read_rows(reports / "eval_samples.csv", SampleQuality)),
        "heat": draw_heat(inspection),
        "attention": draw_attention(inspection),
    }
    if pairs := read_rows(reports / "minimal_pairs.csv", PairScore, may_be_empty=True):
        figures["pairs"] = draw_pairs(pairs)
    save(figures, reports / "figures")


if __name__ == "__main__":
    run_stage("plot", main)
