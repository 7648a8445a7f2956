"""Evaluation on other datasets, which the model was neither trained nor selected on.

The text is encoded with the model's tokenizer and evaluated as the validation split is: loss, perplexity and
bits per byte. Two values of `metric` add the one that the literature reports:

- `word_perplexity` (WikiText; Merity et al. 2017): exp(Σ losses / number of words). Words are separated by
  whitespace, and each line adds an `<eos>`: 245,569 words in WikiText-2's test split, as its authors count.
  All documents are one running text, evaluated as it is. GPT-2's losses are also divided by the dataset's own
  count (openai/gpt-2, issue 78), but its text was detokenized first (Radford et al. 2019, section 3.1);
  EleutherAI's lm-evaluation-harness detokenizes it and counts no `<eos>`.
- `last_word_accuracy` (LAMBADA; Paperno et al. 2016): the fraction of documents whose last word is the greedy
  continuation of everything before it, token by token; `last_word_perplexity` is exp of the mean loss of that
  word. The word begins with the space before it and need not end there, as in the harness's `lambada_openai`.

Shapes: N tokens in all documents, D documents, T tokens of context, K tokens of a last word, V = vocab_size.
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
from slm.eval.perplexity import perplexity, summarize_losses, token_losses
from slm.model.gpt import GPT
from slm.model.loss import cross_entropy
from slm.results.eval import DatasetMetrics, EvalScope
from slm.tokenizer.bins import bin_dtype
from slm.tokenizer.encode import make_encoder
from slm.tokenizer.tokenizer import decode, encode, end_of_text_id


def evaluate_dataset(
    model: GPT, tokenizer: Tokenizer, name: str, params: EvaluateParams
) -> tuple[DatasetMetrics, EvalScope]:
    """Evaluate the model on the dataset that `evaluate.datasets` calls `name`.

    Raises UserError if the text cannot be read or is empty, or a document has no last word to predict.
    """
    dataset, end_of_text = params.datasets[name], end_of_text_id(tokenizer)
    texts, n_words = read_dataset(name, dataset), 0
    if dataset.metric == "word_perplexity":
        text = running_text(texts)
        texts, n_words = iter([text]), count_words(text)
    elif dataset.metric == "last_word_accuracy":
        texts = map(str.rstrip, texts)

    with TemporaryFile() as file:
        n_bytes = write_tokens(texts, file, tokenizer)  # (D,)
        if not len(n_bytes):
            source = dataset.hub.name if dataset.hub else dataset.file
            raise UserError(f"evaluate.datasets.{name}: no text in {source}")
        tokens = np.memmap(file, bin_dtype(tokenizer.get_vocab_size()), mode="r")
        losses = token_losses(model, tokens, end_of_text, params.stride, params.batch_size)
        summary = summarize_losses(losses, int(n_bytes.sum()))
        metrics = {"loss": summary["val_loss"]}
        metrics |= {key: summary[key] for key in ("perplexity", "bits_per_byte")}
        if dataset.metric == "word_perplexity":
            metrics["word_perplexity"] = perplexity(summary["val_loss"] * len(tokens) / n_words, "word")
        elif dataset.metric == "last_word_accuracy":
            metrics |= evaluate_last_words(model, tokenizer, tokens, name)
        scope = EvalScope(
            bits_per_byte_ci95=bits_per_byte_ci95(losses, tokens, end_of_text, n_bytes),
            tokens=len(tokens),
            bytes=int(n_bytes.sum()),
            documents=len(n_bytes),
        )
        return DatasetMetrics(**metrics), scope


def read_dataset(name: str, dataset: Dataset) -> Iterator[str]:
    """Yield the texts of a file, a folder or a dataset of the Hub."""
    return _read_hub(name, dataset.hub) if dataset.hub else read_texts(Path(dataset.file))


def _read_hub(name: str, hub: DataHub) -> Iterator[str]:
    """Yield the texts of the validation split or, if it is null, of the training split."""
    # Imported only when needed: the client of the Hub takes a second to load.
    from slm.data.hub import read_split

    try:
        yield from read_split(hub, hub.validation_split or hub.train_split)
    except UserError as error:
        # The message names the keys of the section `data`.
        raise UserError(str(error).replace("data.hub", f"evaluate.datasets.{name}.hub")) from None


def running_text(texts: Iterable[str]) -> str:
    """Join texts, each on a new line: in some datasets each text is a line."""
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in texts)


def count_words(text: str) -> int:
    """Return the number of words separated by whitespace and of line ends, each of which is an `<eos>`."""
    return len(text.split()) + text.count("\n")


def write_tokens(texts: Iterable[str], file: IO[bytes], tokenizer: Tokenizer) -> np.ndarray:
    """Write the texts' token ids to a file, END_OF_TEXT after each; return the UTF-8 bytes of each: (D,).

    Texts of nothing but whitespace are dropped, as in the corpus.
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


def evaluate_last_words(model: GPT, tokenizer: Tokenizer, tokens: np.ndarray, name: str) -> dict[str, float]:
    """Predict each document's last word from up to block_size tokens of that document alone."""
    end_of_text = end_of_text_id(tokenizer)
    ends = np.flatnonzero(tokens == end_of_text)
    n_correct, nats, start = 0, 0.0, 0
    with Progress("last-word accuracy", len(ends), "doc") as progress:
        for number, end in enumerate(ends.tolist(), start=1):
            ids = tokens[start:end].tolist()
            _, space, word = decode(tokenizer, ids).rpartition(" ")
            n_last = len(encode(tokenizer, space + word))
            if not space or n_last > model.params.block_size:
                problem = "has more tokens than block_size" if space else "has no space before it"
                raise UserError(f"evaluate.datasets.{name}: document {number}: its last word {problem}")
            is_correct, loss = predict_last(model, [end_of_text, *ids], n_last)
            n_correct += is_correct
            nats += loss
            progress.advance(1)
            start = end + 1
    return {
        "last_word_accuracy": n_correct / len(ends),
        "last_word_perplexity": perplexity(nats / len(ends), "word"),
    }


@torch.inference_mode()
def predict_last(model: GPT, ids: list[int], n_last: int) -> tuple[bool, float]:
    """Return whether each of the last K ids is the most likely one, and their loss in nats."""
    window = torch.tensor([ids[-model.params.block_size - 1 :]], device=model.device)  # (1, T + 1)
    targets = window[:, -n_last:]  # (1, K)
    logits = model(window[:, :-1], last=n_last)  # (1, K, V)
    is_correct = bool((logits.argmax(-1) == targets).all())
    return is_correct, float(cross_entropy(logits, targets, reduction="sum"))
