"""Stage 9, report: all results on one HTML page, and in short for a pull request."""

from pathlib import Path

from slm.core.files import write_text
from slm.core.stage import Stage, run_stage
from slm.report.found import read_found
from slm.report.page import report_page
from slm.report.short import report_in_short


def main(stage: Stage) -> None:
    found = read_found(Path(), stage.params)
    write_text(Path("reports/report.html"), report_page(found))
    write_text(Path("reports/report.md"), report_in_short(found))


if __name__ == "__main__":
    run_stage("report", main)
