"""Stage 3, train: learn from the training tokens, keep the model that does best on the validation tokens."""

import os
from pathlib import Path

from slm.core.errors import run_command
from slm.core.stage import Stage, project_folder, run_stage
from slm.core.tables import write_result, write_rows
from slm.model.params import ModelParams
from slm.results.train import TrainDetails, TrainPoint, ValidationPoint
from slm.tokenizer.bins import open_bin, read_meta
from slm.train.params import TrainParams


def main(stage: Stage) -> None:
    model_params, train_params = stage.load(ModelParams), stage.load(TrainParams)
    from slm.train.data import Windows  # after the params: torch takes its time
    from slm.train.launch import together
    from slm.train.memory import check_memory
    from slm.train.pretrained import read_pretrained
    from slm.train.resume import Resume
    from slm.train.trainer import train

    tokens = Path("data/tokens")
    vocab_size = read_meta(tokens).vocab_size
    check_memory(model_params, train_params, vocab_size)
    start = Path(train_params.init_from)
    weights = read_pretrained(start, model_params, vocab_size, Path("models/tokenizer.json"))
    train_tokens = open_bin(tokens, "train", at_least=model_params.block_size)
    validation_tokens = open_bin(tokens, "validation")
    windows = Windows(train_tokens, validation_tokens, model_params.block_size, train_params)
    with together(train_params.batch_size * train_params.grad_accum_steps, module="stages.train") as is_first:
        result = train(
            model_params,
            train_params,
            windows,
            vocab_size,
            out=Path("models"),
            resume=Resume(project_folder() / ".slm/checkpoints", stage.inputs()),
            weights=weights,
        )
    if not is_first:
        return
    stage.measured.update(result.measured)
    details = TrainDetails(
        **result.summary.model_dump(), init_from=str(start) if weights else None, versions=stage.versions
    )
    write_rows(Path("reports/train.csv"), TrainPoint, result.train_curve)
    write_rows(Path("reports/val.csv"), ValidationPoint, result.validation_curve)
    write_result(Path("reports/train.json"), result.metrics)
    write_result(Path("reports/details/train.json"), details)


if __name__ == "__main__":
    if os.environ.get("RANK", "0") == "0":
        run_stage("train", main)
    else:  # it helps the first process, which writes the log and shows how it goes
        os.environ["SLM_PROGRESS"] = "off"
        run_command(lambda: main(Stage("train")))
