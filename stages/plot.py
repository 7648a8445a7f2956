"""Stage 8, plot: pictures of how the model learned, how good it is and what it writes like."""

from pathlib import Path

from slm.core.stage import Stage, run_stage
from slm.report import schema as kinds
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
from slm.report.reading import read_result, read_table


def main(stage: Stage) -> None:
    reports = Path("reports")
    train = read_table(reports / "train.csv", kinds.TrainPoint)
    validation = read_table(reports / "val.csv", kinds.ValidationPoint)
    evaluation = read_result(reports / "eval.json", kinds.Evaluation)
    baselines = read_table(reports / "baselines.csv", kinds.Baseline)
    n_params = read_result(reports / "train.json", kinds.Training).parameters
    flops_per_token = read_result(Path("models/config.json"), kinds.Network).flops_per_token(n_params)
    insight = read_result(Path("data/inspection.json"), kinds.Insight)
    pictures = {
        "loss": draw_loss(train, validation, baselines, evaluation.nats_per_bit, flops_per_token),
        "optimization": draw_optimization(train),
        "bits_per_byte": draw_bits_per_byte(baselines, evaluation.bits_per_byte_ci95),
        "by_position": draw_by_position(read_table(reports / "by_position.csv", kinds.PositionLoss)),
        "by_frequency": draw_by_frequency(read_table(reports / "by_frequency.csv", kinds.FrequencyLoss)),
        "quality": draw_quality(read_table(reports / "eval_samples.csv", kinds.Quality)),
        "heat": draw_heat(insight),
        "attention": draw_attention(insight),
    }
    if pairs := read_table(reports / "minimal_pairs.csv", kinds.PairScore, may_be_empty=True):
        pictures["pairs"] = draw_pairs(pairs)
    save(pictures, reports / "figures")


if __name__ == "__main__":
    run_stage("plot", main)
