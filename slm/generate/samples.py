"""A page of texts that the model wrote: the prompts, and the stories that follow them."""

from tokenizers import Tokenizer

from slm.core.markdown import escape
from slm.core.progress import Progress
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model.gpt import GPT
from slm.tokenizer.tokenizer import END_OF_TEXT, decode, encode


def write_samples(model: GPT, tokenizer: Tokenizer, params: SampleParams) -> list[list[list[int]]]:
    """The token ids of `num_samples` continuations of each prompt, as `generate` gives them."""
    prompts = [encode(tokenizer, prompt) for prompt in params.prompts]
    with Progress("sampling", None, "tok") as progress:
        return generate(model, prompts, params, tokenizer.token_to_id(END_OF_TEXT), progress)


def samples_page(texts: list[list[list[int]]], tokenizer: Tokenizer, params: SampleParams) -> str:
    """Markdown of what `write_samples` gave, each prompt in bold; an unfinished text ends in […]."""
    how = f"{params.in_words()}, seed {params.seed}"
    parts = [f"# Samples\n\nWritten by the model ({how}); what it was given is bold.\n"]
    for prompt, continuations in zip(params.prompts, texts, strict=True):
        parts.append(f"\n## {_one_line(prompt) or '(from nothing)'}\n")
        for number, ids in enumerate(continuations, start=1):
            unfinished = " […]" if len(ids) == params.max_new_tokens else ""
            parts.append(f"\n### {number}\n\n{_markdown(prompt, decode(tokenizer, ids) + unfinished)}\n")
    return "".join(parts)


def _markdown(prompt: str, text: str) -> str:
    """The text as Markdown quotes it, line for line, its prompt in bold."""
    bold = f"**{escape(prompt.rstrip())}**" + prompt[len(prompt.rstrip()) :] if prompt.strip() else prompt
    return "\n".join(f"> {line}  " if line.strip() else ">" for line in (bold + escape(text)).splitlines())


def _one_line(text: str) -> str:
    return escape(" ".join(text.split()))
