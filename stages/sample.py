"""Stage sample: sample text; record token probabilities and attention."""

from pathlib import Path

from slm.core.files import write_result, write_text
from slm.core.stage import Stage, run_stage
from slm.generate.params import SampleParams


def main(stage: Stage) -> None:
    params = stage.load(SampleParams)
    # Imported after the params are checked: torch takes a second.
    from slm.generate.inspection import inspect
    from slm.generate.samples import generate_samples, samples_markdown
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.tokenizer.tokenizer import encode, end_of_text_id, load

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), setup_torch(), tokenizer.get_vocab_size())
    samples = generate_samples(model, tokenizer, params)
    markdown = samples_markdown(samples, tokenizer, params)

    # Inspect the first sample, with the end-of-text token if the model sampled it.
    prompt, first = encode(tokenizer, params.prompts[0]), samples[0][0]
    end = [end_of_text_id(tokenizer)] if len(first) < params.max_new_tokens else []
    inspection = inspect(model, tokenizer, [*prompt, *first, *end], n_given=len(prompt))

    write_text(Path("reports/samples.md"), f"{markdown}\n---\n\nMade with {stage.format_versions()}.\n")
    write_result(Path("data/inspection.json"), inspection, indent=None)


if __name__ == "__main__":
    run_stage("sample", main)
