"""Stage 5, sample: let the model write, ready to be read."""

from pathlib import Path

from slm.files import write_text
from slm.params import run_stage
from slm.text.params import SampleParams


def main() -> None:
    params = SampleParams.load()
    from slm.device import setup_torch
    from slm.model.checkpoint import load_model
    from slm.text.samples import samples_page
    from slm.tokens.tokenizer import load

    model = load_model(Path("models"), setup_torch())
    tokenizer = load(Path("models/tokenizer.json"))
    write_text(Path("reports/samples.md"), samples_page(model, tokenizer, params))


if __name__ == "__main__":
    run_stage(main)
