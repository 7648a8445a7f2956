"""A page of texts that the model wrote: the prompts, and the stories that follow them."""

from tokenizers import Tokenizer

from slm.model.gpt import GPT
from slm.progress import Progress
from slm.text.generate import generate
from slm.text.params import SampleParams
from slm.tokens.tokenizer import END_OF_TEXT, decode, encode


def samples_page(model: GPT, tokenizer: Tokenizer, params: SampleParams) -> str:
    """Markdown: `num_samples` texts for each prompt, the prompt in bold; an unfinished text ends in […]."""
    how = "greedy" if params.temperature == 0 else f"temperature {params.temperature:g}"
    if params.top_k:
        how += f", top-k {params.top_k}"
    parts = [f"# Samples\n\nWritten by the model ({how}, seed {params.seed}); what it was given is bold.\n"]
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    with Progress("sampling", len(params.prompts) * params.num_samples, "text") as progress:
        for prompt in params.prompts:
            parts.append(f"\n## {_one_line(prompt) or '(from nothing)'}\n")
            for number, ids in enumerate(
                generate(model, encode(tokenizer, prompt), params, end_of_text), start=1
            ):
                unfinished = " […]" if len(ids) == params.max_new_tokens else ""
                text = decode(tokenizer, ids) + unfinished
                parts.append(f"\n### {number}\n\n{_markdown(prompt, text)}\n")
            progress.advance(params.num_samples)
    return "".join(parts)


def _markdown(prompt: str, text: str) -> str:
    """The text as Markdown quotes it, line for line, its prompt in bold."""
    bold = f"**{_escape(prompt.rstrip())}**" + prompt[len(prompt.rstrip()) :] if prompt.strip() else prompt
    return "\n".join(f"> {line}  " if line.strip() else ">" for line in (bold + _escape(text)).splitlines())


def _escape(text: str) -> str:
    """Keep what is a sign in the text from being Markdown."""
    return "".join("\\" + c if c in "\\`*_{}[]<>#|" else c for c in text)


def _one_line(text: str) -> str:
    return _escape(" ".join(text.split()))
