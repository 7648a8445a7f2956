"""A GGUF file holds the model and its tokenizer, and llama.cpp tells the model's own stories with it.

pip install llama-cpp-python && pytest -m slow tests/export/test_gguf.py
"""

import json
from itertools import islice

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFReader

from slm.core.errors import UserError
from slm.export.gguf import write_gguf
from slm.generate.batch import generate
from slm.model.gpt import load_model
from slm.model.huggingface import to_weights
from slm.tokenizer.tokenizer import END_OF_TEXT, encode, train_bpe
from slm.train.trainer import train
from storygrammar.grammar.generator import stories
from tests.exporting import BLOCK_SIZE, MODELS, TEXT, random_model, small_tokenizer
from tests.tiny import file_size_limit, model_params, sample_params, train_params

KINDS = ("gpt2", "swiglu")
NAMES = {  # this project's tensors that GGUF keeps as they are
    "gpt2": {
        "token_embedding.weight": "token_embd.weight",
        "position_embedding.weight": "position_embd.weight",
        "blocks.1.attention_norm.weight": "blk.1.attn_norm.weight",
        "blocks.1.attention.qkv.weight": "blk.1.attn_qkv.weight",
        "blocks.1.attention.out.weight": "blk.1.attn_output.weight",
        "blocks.1.mlp_norm.weight": "blk.1.ffn_norm.weight",
        "blocks.1.mlp.up.weight": "blk.1.ffn_up.weight",
        "blocks.1.mlp.down.weight": "blk.1.ffn_down.weight",
        "final_norm.weight": "output_norm.weight",
    },
    "swiglu": {
        "head.weight": "output.weight",
        "blocks.0.attention.value.weight": "blk.0.attn_v.weight",
        "blocks.0.attention.out.weight": "blk.0.attn_output.weight",
        "blocks.0.mlp.gate.weight": "blk.0.ffn_gate.weight",
        "blocks.0.mlp.up.weight": "blk.0.ffn_up.weight",
        "blocks.0.mlp.down.weight": "blk.0.ffn_down.weight",
    },
}


def written(path, kind, quantize=None):
    """A model, and what GGUF's own reader finds in its file: tensors by name, and fields."""
    tokenizer = small_tokenizer()
    model = random_model(kind, tokenizer.get_vocab_size())
    write_gguf(model, tokenizer, path, quantize)
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return model, tokenizer, {tensor.name: tensor for tensor in reader.tensors}, fields


