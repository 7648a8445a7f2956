"""Stage check_names: check the names of datasets and fine-tuning runs before DVC uses them in paths.

DVC deletes the outputs of a stage before it runs, and the names are parts of their paths: a name such as
`../data` in an untrusted params file would delete a folder. Stages with such outputs depend on this one,
which prints a clear message. dvc.yaml and .dvcignore make DVC itself refuse such names. The output never
changes, so a new name does not rerun other stages.
"""

from pathlib import Path

from slm.core.config import check_item_names
from slm.core.files import write_text
from slm.core.stage import Stage, run_stage

KEYS = ("evaluate.datasets", "sft")


def main(stage: Stage) -> None:
    for key in KEYS:
        check_item_names(stage.params, key)
    write_text(Path("data/names_checked"), "ok\n")


if __name__ == "__main__":
    run_stage("check_names", main)
