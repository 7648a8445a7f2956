"""Stage 5, sample: let the model write, ready to be read; and look into it while it reads what it wrote."""

import json
from pathlib import Path

from slm.files import write_text
from slm.stage import Stage, run_stage
from slm.text.params import SampleParams


def main(stage: Stage) -> None:
    params = stage.load(SampleParams)
    from slm.device import setup_torch
    from slm.evaluation.insight import insight
    from slm.model.checkpoint import load_model
    from slm.text.generate import generate
    from slm.text.samples import samples_page
    from slm.tokens.tokenizer import END_OF_TEXT, encode, load

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), setup_torch(), tokenizer.get_vocab_size())
    page = samples_page(model, tokenizer, params)

    # The page's first text once more: its draws depend on the prompt, the seed and its number alone.
    prompt, end_of_text = encode(tokenizer, params.prompts[0]), tokenizer.token_to_id(END_OF_TEXT)
    new = generate(model, [prompt], params.model_copy(update={"num_samples": 1}), end_of_text)[0][0]
    ending = [end_of_text] if len(new) < params.max_new_tokens else []
    found = insight(model, tokenizer, [*prompt, *new, *ending], n_given=len(prompt))

    write_text(Path("reports/samples.md"), f"{page}\n---\n\nMade with {', '.join(stage.made_with())}.\n")
    write_text(Path("data/insight.json"), json.dumps(found, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_stage("sample", main)
