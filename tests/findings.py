"""What the earlier stages leave for the report, of a corpus of which all is known or as little as can be."""

import json

from slm.report.found import PNG_BEGINS, PNG_HEADER
from tests.tiny import DATA, MODEL, SAMPLE, TRAIN

HOSTILE = "<script src='http://localhost/x.js'></script><img src=http://localhost/y.png onerror=alert(1)>"
TEXT = f"Once *there* was {HOSTILE} and\n# a \"cat\" & 'dog'.\n\n1. `It` ended | $here$."
PARAMS = {"data": DATA, "model": MODEL, "train": TRAIN, "sample": SAMPLE | {"prompts": [HOSTILE]}}
PARAMS |= {"evaluate": {"ngram_order": 5, "datasets": {}}}
N_STORIES = 4  # of each temperature, one more than is shown


def write(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_results(folder, known):
    """What the earlier stages leave, of a corpus of which all is known or as little as can be."""
    made_with = {"made_with": ["torch==2.0", "Pillow==1.0"]}
    split = {"documents": 1234, "bytes": 5_000_000}
    corpus = {"source": "embedded: stories", "licence": "MIT", "train": split, "validation": split}
    tokens = {"train_tokens": 9000, "validation_tokens": 100, "bytes_per_token": 4.0}
    training = {"steps": 20, "tokens": 2_000_000, "epochs": 1.5, "parameters": 5000, "dtype": "float32"}
    evaluation = {"val_loss": 2.0, "perplexity": 7.389, "bits_per_byte": 1.0}
    evaluation |= (
        {"ngram_gap_closed": 0.75, "minimal_pair_acc": 0.9, "bits_per_byte_ci95": [0.9, 1.1]} if known else {}
    )
    write(folder, "reports/train.csv", "tokens,train_loss,learning_rate,grad_norm\n5,3,0.1,1\n9,2,0.1,inf\n")
    write(folder, "reports/val.csv", "tokens,val_loss\n0,6\n9,2.1\n")
    write(folder, "data/corpus/summary.json", corpus | made_with)
    write(folder, "reports/tokens.json", tokens | made_with)
    write(folder, "reports/train.json", training | {"device": "cpu"} | made_with)
    write(folder, "reports/eval.json", evaluation | made_with)
    write(folder, "models/config.json", {"architecture": "gpt", "vocab_size": 300, "model": MODEL})
    baselines = (
        "name,kind,bits_per_byte\nuniform,baseline,8\n"
        + "5-gram,baseline,1.6\n" * known
        + "this model,model,1\n"
        + "entropy,bound,0.8\n" * known
    )
    write(folder, "reports/baselines.csv", baselines)
    write(
        folder,
        "reports/by_position.csv",
        "position,context,loss,tokens\n1,in_context,3,10\n2,in_context,2.5,20\n",
    )
    write(folder, "reports/by_frequency.csv", "train_frequency,loss,tokens,types\n0,9,1,1\n1,5,2,2\n")
    write(
        folder, "reports/minimal_pairs.csv", "phenomenon,accuracy,pairs\n" + f'"{HOSTILE}",0.9,10\n' * known
    )
    columns = "temperature,num_samples,eos_rate,distinct_2,seq_rep_4,copy_rate" + ",consistency" * known
    rows = [f"{t},{N_STORIES},1,0.5,0,0.25" + ",0.5" * known for t in (0.5, 1)]
    write(folder, "reports/eval_samples.csv", "\n".join([columns, *rows]) + "\n")
    consistency = {"consistency": 0.5} if known else {}
    write(folder, "reports/eval_samples.json", {"copy_rate": 0.25} | consistency | made_with)
    if known:
        write(
            folder,
            "reports/datasets/lambada.json",
            {"lambada": {"bits_per_byte": 2.5, "last_word_accuracy": 0.125}},
        )
    stories = [
        {
            "temperature": t,
            "sample": n,
            "text": f"{n} at {t}. {TEXT}",
            "ended": n > 1,
            "complaints": [HOSTILE] * known,
        }
        for n in range(N_STORIES, 0, -1)
        for t in (1.0, 0.5)
    ]
    write(folder, "data/samples.jsonl", "".join(json.dumps(story) + "\n" for story in stories))
    write(folder, "data/inspection.json", {
        "given": 1,
        "tokens": ["Once", HOSTILE, "\n", "<|endoftext|>"],
        "probabilities": [0.5, 0.001, 0.25, 1.0],
        "alternatives": [[["Once", 0.5], [HOSTILE, 0.25]]] * 4,
        "attention": [[[[1.0, 0.0], [0.5, 0.5]]] * 3] * 2,
    })  # fmt: skip
    return folder


def with_scores(*names):
    """The params that ask for scores of further texts."""
    datasets = {name: {"file": f"{name}.txt", "metric": "bits_per_byte"} for name in names}
    return PARAMS | {"evaluate": {"ngram_order": 5, "datasets": datasets}}


def write_picture(folder):
    """What is taken for a picture, for those who look at none."""
    (folder / "reports/figures").mkdir(parents=True)
    (folder / "reports/figures/loss.png").write_bytes(PNG_BEGINS + bytes(PNG_HEADER))
