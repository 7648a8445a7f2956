"""Stage 3, train: learn from the training tokens, keep the model that does best on the validation tokens."""

from pathlib import Path

from slm.files import write_json
from slm.model.params import ModelParams
from slm.stage import Stage, project_folder, run_stage
from slm.tokens.bins import open_bin, read_meta
from slm.training.curves import write_curve
from slm.training.params import TrainParams


def main(stage: Stage) -> None:
    model_params, train_params = stage.load(ModelParams), stage.load(TrainParams)
    from slm.training.memory import check_memory  # after the params: torch takes its time
    from slm.training.resume import Resume
    from slm.training.trainer import train

    tokens = Path("data/tokens")
    check_memory(model_params, train_params, read_meta(tokens).vocab_size)
    result = train(
        model_params,
        train_params,
        open_bin(tokens, "train", at_least=model_params.block_size),
        open_bin(tokens, "validation"),
        read_meta(tokens).vocab_size,
        out=Path("models"),
        resume=Resume(project_folder() / ".slm/states", stage.inputs()),
    )
    stage.measured.update(result.measured)
    write_curve(Path("reports/train.csv"), result.train_curve)
    write_curve(Path("reports/val.csv"), result.validation_curve)
    write_json(Path("reports/train.json"), result.summary | {"made_with": stage.made_with()})


if __name__ == "__main__":
    run_stage("train", main)
