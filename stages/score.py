"""Stage 5, score@NAME: how well the model predicts a further text: python -m stages.score NAME.

Each text in `evaluate.corpora` is a stage of its own.
"""

import sys
from pathlib import Path

from slm.evaluation.params import EvaluateParams
from slm.files import write_json
from slm.stage import Stage, run_stage


def main(stage: Stage) -> None:
    params = stage.load(EvaluateParams)
    from slm.device import setup_torch
    from slm.evaluation.corpora import score
    from slm.model.checkpoint import load_model
    from slm.tokens.tokenizer import load

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), setup_torch(), tokenizer.get_vocab_size())
    result = score(model, tokenizer, stage.item, params)
    # Under its name, so that its columns in DVC's tables are not those of the validation split.
    named = {stage.item: result | {"made_with": stage.made_with()}}
    write_json(Path(f"reports/scores/{stage.item}.json"), named)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.score NAME")
    run_stage(f"score@{sys.argv[1]}", main)
