"""Stage 6, plot: pictures of how the model learned and how good it is."""

from pathlib import Path

from slm.figures import plot_bits_per_byte, plot_loss, plot_optimization
from slm.stage import Stage, run_stage


def main(stage: Stage) -> None:
    reports, figures = Path("reports"), Path("reports/figures")
    plot_loss(reports, figures / "loss.png")
    plot_optimization(reports, figures / "optimization.png")
    plot_bits_per_byte(reports, figures / "bits_per_byte.png")


if __name__ == "__main__":
    run_stage("plot", main)
