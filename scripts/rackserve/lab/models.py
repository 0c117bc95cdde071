"""The lab's tiny models: complete Hugging Face directories with random weights, made on the spot.

They take the place of a download; what loads and serves them is the real code. Seeded, and the same bytes on every
run, so a manifest of one can be compared with any other. Two tricks keep the answers readable although the weights are
noise: one channel of the hidden state is constant, and the output layer uses it to rule out tokens that are no text.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread, one order: the trainer must break ties between equally frequent pairs in the same way every time.
os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 512
HEAD_SIZE = 32  # the smallest that vLLM's attention on the CPU offers
SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CONSTANT_CHANNEL = 0
RULED_OUT = -30.0

_TEXT = """\
A rack is a frame of steel that holds servers one above the other, and each server has a place, a number and two cables.
The balancer stands in front and knows which engine is healthy, how long its queue is and who asks for an answer.
An engine loads the weights of a model once, keeps them in memory and then answers many questions at the same time.
When a question arrives it waits for a free slot, and while it waits nothing is lost, because the queue has a limit.
Words come back one after the other as soon as they are known, so that the reader does not have to wait for the end.
If one server stops, the others carry its share, and whoever is on call reads in the morning what happened in the night.
A new release is tried on a small part of the traffic first; when it does worse than the old one, the old one returns.
Every change has a reason, every promise has a test, and every number that is shown to somebody was measured before.
Good machines are quiet, good reports are short, and a good plan still works when the power or the network goes away.
"""

CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    intermediate: int
    seed: int


SIZES = {
    "tiny": Size(layers=2, hidden=64, intermediate=128, seed=1),
    "tiny-large": Size(layers=4, hidden=256, intermediate=768, seed=2),
}


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT.splitlines(), trainer)
    return tokenizer


def _readable(tokenizer: Tokenizer) -> list[bool]:
    """Which tokens may be generated: words and parts of words of the text, and the end."""
    end = tokenizer.token_to_id("<|end|>")

    def allowed(token: int) -> bool:
        text = tokenizer.decode([token])
        return token == end or (len(text) > 1 and text.isascii() and text.isprintable() and token >= len(SPECIAL))

    return [allowed(token) for token in range(VOCABULARY)]


def _bf16(values: npt.NDArray[np.float32]) -> bytes:
    """Little-endian bfloat16: the upper half of a float32, rounded to the nearest, ties to even."""
    bits = values.astype("<f4").view("<u4")
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    half: npt.NDArray[np.uint16] = (rounded >> 16).astype("<u2")
    return half.tobytes()


def _weights(size: Size, readable: list[bool]) -> bytes:
    random = np.random.Generator(np.random.PCG64(size.seed))

    def noise(rows: int, columns: int, scale: float) -> npt.NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    hidden, inner = size.hidden, size.intermediate
    narrow = hidden**-0.5
    tensors = {"model.embed_tokens.weight": noise(VOCABULARY, hidden, 1.0)}
    for layer in range(size.layers):
        prefix = f"model.layers.{layer}"
        for name in ("q", "k", "v", "o"):
            tensors[f"{prefix}.self_attn.{name}_proj.weight"] = noise(hidden, hidden, narrow)
        tensors[f"{prefix}.mlp.gate_proj.weight"] = noise(inner, hidden, narrow)
        tensors[f"{prefix}.mlp.up_proj.weight"] = noise(inner, hidden, narrow)
        tensors[f"{prefix}.mlp.down_proj.weight"] = noise(hidden, inner, inner**-0.5)
        # Nothing but the embedding writes to the constant channel.
        tensors[f"{prefix}.self_attn.o_proj.weight"][CONSTANT_CHANNEL] = 0
        tensors[f"{prefix}.mlp.down_proj.weight"][CONSTANT_CHANNEL] = 0
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{name}.weight"] = np.ones(hidden, np.float32)
    tensors["model.norm.weight"] = np.ones(hidden, np.float32)
    tensors["model.embed_tokens.weight"][:, CONSTANT_CHANNEL] = 4.0
    head = noise(VOCABULARY, hidden, 3.0 * narrow)
    head[:, CONSTANT_CHANNEL] = np.where(readable, 0.0, RULED_OUT)
    tensors["lm_head.weight"] = head
    return _safetensors(tensors)


def _safetensors(tensors: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """The file format: length of the header, header in JSON, data. Written here because numpy has no bfloat16, and the
    library's own function for raw bytes takes other arguments from version to version."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name in sorted(tensors):
        start = len(data)
        data += _bf16(tensors[name])
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # readers map the data into memory, where it should be aligned
    return len(text).to_bytes(8, "little") + text + bytes(data)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def files(name: str) -> dict[str, bytes]:
    """Every file of the model, by name."""
    size = SIZES[name]
    tokenizer = _tokenizer()
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    begin, end, pad = ids["<|begin|>"], ids["<|end|>"], ids["<|pad|>"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden // HEAD_SIZE,
        "num_key_value_heads": size.hidden // HEAD_SIZE,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": pad,
        "torch_dtype": "bfloat16",
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    generation = {
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": pad,
        "do_sample": True,
        "temperature": 1.0,
    }
    return {
        "config.json": _json(config),
        "generation_config.json": _json(generation),
        "tokenizer.json": tokenizer.to_str(pretty=True).encode(),
        "tokenizer_config.json": _json(tokenizer_config),
        "model.safetensors": _weights(size, _readable(tokenizer)),
    }


def is_intact(directory: Path, expected: dict[str, bytes]) -> bool:
    if not directory.is_dir() or {entry.name for entry in directory.iterdir()} != set(expected):
        return False
    return all((directory / name).read_bytes() == content for name, content in expected.items())


def ensure(directory: Path, name: str) -> bool:
    """Make the model's directory unless it is there and intact; return whether it was made."""
    expected = files(name)
    if is_intact(directory, expected):
        return False
    directory.parent.mkdir(parents=True, exist_ok=True)
    candidate = directory.with_name(f".{directory.name}.new")
    for leftover in (candidate, directory):
        if leftover.exists():
            shutil.rmtree(leftover)
    candidate.mkdir()
    for file, content in expected.items():
        (candidate / file).write_bytes(content)
    candidate.rename(directory)
    return True
