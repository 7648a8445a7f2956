"""Stage eval_sft@NAME: evaluate a fine-tuned model and its base model on held-out conversations."""

from itertools import islice
from pathlib import Path

from slm.core.files import write_result, write_rows, write_text
from slm.core.stage import Stage, run_stage
from slm.results.sft import ConstraintRow, SFTDetails, SFTScores
from slm.sft.params import SFTParams

# Numbers of answers and conversations in the Markdown file.
N_ANSWERS = 12
N_CONVERSATIONS = 3


def main(stage: Stage) -> None:
    run = stage.load(SFTParams)[stage.item]
    # Imported after the params are checked: torch takes a second.
    from slm.eval.constraints import score, summarize
    from slm.eval.sft import answer_loss, answer_turns, answers_markdown, converse, sampling_params
    from slm.model.device import setup_torch
    from slm.model.gpt import load_model
    from slm.sft.data import read_source, to_rows
    from slm.tokenizer.tokenizer import load
    from storygrammar.prompts.conversations import ABOUT_ANY

    tokenizer, device = load(Path("models/tokenizer.json")), setup_torch()
    base, tuned = (
        load_model(folder, device, tokenizer.get_vocab_size())
        for folder in (Path("models"), Path("models") / stage.item)
    )
    block_size = tuned.params.block_size
    params = sampling_params(block_size, run.temperature, run.seed)
    conversations = list(islice(read_source(run, held_out=True), run.num_eval_prompts))
    rows = to_rows(conversations, tokenizer, block_size)

    answers = {model: answer_turns(model, tokenizer, conversations, params) for model in (tuned, base)}
    scores, base_scores = (
        score([(answer.turn.constraints, answer.text) for answer in answers[model]])
        for model in (tuned, base)
    )
    # The same constraints count for both models, selected by the fine-tuned model's chance level.
    base_scores = [b._replace(chance=s.chance) for s, b in zip(scores, base_scores, strict=True)]
    details = SFTDetails(
        sft=SFTScores(**summarize(scores), val_loss=answer_loss(tuned, *rows, run.batch_size)),
        base=SFTScores(**summarize(base_scores), val_loss=answer_loss(base, *rows, run.batch_size)),
        versions=stage.versions,
    )

    first = [answer for answer in answers[tuned] if not answer.before][:N_ANSWERS]
    prompts = [[c[0].prompt, *ABOUT_ANY] for c in conversations if len(c) > 1][:N_CONVERSATIONS]
    text = answers_markdown(first, [converse(tuned, tokenizer, messages, params) for messages in prompts])

    reports = Path("reports/sft")
    table = [
        ConstraintRow(**s._asdict(), counts=s.counts, base_satisfied=b.satisfied)
        for s, b in zip(scores, base_scores, strict=True)
    ]
    write_rows(reports / stage.item / "constraints.csv", ConstraintRow, table)
    write_result(reports / stage.item / "eval.json", details.sft.metrics())
    write_result(Path(f"models/{stage.item}.eval.json"), details)
    write_text(reports / f"{stage.item}.md", f"{text}\n---\n\nVersions: {stage.format_versions()}.\n")


if __name__ == "__main__":
    run_stage("eval_sft", main, foreach=True)
