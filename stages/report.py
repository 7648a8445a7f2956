"""Stage 9, report: all of it on one page, and in short for a pull request."""

from pathlib import Path

from slm.corpus.params import DataParams
from slm.evaluation.params import EvaluateParams
from slm.evaluation.quality_params import QualityParams
from slm.files import write_text
from slm.model.params import ModelParams
from slm.report.found import read_found
from slm.report.page import report_page
from slm.report.short import report_in_short
from slm.stage import Stage, run_stage
from slm.text.params import SampleParams
from slm.tokens.params import TokenizerParams
from slm.training.params import TrainParams


def main(stage: Stage) -> None:
    sections = (
        stage.load(DataParams),
        stage.load(TokenizerParams),
        stage.load(ModelParams),
        stage.load(TrainParams),
        stage.load(EvaluateParams),
        stage.load(SampleParams),
        stage.load(QualityParams),
    )
    found = read_found(Path(), {section.section: section.model_dump() for section in sections})
    write_text(Path("reports/report.html"), report_page(found))
    write_text(Path("reports/report.md"), report_in_short(found))


if __name__ == "__main__":
    run_stage("report", main)
