"""Stage eval_samples: generate samples at several temperatures and evaluate them."""

from pathlib import Path

from slm.core.files import write_lines, write_result, write_rows
from slm.core.stage import Stage, run_stage
from slm.eval_samples.params import EvalSamplesParams
from slm.generate.params import SampleParams
from slm.results.samples import SampleDetails, SampleQuality

CORPUS, TOKENS, MODELS, REPORTS = Path("data/corpus"), Path("data/tokens"), Path("models"), Path("reports")


def main(stage: Stage) -> None:
    params, sample = stage.load(EvalSamplesParams), stage.load(SampleParams)
    # Imported after the params are checked: torch takes a second.
    from slm.core.progress import Progress
    from slm.data.summary import read_summary
    from slm.eval_samples.metrics import check_samples, summarize_stories, unknown_words
    from slm.generate.batch import generate
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.tokenizer.bins import open_bin
    from slm.tokenizer.tokenizer import end_of_text_id, load
    from storygrammar.checker.consistency import find_contradictions

    # Generate from the empty prompt.
    tokenizer = load(MODELS / "tokenizer.json")
    model = load_model(MODELS, setup_torch(), tokenizer.get_vocab_size())
    end_of_text = end_of_text_id(tokenizer)
    samples: dict[float, list[list[int]]] = {}
    with Progress("generating samples", None, "tok") as progress:
        for temperature in params.all_temperatures(sample):
            sampling = params.sampling(sample, temperature)
            [samples[temperature]] = generate(model, [[]], sampling, end_of_text, progress)

    # Check each sample, then summarize those of each temperature.
    checker = find_contradictions if read_summary(CORPUS / "summary.json").is_synthetic else None
    stories = check_samples(samples, params.max_new_tokens, tokenizer, open_bin(TOKENS, "train"), checker)
    unknown = unknown_words(stories, CORPUS / "train.parquet")
    rows = {t: summarize_stories([s for s in stories if s.temperature == t], unknown) for t in samples}

    # The metrics are those of the temperature of the section `sample`.
    row = rows[sample.temperature]
    details = SampleDetails(temperature=row.temperature, num_samples=row.num_samples, versions=stage.versions)
    write_lines(Path("data/samples.jsonl"), stories)
    write_rows(REPORTS / "eval_samples.csv", SampleQuality, rows.values())
    write_result(REPORTS / "eval_samples.json", row.metrics())
    write_result(REPORTS / "details/eval_samples.json", details)


if __name__ == "__main__":
    run_stage("eval_samples", main)
