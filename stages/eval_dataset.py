"""Stage eval_dataset@NAME: evaluate the model on a dataset. Each key of `evaluate.datasets` is a stage."""

from pathlib import Path

from slm.core.files import write_result
from slm.core.stage import Stage, run_stage
from slm.eval.params import EvaluateParams
from slm.results.eval import EvalDetails


def main(stage: Stage) -> None:
    params = stage.load(EvaluateParams)
    # Imported after the params are checked: torch takes a second.
    from slm.eval.datasets import evaluate_dataset
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.tokenizer.tokenizer import load

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), setup_torch(), tokenizer.get_vocab_size())
    metrics, scope = evaluate_dataset(model, tokenizer, stage.item, params)
    details = EvalDetails(**scope.model_dump(), versions=stage.versions)
    # Under the name of the dataset, DVC's tables show these metrics in columns of their own.
    write_result(Path(f"reports/datasets/{stage.item}.json"), metrics, key=stage.item)
    write_result(Path(f"reports/details/{stage.item}.dataset.json"), details)


if __name__ == "__main__":
    run_stage("eval_dataset", main, foreach=True)
