"""Stage 11, eval_sft@NAME: ask a tuned model what it was not trained on: python -m stages.eval_sft NAME.

The model that it was tuned from is asked the same. What can be checked of the answers is measured.
"""

import sys
from itertools import islice
from pathlib import Path

from slm.core.files import write_text
from slm.core.stage import Stage, run_stage
from slm.core.tables import write_result, write_rows
from slm.results.sft import ConstraintRow, SFTDetails, SFTScores
from slm.sft.params import SFTParams

N_SHOWN = 12  # answers on the page
N_TALKS = 3  # conversations there


def main(stage: Stage) -> None:
    item = stage.load(SFTParams)[stage.item]
    from slm.eval.answers import answers_page
    from slm.eval.constraints import score, summary
    from slm.eval.sft import answer_each, answer_loss, sampling, talk_over
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.sft.data import source, to_rows
    from slm.tokenizer.tokenizer import load
    from storygrammar.requests.requests import ABOUT_ANY

    tokenizer, device = load(Path("models/tokenizer.json")), setup_torch()
    untuned, tuned = (
        load_model(folder, device, tokenizer.get_vocab_size())
        for folder in (Path("models"), Path("models") / stage.item)
    )
    block_size = tuned.params.block_size
    params = sampling(block_size, item.temperature, item.seed)
    talks = list(islice(source(item, held_out=True), item.num_eval_prompts))
    rows = to_rows(talks, tokenizer, block_size)

    answered = {model: answer_each(model, tokenizer, talks, params) for model in (tuned, untuned)}
    scores = score([(one.turn.wishes, one.text) for one in answered[tuned]])
    untuned_scores = score([(one.turn.wishes, one.text) for one in answered[untuned]])
    alike = [theirs._replace(chance=ours.chance) for ours, theirs in zip(scores, untuned_scores, strict=True)]
    result = SFTScores(**summary(scores), val_loss=answer_loss(tuned, *rows, item.batch_size))
    base = SFTScores(**summary(alike), val_loss=answer_loss(untuned, *rows, item.batch_size))

    first = [one for one in answered[tuned] if not one.before][:N_SHOWN]
    requests = [[talk[0].request, *ABOUT_ANY] for talk in talks if len(talk) > 1][:N_TALKS]
    page = answers_page(first, [talk_over(tuned, tokenizer, asked, params) for asked in requests])
    reports = Path("reports/sft")
    table = [
        ConstraintRow(**ours._asdict(), counts=ours.counts, base_met=theirs.met)
        for ours, theirs in zip(scores, untuned_scores, strict=True)
    ]
    details = SFTDetails(sft=result, base=base, versions=stage.versions)
    write_rows(reports / stage.item / "constraints.csv", ConstraintRow, table)
    write_result(reports / stage.item / "eval.json", result.metrics())
    write_result(Path("reports/details/sft") / stage.item / "eval.json", details)
    write_text(reports / f"{stage.item}.md", f"{page}\n---\n\nMade with {stage.made_with()}.\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.eval_sft NAME")
    run_stage(f"eval_sft@{sys.argv[1]}", main)