@pytest.mark.parametrize("kind", KINDS)
def test_the_tensors_are_the_models_own(tmp_path, kind):
    model, _, tensors, _ = written(tmp_path / "m.gguf", kind)
    weights = model.state_dict()
    for ours, theirs in NAMES[kind].items():
        np.testing.assert_array_equal(tensors[theirs].data, weights[ours].numpy())
    assert len(tensors) == len(to_weights(model))
    if kind == "gpt2":
        assert not any(tensor.data.any() for name, tensor in tensors.items() if name.endswith(".bias"))
    else:
        assert all((tensor.data == 1).all() for name, tensor in tensors.items() if "norm" in name)
        key = weights["blocks.0.attention.key.weight"].numpy()  # one head, half of whose channels turn back
        half = len(key) // 2
        np.testing.assert_array_equal(
            tensors["blk.0.attn_k.weight"].data, np.concatenate([key[:half], -key[half:]])
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_say_what_llama_cpp_needs(tmp_path, kind):
    model, tokenizer, _, fields = written(tmp_path / "m.gguf", kind)
    name, params = ("gpt2" if kind == "gpt2" else "qwen3"), model.params
    assert fields["general.architecture"] == name
    sizes = {"block_count": 2, "context_length": BLOCK_SIZE, "embedding_length": 32}
    sizes |= {"attention.head_count": 2, "feed_forward_length": 128 if kind == "gpt2" else 88}
    if kind == "swiglu":
        sizes |= {"attention.head_count_kv": 1, "attention.key_length": 16, "attention.value_length": 16}
        assert fields["qwen3.rope.freq_base"] == 10_000
        assert fields["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    else:
        assert fields["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    assert {key: fields[f"{name}.{key}"] for key in sizes} == sizes
    assert params.n_layer == 2
    vocabulary, end_of_text = tokenizer.get_vocab(), tokenizer.token_to_id(END_OF_TEXT)
    assert {token: n for n, token in enumerate(fields["tokenizer.ggml.tokens"])} == vocabulary
    special = [n for n, kind in enumerate(fields["tokenizer.ggml.token_type"]) if kind != 1]
    assert special == [end_of_text]
    assert fields["tokenizer.ggml.token_type"][end_of_text] == gguf.TokenType.CONTROL
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    assert [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]] == merges
    rest = {"model": "gpt2", "pre": "gpt-2", "add_bos_token": True}
    rest |= {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    assert {key: fields[f"tokenizer.ggml.{key}"] for key in rest} == rest


def test_quantized_matrices_have_eight_bits_a_weight_and_are_near(tmp_path):
    _, _, tensors, _ = written(tmp_path / "a.gguf", "swiglu")
    _, _, rounded, fields = written(tmp_path / "b.gguf", "swiglu", "q8_0")
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    types = {name: tensor.tensor_type.name for name, tensor in rounded.items()}
    assert types["blk.0.ffn_up.weight"] == types["token_embd.weight"] == "Q8_0"
    assert types["blk.0.ffn_down.weight"] == "F16"  # 88 is no multiple of 32
    assert types["blk.0.attn_norm.weight"] == "F32"
    for name, tensor in rounded.items():
        near = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        largest = np.abs(tensors[name].data).max()
        np.testing.assert_allclose(near, tensors[name].data, atol=largest / 127)
    assert (tmp_path / "b.gguf").stat().st_size < (tmp_path / "a.gguf").stat().st_size


def test_an_architecture_that_llama_cpp_has_not_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.activation: must be swiglu for llama\.cpp, or .* got gelu"):
        written(tmp_path / "m.gguf", "gelu")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_text("old")
    with (
        file_size_limit(20_000),
        pytest.raises(UserError, match=r"m\.gguf: could not be written"),
    ):
        written(path, "swiglu")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


# llama.cpp itself


@pytest.fixture(scope="module")
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python, which compiles for minutes")


@pytest.fixture(scope="module", params=KINDS)
def taught(request, tmp_path_factory):
    """A model that has learned from a few stories, so that what it says is not all a close call."""
    texts = [story.text for story in islice(stories(seed=1), 200)]
    tokenizer = train_bpe(texts, vocab_size=400)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    tokens = np.array([token for text in texts for token in (*encode(tokenizer, text), end_of_text)], "<u2")
    folder = tmp_path_factory.mktemp("taught")
    params = model_params(**MODELS[request.param] | {"n_embd": 64, "block_size": 64})
    steps = train_params(max_steps=150, eval_interval=150, learning_rate=3e-3, batch_size=16)
    train(params, steps, tokens, tokens[:1000], tokenizer.get_vocab_size(), folder)
    return load_model(folder), tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "q8_0"])
def test_llama_cpp_tokenizes_and_writes_as_the_model_does(tmp_path, llama_cpp, taught, quantize):
    model, tokenizer = taught
    write_gguf(model, tokenizer, tmp_path / "m.gguf", quantize)
    full = {"type_k": 0, "type_v": 0}  # keys and values in float32, as here
    llama = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=64, logits_all=True, verbose=False, **full)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    for text in ["", TEXT, "  two  spaces\n", "naïve 日本 🦆", "it's 3 o'clock\t!"]:
        assert llama.tokenize(text.encode()) == [end_of_text, *encode(tokenizer, text)]

    ids = [end_of_text, *encode(tokenizer, TEXT)][:64]
    llama.eval(ids)
    has_gelu = model.params.architecture == "gpt2"  # which llama.cpp rounds to 16 bits
    atol = 0.5 if quantize else 0.01 if has_gelu else 1e-4
    torch.testing.assert_close(torch.tensor(llama.scores[: len(ids)]), logits(model, ids), rtol=0, atol=atol)

    for prompt in ("", "Once"):
        ids = [end_of_text, *encode(tokenizer, prompt)]
        params = sample_params(temperature=0.0, num_samples=1, max_new_tokens=64 - len(ids))
        [[story]] = generate(model, [ids[1:]], params, end_of_text)
        llama.reset()
        for token, theirs in zip(story, llama.generate(ids, temp=0.0, repeat_penalty=1.0), strict=False):
            if theirs != token:  # then it was a close call
                best, other = logits(model, ids)[-1, [token, theirs]].tolist()
                assert best - other < 2 * atol
                break
            ids.append(token)
        assert len(ids) > 8


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids]))[0]
