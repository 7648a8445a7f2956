"""GGUF files: tensors and metadata, and the same logits and texts in llama.cpp.

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
from tests.export_models import BLOCK_SIZE, MODELS, TEXT, random_model, small_tokenizer
from tests.tiny import file_size_limit, model_params, sample_params, train_params

EXPORTABLE = ("gpt2", "swiglu")
# Tensors of this project and their names in GGUF, where their values are the same.
NAMES = {
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


def export(path, name, quantize=None):
    """Export a model; return it, its tokenizer, and the tensors and fields of the file by name."""
    tokenizer = small_tokenizer()
    model = random_model(name, tokenizer.get_vocab_size())
    write_gguf(model, tokenizer, path, quantize)
    reader = GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return model, tokenizer, {tensor.name: tensor for tensor in reader.tensors}, fields


@pytest.mark.parametrize("name", EXPORTABLE)
def test_tensors_equal_those_of_the_model(tmp_path, name):
    model, _, tensors, _ = export(tmp_path / "m.gguf", name)
    weights = model.state_dict()
    for key, gguf_key in NAMES[name].items():
        np.testing.assert_array_equal(tensors[gguf_key].data, weights[key].numpy())
    assert len(tensors) == len(to_weights(model))
    if name == "gpt2":
        assert not any(tensor.data.any() for key, tensor in tensors.items() if key.endswith(".bias"))
    else:
        assert all((tensor.data == 1).all() for key, tensor in tensors.items() if "norm" in key)
        # The rotation has the opposite sign there, so the second half of the channels is negated.
        key = weights["blocks.0.attention.key.weight"].numpy()
        half = len(key) // 2
        np.testing.assert_array_equal(
            tensors["blk.0.attn_k.weight"].data, np.concatenate([key[:half], -key[half:]])
        )


@pytest.mark.parametrize("name", EXPORTABLE)
def test_fields_describe_the_model_and_the_tokenizer(tmp_path, name):
    model, tokenizer, _, fields = export(tmp_path / "m.gguf", name)
    architecture, params = ("gpt2" if name == "gpt2" else "qwen3"), model.params
    assert fields["general.architecture"] == architecture
    sizes = {"block_count": 2, "context_length": BLOCK_SIZE, "embedding_length": 32}
    sizes |= {"attention.head_count": 2, "feed_forward_length": 128 if name == "gpt2" else 88}
    if name == "swiglu":
        sizes |= {"attention.head_count_kv": 1, "attention.key_length": 16, "attention.value_length": 16}
        assert fields["qwen3.rope.freq_base"] == 10_000
        assert fields["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    else:
        assert fields["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    assert {key: fields[f"{architecture}.{key}"] for key in sizes} == sizes
    assert params.n_layer == 2
    vocabulary, end_of_text = tokenizer.get_vocab(), tokenizer.token_to_id(END_OF_TEXT)
    assert {token: id_ for id_, token in enumerate(fields["tokenizer.ggml.tokens"])} == vocabulary
    special = [id_ for id_, token_type in enumerate(fields["tokenizer.ggml.token_type"]) if token_type != 1]
    assert special == [end_of_text]
    assert fields["tokenizer.ggml.token_type"][end_of_text] == gguf.TokenType.CONTROL
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    assert [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]] == merges
    rest = {"model": "gpt2", "pre": "gpt-2", "add_bos_token": True}
    rest |= {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    assert {key: fields[f"tokenizer.ggml.{key}"] for key in rest} == rest


def test_quantized_matrices_have_8_bits_per_weight(tmp_path):
    _, _, tensors, _ = export(tmp_path / "a.gguf", "swiglu")
    _, _, quantized, fields = export(tmp_path / "b.gguf", "swiglu", "q8_0")
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    types = {name: tensor.tensor_type.name for name, tensor in quantized.items()}
    assert types["blk.0.ffn_up.weight"] == types["token_embd.weight"] == "Q8_0"
    # Its rows have 88 weights, not a multiple of 32.
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.attn_norm.weight"] == "F32"
    for name, tensor in quantized.items():
        dequantized = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        largest = np.abs(tensors[name].data).max()
        np.testing.assert_allclose(dequantized, tensors[name].data, atol=largest / 127)
    assert (tmp_path / "b.gguf").stat().st_size < (tmp_path / "a.gguf").stat().st_size


def test_unsupported_activation_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model\.activation: must be swiglu for llama\.cpp, or .* got gelu"):
        export(tmp_path / "m.gguf", "gelu")
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_text("old")
    with (
        file_size_limit(20_000),
        pytest.raises(UserError, match=r"m\.gguf: could not be written"),
    ):
        export(path, "swiglu")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.fixture(scope="module")
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python, which compiles for minutes")


@pytest.fixture(scope="module", params=EXPORTABLE)
def trained(request, tmp_path_factory):
    """Return a briefly trained model, whose most likely tokens are clearer than those of a random one."""
    texts = [story.text for story in islice(stories(seed=1), 200)]
    tokenizer = train_bpe(texts, vocab_size=400)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    tokens = np.array([token for text in texts for token in (*encode(tokenizer, text), end_of_text)], "<u2")
    folder = tmp_path_factory.mktemp("trained")
    params = model_params(**MODELS[request.param] | {"n_embd": 64, "block_size": 64})
    steps = train_params(max_steps=150, eval_interval=150, learning_rate=3e-3, batch_size=16)
    train(params, steps, tokens, tokens[:1000], tokenizer.get_vocab_size(), folder)
    return load_model(folder), tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "q8_0"])
def test_llama_cpp_has_equal_tokens_logits_and_texts(tmp_path, llama_cpp, trained, quantize):
    model, tokenizer = trained
    write_gguf(model, tokenizer, tmp_path / "m.gguf", quantize)
    # Keep keys and values in float32, as this project does.
    cache_types = {"type_k": 0, "type_v": 0}
    llama = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=64, logits_all=True, verbose=False, **cache_types)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    for text in ["", TEXT, "  two  spaces\n", "naïve 日本 🦆", "it's 3 o'clock\t!"]:
        assert llama.tokenize(text.encode()) == [end_of_text, *encode(tokenizer, text)]

    ids = [end_of_text, *encode(tokenizer, TEXT)][:64]
    llama.eval(ids)
    # llama.cpp computes GELU from a table in 16 bits.
    has_gelu = model.params.architecture == "gpt2"
    atol = 0.5 if quantize else 0.01 if has_gelu else 1e-4
    torch.testing.assert_close(torch.tensor(llama.scores[: len(ids)]), logits(model, ids), rtol=0, atol=atol)

    for prompt in ("", "Once"):
        ids = [end_of_text, *encode(tokenizer, prompt)]
        params = sample_params(temperature=0.0, num_samples=1, max_new_tokens=64 - len(ids))
        [[story]] = generate(model, [ids[1:]], params, end_of_text)
        llama.reset()
        for token, llama_token in zip(story, llama.generate(ids, temp=0.0, repeat_penalty=1.0), strict=False):
            # The texts may part only where two logits are nearly equal.
            if llama_token != token:
                best, second = logits(model, ids)[-1, [token, llama_token]].tolist()
                assert best - second < 2 * atol
                break
            ids.append(token)
        assert len(ids) > 8


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids]))[0]
