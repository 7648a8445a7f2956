"""How well the model predicts texts from elsewhere, which it was neither trained nor chosen on.

Every text is encoded with the model's own tokenizer and scored as the validation split is: loss and
perplexity a token, bits a byte. Two values of `metric` add the one that the literature reports:

- `word_perplexity` (WikiText; Merity et al. 2017): exp(Σ losses / number of words). Words are what white
  space divides, and one `<eos>` for each line, which makes 245,569 in WikiText-2's test split, as
  its authors count. All documents are one running text, scored as it is. The losses of GPT-2 are divided by
  the data set's own count, too (openai/gpt-2, issue 78), but its text had spaces and signs mended first
  (Radford et al. 2019, section 3.1); EleutherAI's lm-evaluation-harness mends them and counts no `<eos>`.
- `last_word_accuracy` (LAMBADA; Paperno et al. 2016): the share of documents whose last word the model
  predicts from all that comes before it, each of its tokens being the likeliest one, and exp of the mean
  loss of that word. The word begins with the space before it and need not end there, as in the harness's
  `lambada_openai`.

Shapes: N tokens in all documents, T in the window before the end of one, K in its last word, V = vocab_size.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import torch
from tokenizers import Tokenizer

from slm.core.errors import UserError
from slm.core.progress import Progress
from slm.data.params import DataHub
from slm.data.textfiles import read_texts
from slm.eval.breakdown import bits_per_byte_ci95
from slm.eval.params import Dataset, EvaluateParams
from slm.eval.perplexity import perplexity, summary, token_losses
from slm.model.gpt import GPT, cross_entropy
from slm.results.eval import DatasetMetrics, EvalScope
from slm.tokenizer.bins import bin_dtype
from slm.tokenizer.encode import make_encoder
from slm.tokenizer.tokenizer import END_OF_TEXT, decode, encode


def evaluate_dataset(
    model: GPT, tokenizer: Tokenizer, name: str, params: EvaluateParams
) -> tuple[DatasetMetrics, EvalScope]:
    """Evaluate the model on the text that `evaluate.datasets` calls `name`.

    Raises UserError if the text cannot be read or is empty, or a document has no last word to predict.
    """
    dataset, end_of_text = params.datasets[name], tokenizer.token_to_id(END_OF_TEXT)
    texts, n_words = documents(name, dataset), 0
    if dataset.metric == "word_perplexity":
        text = running_text(texts)
        texts, n_words = iter([text]), count_words(text)
    elif dataset.metric == "last_word_accuracy":
        texts = map(str.rstrip, texts)
    with TemporaryFile() as file:
        n_bytes = write_tokens(texts, file, tokenizer)  # (D,)
        if not len(n_bytes):
            place = dataset.hub.name if dataset.hub else dataset.file
            raise UserError(f"evaluate.datasets.{name}: no text in {place}")
        tokens = np.memmap(file, bin_dtype(tokenizer.get_vocab_size()), mode="r")
        losses = token_losses(model, tokens, end_of_text, params.stride, params.batch_size)
        total = summary(losses, int(n_bytes.sum()))
        found = {"loss": total["val_loss"]}
        found |= {key: total[key] for key in ("perplexity", "bits_per_byte")}
        if dataset.metric == "word_perplexity":
            found["word_perplexity"] = perplexity(total["val_loss"] * len(tokens) / n_words, "word")
        elif dataset.metric == "last_word_accuracy":
            found |= last_words(model, tokenizer, tokens, name)
        scope = EvalScope(
            bits_per_byte_ci95=bits_per_byte_ci95(losses, tokens, end_of_text, n_bytes),
            tokens=len(tokens),
            bytes=int(n_bytes.sum()),
            documents=len(n_bytes),
        )
        return DatasetMetrics(**found), scope


def documents(name: str, dataset: Dataset) -> Iterator[str]:
    """The texts of a file, a folder or a dataset of the Hub, one at a time."""
    return _of_hub(name, dataset.hub) if dataset.hub else read_texts(Path(dataset.file))


def running_text(texts: Iterable[str]) -> str:
    """All texts one after the other, each on a new line: in a dataset each may be a line."""
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in texts)


def count_words(text: str) -> int:
    """Words between white space, and line ends, each of which stands for an `<eos>`."""
    return len(text.split()) + text.count("\n")


def write_tokens(texts: Iterable[str], file: IO[bytes], tokenizer: Tokenizer) -> np.ndarray:
    """Write the texts' ids to a file, END_OF_TEXT after each; give the bytes of each text: (D,).

    Texts of nothing but white space are dropped, as from the dataset.
    """
    encoder, dtype = make_encoder(tokenizer), bin_dtype(tokenizer.get_vocab_size())
    n_bytes = []
    with Progress("tokenizing", None, "B") as progress:
        for text in filter(str.strip, texts):
            file.write(encoder([text]).astype(dtype).data)
            n_bytes.append(len(text.encode()))
            progress.advance(n_bytes[-1])
    file.flush()
    return np.array(n_bytes)


def last_words(model: GPT, tokenizer: Tokenizer, tokens: np.ndarray, name: str) -> dict[str, float]:
    """How well each document's last word is predicted from up to block_size tokens of that document alone."""
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    ends = np.flatnonzero(tokens == end_of_text)
    n_right, nats, start = 0, 0.0, 0
    with Progress("last words", len(ends), "doc") as progress:
        for number, end in enumerate(ends.tolist(), start=1):
            ids = tokens[start:end].tolist()
            _, space, word = decode(tokenizer, ids).rpartition(" ")
            n_last = len(encode(tokenizer, space + word))
            if not space or n_last > model.params.block_size:
                what = "has more tokens than block_size" if space else "has no space before it"
                raise UserError(f"evaluate.datasets.{name}: document {number}: its last word {what}")
            is_right, loss = predict_end(model, [end_of_text, *ids], n_last)
            n_right += is_right
            nats += loss
            progress.advance(1)
            start = end + 1
    return {
        "last_word_accuracy": n_right / len(ends),
        "last_word_perplexity": perplexity(nats / len(ends), "word"),
    }


@torch.inference_mode()
def predict_end(model: GPT, ids: list[int], n_last: int) -> tuple[bool, float]:
    """Whether each of the last K ids is the likeliest after those before it, and their loss in nats."""
    window = torch.tensor([ids[-model.params.block_size - 1 :]], device=model.device)  # (1, T + 1)
    targets = window[:, -n_last:]  # (1, K)
    logits = model(window[:, :-1], last=n_last)  # (1, K, V)
    is_right = bool((logits.argmax(-1) == targets).all())
    return is_right, float(cross_entropy(logits, targets, reduction="sum"))


def _of_hub(name: str, hub: DataHub) -> Iterator[str]:
    """The texts of a dataset's validation split or, if it names none, of its training split."""
    from slm.data.hub import read_split  # here alone: its client takes a second to load

    try:
        yield from read_split(hub, hub.validation_split or hub.train_split)
    except UserError as error:  # which names the keys of `data.hub`
        raise UserError(str(error).replace("data.hub", f"evaluate.datasets.{name}.hub")) from None
