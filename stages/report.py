"""Stage report: write the HTML report and a short version in Markdown."""

from pathlib import Path

from slm.core.files import write_text
from slm.core.stage import Stage, run_stage
from slm.report.page import html_report, markdown_report
from slm.report.results import read_results


def main(stage: Stage) -> None:
    results = read_results(Path(), stage.params)
    write_text(Path("reports/report.html"), html_report(results))
    write_text(Path("reports/report.md"), markdown_report(results))


if __name__ == "__main__":
    run_stage("report", main)
