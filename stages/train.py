"""Stage 3, train: learn from the training tokens, keep the model that does best on the validation tokens."""

from pathlib import Path

from slm.files import write_json
from slm.model.params import ModelParams
from slm.params import run_stage
from slm.tokens.bins import open_bin, read_meta
from slm.training.curves import write_curve
from slm.training.params import TrainParams


def main() -> None:
    model_params, train_params = ModelParams.load(), TrainParams.load()
    from slm.training.trainer import train  # after the params: torch takes its time

    tokens = Path("data/tokens")
    result = train(
        model_params,
        train_params,
        open_bin(tokens, "train"),
        open_bin(tokens, "validation"),
        read_meta(tokens).vocab_size,
        out=Path("models"),
    )
    write_curve(Path("reports/train.csv"), result.train_curve)
    write_curve(Path("reports/val.csv"), result.validation_curve)
    write_json(Path("reports/train.json"), result.summary)


if __name__ == "__main__":
    run_stage(main)
