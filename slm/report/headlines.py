"""What the numbers say, in words: a verdict in one sentence, and what each headline number means."""

from math import log
from typing import NamedTuple

from slm.report.display import percent
from slm.report.results import Results


class Headline(NamedTuple):
    """A number, its name and what it means."""

    value: str
    name: str
    meaning: str


def verdict(results: Results) -> str:
    """One sentence for someone who has never heard of perplexity."""
    copies, consistent = results.samples.copy_rate, results.samples.consistency
    copied, are = (percent(copies), "are") if copies else ("none", "is")
    texts = f"{copied} of its texts {are} copied"
    if consistent is not None:
        texts = f"{percent(consistent)} of its texts contradict nothing, and {copied} {are} copied"
    return f"It {_against_counting(results)}; {texts}."


def _against_counting(results: Results) -> str:
    """What the model can, beside one that only counts which tokens follow which."""
    result, counting = results.facts.eval, results.ngram
    if counting is None:
        return f"is as unsure of the next token as if {result.perplexity:,.1f} were equally likely"
    saved = 1 - result.bits_per_byte / counting.bits_per_byte
    if saved <= 0:
        return f"predicts unseen text no better than counting {counting.name}s does"
    if result.ngram_gap_closed is None:
        return f"needs {percent(saved)} fewer bits for unseen text than counting {counting.name}s does"
    way = percent(result.ngram_gap_closed)
    return f"has gone {way} of the way from counting {counting.name}s to the best prediction possible"


def headlines(results: Results) -> list[Headline]:
    """The numbers to remember; those that are not known of a corpus are left out."""
    result = results.facts.eval
    even_guess, size = log(results.facts.model.vocab_size), result.bits_per_byte / 8
    lines = [
        Headline(
            f"{result.val_loss:.3f}",
            "loss",
            "Nats a token: the mean −ln p of the right next token of unseen text. "
            f"Knowing nothing, it would be {even_guess:.2f}.",
        ),
        Headline(
            f"{result.perplexity:,.2f}",
            "perplexity",
            "As unsure of the next token as if it had to choose among so many that are equally likely.",
        ),
        Headline(
            f"{result.bits_per_byte:.3f}",
            "bits a byte",
            f"{_interval(results)}Comparable whatever the tokens are: with this model, unseen text can be "
            f"packed to {percent(size)} of its size.",
        ),
    ]
    counting, entropy = results.ngram, results.entropy
    if result.ngram_gap_closed is not None and counting and entropy:
        way = (
            f"So much of the way from counting {counting.name}s ({counting.bits_per_byte:.3f} bits a byte) "
            f"to the text’s entropy ({entropy.bits_per_byte:.3f}), which no model can go below."
        )
        lines.append(Headline(percent(result.ngram_gap_closed), "gap closed", way))
    if result.minimal_pair_acc is not None:
        pairs = "So many pairs of a right and a wrong sentence have the right one likelier. A coin: 50%."
        lines.append(Headline(percent(result.minimal_pair_acc), "minimal pairs", pairs))
    texts = f"So many of its texts at temperature {results.params['sample']['temperature']:g}"
    if results.samples.consistency is not None:
        checked = f"{texts} contradict nothing, says a checker that knows how such stories go."
        lines.append(Headline(percent(results.samples.consistency), "consistent", checked))
    copied = f"{texts} stand in the training text word for word, at least half of the text in one piece."
    return [*lines, Headline(percent(results.samples.copy_rate), "copied", copied)]


def _interval(results: Results) -> str:
    if (interval := results.eval_details.bits_per_byte_ci95) is None:
        return ""
    return f"{interval[0]:.3f} to {interval[1]:.3f} with 95% certainty, over documents. "
