"""The tiny models: the same bytes each time, readable by others, repaired when damaged."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jinja2
import numpy as np
import pytest
import safetensors
from rackserve.lab import models
from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def tiny() -> dict[str, bytes]:
    return models.files("tiny")


def test_another_process_makes_the_same_bytes(tiny: dict[str, bytes]) -> None:
    code = (
        "import hashlib, json; from rackserve.lab import models\n"
        "print(json.dumps({n: hashlib.sha256(c).hexdigest() for n, c in models.files('tiny').items()}))"
    )
    scripts = str(Path(models.__file__).parents[2])
    environment = {"PYTHONPATH": scripts, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(other.stdout) == {name: hashlib.sha256(content).hexdigest() for name, content in tiny.items()}


def test_bfloat16_is_the_upper_half_rounded_to_nearest_even() -> None:
    values = np.array([1.0, -2.0, 1.00390625, 1.01171875, 3.0e38], np.float32)
    # 1 + 1/256 lies between two values and goes to the even one below, 1 + 3/256 to the even one above.
    assert np.frombuffer(models._bf16(values), "<u2").tolist() == [0x3F80, 0xC000, 0x3F80, 0x3F82, 0x7F62]


@pytest.mark.parametrize(("name", "layers", "hidden"), [("tiny", 2, 64), ("tiny-large", 4, 256)])
def test_the_weights_fit_the_configuration_that_lies_beside_them(name: str, layers: int, hidden: int) -> None:
    made = models.files(name)
    config = json.loads(made["config.json"])
    tensors = dict(safetensors.deserialize(made["model.safetensors"]))  # type: ignore[no-untyped-call]
    assert (config["num_hidden_layers"], config["hidden_size"]) == (layers, hidden)
    assert config["head_dim"] * config["num_attention_heads"] == hidden
    assert len(tensors) == 3 + 9 * layers
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        assert tensors[key]["shape"] == [config["vocab_size"], hidden]
    gate = tensors[f"model.layers.{layers - 1}.mlp.gate_proj.weight"]
    assert gate["shape"] == [config["intermediate_size"], hidden]
    assert {tensor["dtype"] for tensor in tensors.values()} == {"BF16"}


def test_the_larger_model_is_visibly_larger(tiny: dict[str, bytes]) -> None:
    assert len(models.files("tiny-large")["model.safetensors"]) > 10 * len(tiny["model.safetensors"])


def test_any_text_survives_the_tokenizer(tiny: dict[str, bytes]) -> None:
    tokenizer = Tokenizer.from_str(tiny["tokenizer.json"].decode())
    assert tokenizer.get_vocab_size() == 512
    text = "Ein Gestell — 架 \U0001f5c4\n\ttab"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_chat_template_marks_who_speaks_and_ends_where_the_answer_begins(tiny: dict[str, bytes]) -> None:
    template = json.loads(tiny["tokenizer_config.json"])["chat_template"]
    shown = jinja2.Template(template).render(
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        add_generation_prompt=True,
    )
    assert shown == "<|begin|><|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>"
    ids = Tokenizer.from_str(tiny["tokenizer.json"].decode()).encode(shown).ids
    assert len(ids) < len(shown)
    assert ids[0] == json.loads(tiny["config.json"])["bos_token_id"]


def test_a_model_that_is_intact_is_left_alone_and_a_damaged_one_made_anew(tmp_path: Path) -> None:
    directory = tmp_path / "models" / "tiny"
    assert models.ensure(directory, "tiny")
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert not models.ensure(directory, "tiny")
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before

    weights = directory / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert models.ensure(directory, "tiny")
    (directory / "stray.txt").write_text("not part of the model")
    assert models.ensure(directory, "tiny")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == models.files("tiny")
    assert [entry.name for entry in directory.parent.iterdir()] == ["tiny"]
