"""Stage 9, report: all results on one HTML page, and in short for a pull request."""

from pathlib import Path

from slm.core.files import write_text
from slm.core.stage import Stage, run_stage
from slm.report.page import report_page
from slm.report.results import read_results
from slm.report.short import report_in_short


def main(stage: Stage) -> None:
    results = read_results(Path(), stage.params)
    write_text(Path("reports/report.html"), report_page(results))
    write_text(Path("reports/report.md"), report_in_short(results))


if __name__ == "__main__":
    run_stage("report", main)
