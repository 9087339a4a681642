"""Run folders written by hand, for tests of what stands side by side; nothing is trained."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

TEXT, OTHER_TEXT = "1111222233334444", "5555666677778888"
SCORE = {"bits_per_byte": 0.5, "nats_per_token": 1.5, "tokens": 300, "bytes": 900,
         "characters": 600, "lines": 10}  # fmt: skip
TRANSLATED = {
    "chrf": 40.0, "chrf++": 38.0, "bleu": 20.0, "bleu_tokenizer": "13a", "lines": 10,
    "signatures": {"chrf": "nc:6|nw:0|version:2.6.0", "chrf++": "nc:6|nw:2|version:2.6.0",
                   "bleu": "eff:no|tok:13a|version:2.6.0"},
    "examples": [{"source": "A cat.", "reference": "Miau.", "hypothesis": "Mia."}],
}  # fmt: skip
TASK = {
    "task": "copa", "version": "1.0", "language": "kor_Hang", "metric": "acc",
    "scores": {"acc": 60.0}, "intervals": {"acc": [31.3, 83.2]}, "chance": 50.0, "items": 10,
    "shots": 0, "documents": "d1", "each": {"acc": "1111110000"},
}  # fmt: skip
AFTER = {
    "bits_per_byte": {"kor": SCORE},
    "translation": {"en_ko": TRANSLATED},
    "tasks": {"copa": TASK},
    "efficiency": {"input": {"kor": {"characters": 600, "bytes": 900, "tokens": 300}},
                   "answer": {}},
    "facts": {"devices": "1 x cpu (cpu)", "hosts": "1", "system": "Linux x86_64", "jax": "0.11",
              "seconds_per_1000_characters": {"input": {"kor": 0.2}, "answer": {}},
              "checkpoint": "step 2 (abc)"},
}  # fmt: skip
RECIPE = {
    "name": "demo",
    "seed": 0,
    "base": {"model": "base", "license": "cc0-1.0"},
    "data": {
        "sequence_length": 8,
        "datasets": {"korean": {"kind": "text", "path": ["ko.txt"], "language": "kor_Hang"}},
    },
    "train": {
        "batch_size": 1,
        "stages": [{"name": "all", "steps": 2, "mixture": {"korean": 1},
                    "learn": [{"match": ".*", "schedule": {"peak": 0.01}}]}],
    },
    "evaluate": {
        "bits_per_byte": {"kor": "ko.txt"},
        "translation": {"en_ko": {"source": "en.txt", "target": "ko.txt",
                                  "source_language": "eng_Latn", "target_language": "kor_Hang",
                                  "limit": 10}},
        "tasks": {"copa": "copa"},
    },
}  # fmt: skip
NOTES = {
    "vocab": {"inputs": {"vocab.report.texts.kor_Hang": TEXT,
                         "vocab.report.texts.eng_Latn": TEXT}},
    "data": {"inputs": {"text ko.txt": TEXT}},
    "train": {"inputs": {"vocab": "v1"}},
    "evaluate": {"inputs": {"evaluate.bits_per_byte.kor": TEXT,
                            "evaluate.translation.en_ko.source": TEXT,
                            "evaluate.translation.en_ko.target": TEXT,
                            "task copa copa": "file1"}},
}  # fmt: skip
RECORD = {"step": 1, "stage": "all", "loss": 3.0, "bits_per_byte": {"korean": 2.0}, "tokens": 8,
          "epochs": {"korean": 0.25}, "tokens_per_second": 100.0}  # fmt: skip
CONFIG = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "rms_norm_eps": 0.1, "rope_theta": 100.0, "tie_word_embeddings": False, "vocab_size": 128,
}  # fmt: skip


def pieces() -> dict[str, Any]:
    """The files of a run by name, to be changed; a list is written as lines."""
    last = {**RECORD, "step": 2, "loss": 2.0, "bits_per_byte": {"korean": 1.0},
            "epochs": {"korean": 0.5}}  # fmt: skip
    made = {
        "recipe.yaml": RECIPE,
        "vocab/tokenizer.model": "tokenizer 1",
        "vocab/fertility.json": [
            {"tokenizer": "base", "language": "kor_Hang", "per_line": 50.0},
            {"tokenizer": "new", "language": "kor_Hang", "per_line": 10.0, "parity": 2.0},
        ],
        "init/config.json": CONFIG,
        "data/datasets.json": {"korean": "korean/1"},
        "data/korean/1/manifest.json": {"tokens": 1000, "bytes": 4000, "tokenizer": "t"},
        "train/metrics.jsonl": [RECORD, last],
        "train/samples.jsonl": [{"step": 1, "prompt": "Say:", "text": "x"},
                                {"step": 2, "prompt": "Say:", "text": "y"}],
        "evaluate/after.json": AFTER,
        **{f"steps/{step}.json": {**note, "finished": True, "version": "0.1.0"}
           for step, note in NOTES.items()},
    }  # fmt: skip
    return copy.deepcopy(made)


def write(folder: Path, files: dict[str, Any] | None = None) -> Path:
    """Writes a run; the note of `evaluate` gets the digest of after.json, unless it has one."""
    files = pieces() if files is None else files
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(line) + "\n" for line in content))
        else:
            path.write_text(json.dumps(content))
    note = folder / "steps" / "evaluate.json"
    after = folder / "evaluate" / "after.json"
    if note.exists() and after.exists() and "outputs" not in (said := json.loads(note.read_text())):
        outputs = {"after.json": hashlib.sha256(after.read_bytes()).hexdigest()}
        note.write_text(json.dumps(said | {"outputs": outputs}))
    return folder
