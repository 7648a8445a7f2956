"""A model as a GGUF file, for llama.cpp and what is built on it.

It has no NanoChat: a classic model becomes its `gpt2`, a modern one with SwiGLU its `qwen3`. Names and layout
of the weights follow from those in transformers, as in llama.cpp's own converter.
"""

import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from tokenizers import Tokenizer

from slm.core.errors import UserError
from slm.core.files import atomic_write
from slm.model.gpt import GPT
from slm.model.huggingface import model_type, to_config, to_weights
from slm.tokenizer.tokenizer import end_of_text_id

ARCHITECTURES = {"gpt2": gguf.MODEL_ARCH.GPT2, "qwen3": gguf.MODEL_ARCH.QWEN3}
BLOCK = gguf.GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0][0]  # weights of a row that share a scale


def write_gguf(model: GPT, tokenizer: Tokenizer, path: Path, quantize: str | None = None) -> None:
    """Write the model and its tokenizer, in float32 or with matrices of 8 bits a weight: `q8_0`.

    Raises UserError if llama.cpp has no such architecture.
    """
    kind = model_type(model.params)
    if kind not in ARCHITECTURES:
        raise UserError(
            "model.activation: must be swiglu for llama.cpp, or model.architecture must be gpt2, got "
            f"{model.params.activation}"
        )
    names = gguf.get_tensor_name_map(ARCHITECTURES[kind], model.params.n_layer)
    with atomic_write(path) as temporary:
        writer = GGUFWriter(temporary, kind)
        _add_sizes(writer, model, tokenizer)
        _add_tokenizer(writer, tokenizer)
        writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if quantize else LlamaFileType.ALL_F32)
        if quantize:
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for name, weight in to_weights(model).items():
            is_turned = kind == "gpt2" and ".c_" in name and weight.dim() == 2  # kept as (in, out) there
            array = (weight.T if is_turned else weight).contiguous().numpy()
            found = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert found is not None, f"llama.cpp has no name for {name}"
            dtype = _type_of(found, array, quantize)
            writer.add_tensor(found, gguf.quants.quantize(array, dtype), raw_dtype=dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _type_of(name: str, array: np.ndarray, quantize: str | None) -> GGMLQuantizationType:
    """Positions and vectors stay in 32 bits; a matrix whose rows are no whole blocks gets 16."""
    if not quantize or array.ndim < 2 or name.startswith("position_embd"):
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.F16 if array.shape[-1] % BLOCK else GGMLQuantizationType.Q8_0


def _add_sizes(writer: GGUFWriter, model: GPT, tokenizer: Tokenizer) -> None:
    params, config = model.params, to_config(model, end_of_text_id(tokenizer))
    writer.add_block_count(params.n_layer)
    writer.add_context_length(params.block_size)
    writer.add_embedding_length(params.n_embd)
    writer.add_feed_forward_length(config.get("intermediate_size", 4 * params.n_embd))
    writer.add_head_count(params.n_head)
    if params.architecture == "gpt2":
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_head_count_kv(params.kv_heads)
    writer.add_key_length(params.head_dim)
    writer.add_value_length(params.head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    """A byte-level BPE that cuts text as GPT-2 does and begins each text with `<|endoftext|>`."""
    end_of_text = end_of_text_id(tokenizer)
    tokens = [tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size())]
    types = [gguf.TokenType.NORMAL] * len(tokens)
    types[end_of_text] = gguf.TokenType.CONTROL
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(end_of_text)
    writer.add_eos_token_id(end_of_text)
    writer.add_add_bos_token(True)
