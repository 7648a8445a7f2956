"""Stage sft@NAME: fine-tune the model on conversations. Each key of the section `sft` is a stage."""

from pathlib import Path

from slm.core.files import write_result, write_rows, write_text
from slm.core.stage import Stage, project_folder, run_stage
from slm.results.sft import SFTTrainDetails
from slm.results.train import TrainPoint, ValidationPoint
from slm.sft.params import SFTParams
from slm.train.params import TrainParams


def main(stage: Stage) -> None:
    run = stage.load(SFTParams)[stage.item]
    params = run.train_params(stage.load(TrainParams))
    # Imported after the params are checked: torch takes a second.
    from slm.model.gpt import load_model
    from slm.sft.data import load_batches
    from slm.tokenizer.tokenizer import load
    from slm.train.checkpoints import RunInputs
    from slm.train.trainer import check_memory, train

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), vocab_size=tokenizer.get_vocab_size())
    check_memory(model.params, params, model.vocab_size)
    out = Path("models") / stage.item
    result = train(
        model.params,
        params,
        load_batches(run, params, tokenizer, model.params.block_size),
        model.vocab_size,
        out=out,
        run=RunInputs(project_folder() / ".slm/checkpoints", stage.inputs()),
        weights=model.state_dict(),
    )
    stage.measured.update(result.measured)
    # With the tokenizer, the folder is a complete model.
    write_text(out / "tokenizer.json", Path("models/tokenizer.json").read_text(encoding="utf-8"))
    reports = Path("reports/sft") / stage.item
    details = SFTTrainDetails(
        **result.metrics.model_dump(), **result.summary.model_dump(), versions=stage.versions
    )
    write_rows(reports / "train.csv", TrainPoint, result.train_curve)
    write_rows(reports / "val.csv", ValidationPoint, result.val_curve)
    write_result(Path(f"models/{stage.item}.train.json"), details)


if __name__ == "__main__":
    run_stage("sft", main, foreach=True)
