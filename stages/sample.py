"""Stage 5, sample: let the model write, ready to be read."""

from pathlib import Path

from slm.files import write_text
from slm.stage import Stage, run_stage
from slm.text.params import SampleParams


def main(stage: Stage) -> None:
    params = stage.load(SampleParams)
    from slm.device import setup_torch
    from slm.model.checkpoint import load_model
    from slm.text.samples import samples_page
    from slm.tokens.tokenizer import load

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), setup_torch(), tokenizer.get_vocab_size())
    page = samples_page(model, tokenizer, params)
    write_text(Path("reports/samples.md"), f"{page}\n---\n\nMade with {', '.join(stage.made_with())}.\n")


if __name__ == "__main__":
    run_stage("sample", main)
