"""Stage 7, eval_samples: let the model write many stories at several temperatures, and measure them."""

from pathlib import Path

from slm.core.stage import Stage, run_stage
from slm.core.tables import write_lines, write_result, write_rows
from slm.eval_samples.params import EvalSamplesParams
from slm.generate.params import SampleParams
from slm.results.samples import SampleDetails, SampleQuality


def main(stage: Stage) -> None:
    params, sample = stage.load(EvalSamplesParams), stage.load(SampleParams)
    from slm.core.progress import Progress
    from slm.data.summary import read_summary
    from slm.eval_samples.quality import judge, summary, unknown_words
    from slm.generate.batch import generate
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.tokenizer.bins import open_bin
    from slm.tokenizer.tokenizer import END_OF_TEXT, load
    from storygrammar.checker.consistency import complaints

    tokenizer = load(Path("models/tokenizer.json"))
    model = load_model(Path("models"), setup_torch(), tokenizer.get_vocab_size())
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    written: dict[float, list[list[int]]] = {}
    with Progress("writing stories", None, "tok") as progress:
        for temperature in params.all_temperatures(sample):
            how = params.sampling(sample, temperature)
            [written[temperature]] = generate(model, [[]], how, end_of_text, progress)

    check = complaints if read_summary(Path("data/corpus/summary.json")).is_of_grammar else None
    stories = judge(written, params.max_new_tokens, tokenizer, open_bin(Path("data/tokens"), "train"), check)
    unknown = unknown_words(stories, Path("data/corpus/train.parquet"))
    rows = {t: summary([story for story in stories if story.temperature == t], unknown) for t in written}
    # The metrics are those of the temperature that the samples of the report have.
    row = rows[sample.temperature]
    details = SampleDetails(temperature=row.temperature, num_samples=row.num_samples, versions=stage.versions)
    write_lines(Path("data/samples.jsonl"), stories)
    write_rows(Path("reports/eval_samples.csv"), SampleQuality, rows.values())
    write_result(Path("reports/eval_samples.json"), row.metrics())
    write_result(Path("reports/details/eval_samples.json"), details)


if __name__ == "__main__":
    run_stage("eval_samples", main)
