"""Stage train: train the model, keep the weights with the lowest validation loss."""

import os
from pathlib import Path

from slm.core.errors import run_command
from slm.core.files import write_result, write_rows
from slm.core.stage import Stage, project_folder, run_stage
from slm.model.params import ModelParams
from slm.results.train import TrainDetails, TrainPoint, ValidationPoint
from slm.tokenizer.bins import open_bin, read_meta
from slm.train.params import TrainParams


def main(stage: Stage) -> None:
    model_params, params = stage.load(ModelParams), stage.load(TrainParams)
    # Imported after the params are checked: torch takes a second.
    from slm.model.huggingface import read_pretrained
    from slm.train.checkpoints import RunInputs
    from slm.train.data import WindowBatches
    from slm.train.distributed import process_group
    from slm.train.trainer import check_memory, train

    tokens, block_size = Path("data/tokens"), model_params.block_size
    vocab_size = read_meta(tokens).vocab_size
    check_memory(model_params, params, vocab_size)
    init_from = Path(params.init_from)
    weights = read_pretrained(init_from, model_params, vocab_size, Path("models/tokenizer.json"))
    train_tokens = open_bin(tokens, "train", at_least=block_size)
    validation_tokens = open_bin(tokens, "validation")
    batches = WindowBatches(train_tokens, validation_tokens, block_size, params)
    run = RunInputs(project_folder() / ".slm/checkpoints", stage.inputs())
    with process_group(params.batch_size * params.grad_accum_steps, module="stages.train") as is_rank0:
        result = train(model_params, params, batches, vocab_size, Path("models"), run, weights)
    if not is_rank0:
        return
    stage.measured.update(result.measured)
    details = TrainDetails(
        **result.summary.model_dump(), init_from=str(init_from) if weights else None, versions=stage.versions
    )
    write_rows(Path("reports/train.csv"), TrainPoint, result.train_curve)
    write_rows(Path("reports/val.csv"), ValidationPoint, result.val_curve)
    write_result(Path("reports/train.json"), result.metrics)
    write_result(Path("reports/details/train.json"), details)


if __name__ == "__main__":
    if os.environ.get("RANK", "0") == "0":
        run_stage("train", main)
    else:
        # Rank 0 writes the log and shows the progress.
        os.environ["SLM_PROGRESS"] = "off"
        run_command(lambda: main(Stage("train")))
