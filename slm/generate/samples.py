"""Sample continuations of the prompts of params.yaml and format them as Markdown."""

from tokenizers import Tokenizer

from slm.core.progress import Progress
from slm.generate.batch import generate
from slm.generate.markdown import escape
from slm.generate.params import SampleParams
from slm.model.gpt import GPT
from slm.tokenizer.tokenizer import decode, encode, end_of_text_id


def generate_samples(model: GPT, tokenizer: Tokenizer, params: SampleParams) -> list[list[list[int]]]:
    """Return the token ids of `num_samples` continuations of each prompt, as `generate` does."""
    prompts = [encode(tokenizer, prompt) for prompt in params.prompts]
    with Progress("sampling", None, "tok") as progress:
        return generate(model, prompts, params, end_of_text_id(tokenizer), progress)


def samples_markdown(samples: list[list[list[int]]], tokenizer: Tokenizer, params: SampleParams) -> str:
    """Format the result of `generate_samples`: prompts in bold, […] after a truncated sample."""
    settings = f"{params.describe()}, seed {params.seed}"
    parts = [f"# Samples\n\nGenerated with {settings}. Prompts are bold.\n"]
    for prompt, continuations in zip(params.prompts, samples, strict=True):
        parts.append(f"\n## {escape(' '.join(prompt.split())) or '(empty prompt)'}\n")
        for number, ids in enumerate(continuations, start=1):
            ellipsis = " […]" if len(ids) == params.max_new_tokens else ""
            parts.append(f"\n### {number}\n\n{_quote(prompt, decode(tokenizer, ids) + ellipsis)}\n")
    return "".join(parts)


def _quote(prompt: str, continuation: str) -> str:
    """Return a block quotation that keeps the line breaks, with the prompt in bold."""
    bold = f"**{escape(prompt.rstrip())}**" + prompt[len(prompt.rstrip()) :] if prompt.strip() else prompt
    lines = (bold + escape(continuation)).splitlines()
    return "\n".join(f"> {line}  " if line.strip() else ">" for line in lines)
