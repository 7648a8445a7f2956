"""Export a model as a GGUF file, for llama.cpp and programs that use it.

llama.cpp has no NanoChat: architecture gpt2 becomes its `gpt2`, and rope with SwiGLU its `qwen3`. The names
and layouts of the weights are derived from those of transformers, as in llama.cpp's own converter.
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
# Weights of a row that share a scale in Q8_0.
QUANT_BLOCK_SIZE = gguf.GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0][0]


def write_gguf(model: GPT, tokenizer: Tokenizer, path: Path, quantize: str | None = None) -> None:
    """Write the model and its tokenizer in float32, or with matrices quantized to 8 bits per weight (`q8_0`).

    The write is atomic. Raises UserError if llama.cpp does not support the architecture.
    """
    architecture = model_type(model.params)
    if architecture not in ARCHITECTURES:
        raise UserError(
            "model.activation: must be swiglu for llama.cpp, or model.architecture must be gpt2, got "
            f"{model.params.activation}"
        )
    names = gguf.get_tensor_name_map(ARCHITECTURES[architecture], model.params.n_layer)
    with atomic_write(path) as temporary:
        writer = GGUFWriter(temporary, architecture)
        _add_sizes(writer, model, tokenizer)
        _add_tokenizer(writer, tokenizer)
        writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if quantize else LlamaFileType.ALL_F32)
        if quantize:
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for name, weight in to_weights(model).items():
            # transformers stores the matrices of GPT-2 as (in, out), GGUF as (out, in).
            is_transposed = architecture == "gpt2" and ".c_" in name and weight.dim() == 2
            array = (weight.T if is_transposed else weight).contiguous().numpy()
            gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert gguf_name is not None, f"llama.cpp has no name for {name}"
            dtype = _tensor_type(gguf_name, array, quantize)
            writer.add_tensor(gguf_name, gguf.quants.quantize(array, dtype), raw_dtype=dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _tensor_type(name: str, array: np.ndarray, quantize: str | None) -> GGMLQuantizationType:
    """Return the type of a tensor in the file.

    Vectors and positions stay in float32. A matrix whose row length is not a multiple of QUANT_BLOCK_SIZE is
    stored in float16 instead of Q8_0.
    """
    if not quantize or array.ndim < 2 or name.startswith("position_embd"):
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.F16 if array.shape[-1] % QUANT_BLOCK_SIZE else GGMLQuantizationType.Q8_0


def _add_sizes(writer: GGUFWriter, model: GPT, tokenizer: Tokenizer) -> None:
    """Write the hyperparameters of the architecture."""
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
    """Write the tokenizer: byte-level BPE, GPT-2's pre-tokenizer, `<|endoftext|>` before each text."""
    end_of_text = end_of_text_id(tokenizer)
    tokens = [tokenizer.id_to_token(id_) or "" for id_ in range(tokenizer.get_vocab_size())]
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
