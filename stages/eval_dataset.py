"""Stage 5, eval_dataset@NAME: how well the model predicts a further text: python -m stages.eval_dataset NAME.

Each text in `evaluate.datasets` is a stage of its own.
"""

from pathlib import Path

from slm.core.files import write_json
from slm.core.stage import Stage, run_item
from slm.eval.params import EvaluateParams


def main(stage: Stage) -> None:
    params = stage.load(EvaluateParams)
    from slm.eval.datasets import evaluate_dataset
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.tokenizer.tokenizer import load

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), setup_torch(), tokenizer.get_vocab_size())
    result = evaluate_dataset(model, tokenizer, stage.item, params)
    # Under its name, so that its columns in DVC's tables are not those of the validation split.
    named = {stage.item: result | {"made_with": stage.made_with()}}
    write_json(Path(f"reports/datasets/{stage.item}.json"), named)


if __name__ == "__main__":
    run_item("eval_dataset", main)
