"""Runs the step `init` in a process of its own, on a base that it makes, and says what it held.

python worker_init.py /some/folder
"""

import json
from pathlib import Path
import subprocess
import sys

import hand_tokenizer
import jax
import ml_dtypes
import numpy as np
from sentencepiece import sentencepiece_model_pb2 as spm
from worker_weights import memory

from lrl_jax.hf import families, layout
from lrl_jax.pipeline import init
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Recipe
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import sentencepieces
from lrl_jax.vocab.tokenizer.load import from_bytes

PIECES, ADDED = 16_000, 64  # of the base, and new ones
SMALL = {
    "model_type": "llama", "vocab_size": PIECES, "hidden_size": 32, "num_hidden_layers": 2,
    "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip
LARGE = SMALL | {
    "hidden_size": 1024, "num_hidden_layers": 29, "intermediate_size": 2816,
    "num_attention_heads": 16, "num_key_value_heads": 16,
}  # fmt: skip  # 406 million parameters


def spawn(folder: Path) -> dict:
    """Runs `main` in a process of its own; returns what it printed."""
    got = subprocess.run(
        [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, timeout=300, check=True
    )
    return json.loads(got.stdout.splitlines()[-1])


def main(folder: Path) -> dict[str, int]:
    """Runs `init` on a base in bfloat16; the bytes of its arrays, and the most it held."""
    jax.config.update("jax_platforms", "cpu")
    init.run(Run(make(folder / "small", SMALL)))  # brings what any such step needs into memory
    recipe = make(folder / "large", LARGE)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    init.run(Run(recipe))
    cfg = families.config_from_hf(LARGE | {"vocab_size": PIECES + ADDED})
    arrays = 2 * sum(int(np.prod(t.shape)) for t in layout.tensors(cfg).values())
    return {"arrays": arrays, "peak": memory("VmHWM") - before}


def make(folder: Path, config: dict) -> Recipe:
    """Writes a base, and what `lrl vocab` would leave; returns the recipe."""
    write_base(folder / "base", config)
    proto = spm.ModelProto()
    proto.ParseFromString(hand_tokenizer.make().files["tokenizer.model"])
    for n in range(PIECES - len(proto.pieces)):
        proto.pieces.add(piece=f"a{n}", score=-100.0 - n, type=1)
    base = from_bytes(proto.SerializeToString())
    sentencepieces.write(base, folder / "base")
    new, relation = splice.splice(base, [f"b{n}" for n in range(ADDED)])
    sentencepieces.write(new, folder / "runs/big/vocab")
    relation.write(folder / "runs/big/vocab/splice.json")
    (folder / "runs/big/init").mkdir()
    text = [str(folder / "text")]
    learn = [{"match": ".*", "schedule": {"peak": 1e-3}}]
    data = {"kind": "text", "path": text, "language": "eng_Latn"}
    return Recipe(
        name="big", folder=str(folder / "runs"), base={"model": str(folder / "base")},
        vocab={"method": "extend", "text": text, "pieces": ADDED, "scripts": ["Latn"],
               "prove_on": text},
        init={"param_dtype": "bfloat16"},
        data={"sequence_length": 64, "datasets": {"d": data}},
        train={"batch_size": 1, "stages": [
            {"name": "s", "steps": 1, "mixture": {"d": 1}, "learn": learn}]},
    )  # fmt: skip


def write_base(folder: Path, config: dict) -> None:
    """Writes config.json and weights in bfloat16: one block of noise, again and again."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, tensor in layout.tensors(families.config_from_hf(config)).items():
        start, end = end, end + 2 * int(np.prod(tensor.shape))
        header[name] = {"dtype": "BF16", "shape": [*tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    noise = np.random.default_rng(0).normal(size=1 << 22).astype(ml_dtypes.bfloat16).tobytes()
    with (folder / "model.safetensors").open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, end, len(noise)):
            f.write(noise[: end - start])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
