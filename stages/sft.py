"""Stage 10, sft@NAME: let the model learn from requests with answers: python -m stages.sft NAME.

Each key of `sft` is a stage of its own.
"""

import sys
from pathlib import Path

from slm.core.files import write_text
from slm.core.stage import Stage, project_folder, run_stage
from slm.core.tables import write_result, write_rows
from slm.results.sft import SFTTrainDetails
from slm.results.train import TrainPoint, ValidationPoint
from slm.sft.params import SFTParams
from slm.train.params import TrainParams


def main(stage: Stage) -> None:
    item = stage.load(SFTParams)[stage.item]
    params = item.train_params(stage.load(TrainParams))
    from slm.model.gpt import load_model  # after the params: torch takes its time
    from slm.sft.data import read_pairs
    from slm.tokenizer.tokenizer import load
    from slm.train.memory import check_memory
    from slm.train.resume import Resume
    from slm.train.trainer import train

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), vocab_size=tokenizer.get_vocab_size())
    check_memory(model.params, params, model.vocab_size)
    out = Path("models") / stage.item
    result = train(
        model.params,
        params,
        read_pairs(item, params, tokenizer, model.params.block_size),
        model.vocab_size,
        out=out,
        resume=Resume(project_folder() / ".slm/states", stage.inputs()),
        weights=model.state_dict(),
    )
    stage.measured.update(result.measured)
    # The folder is all it takes to use the model.
    write_text(out / "tokenizer.json", Path("models/tokenizer.json").read_text(encoding="utf-8"))
    reports = Path("reports/sft") / stage.item
    details = SFTTrainDetails(
        **result.metrics.model_dump(), **result.summary.model_dump(), versions=stage.versions
    )
    write_rows(reports / "train.csv", TrainPoint, result.train_curve)
    write_rows(reports / "val.csv", ValidationPoint, result.validation_curve)
    write_result(Path("reports/details/sft") / stage.item / "train.json", details)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.sft NAME")
    run_stage(f"sft@{sys.argv[1]}", main)
