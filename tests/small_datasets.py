"""Datasets of every kind, a few records each, in words of the tokenizer done by hand."""

import json
from pathlib import Path

from lrl_jax.recipe import data as recipe_data

KOREAN = {"language": "kor_Hang"}
PAIR = {"source_language": "eng_Latn", "target_language": "kor_Hang"}

ANSWERS = (("", "b"), ("b", ""), ("a", "c"))
ROWS = [{"instruction": "a", "input": given, "output": said} for given, said in ANSWERS]
FILES = {
    "text.txt": "a b\nc c c c c c c c c\n\nb d d\na  b\n" * 3,
    "en.txt": "a\nb\n\nc\n",
    "ko.txt": "c\nb a\na\nb\n",
    "rows.json": json.dumps(ROWS),
    "ko.json": json.dumps([row | {"output": row["output"] + " a"} for row in ROWS]),
    "asked.jsonl": '{"prompt": "a b", "completion": "c"}\n{"prompt": "", "completion": "b"}\n',
    "chat.jsonl": json.dumps(
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b c"},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "a"},
            ]
        }
    ),
}
KINDS = {
    "text": {"kind": "text", "path": ["text.txt"], **KOREAN},
    "copies": {
        "kind": "text", "path": ["text.txt", "en.txt"], **KOREAN,
        "filters": {"duplicates": "exact", "min_chars": 2},
    },
    "taken": {"kind": "text", "path": ["text.txt", "en.txt"], **KOREAN, "take": 2},
    "pairs": {
        "kind": "parallel", "source": "en.txt", "target": "ko.txt", **PAIR, "direction": "both",
    },
    "rows": {"kind": "instructions", "path": ["rows.json"], **KOREAN},
    "asked": {"kind": "completion", "path": ["asked.jsonl"], **KOREAN},
    "chat": {"kind": "chat", "path": ["chat.jsonl"], "template": "llama2_chat", **KOREAN},
    "taco": {
        "kind": "taco", "english": "rows.json", "translated": "ko.json", **KOREAN,
        "weights": {"english_instruction": 0.25, "english_answer": 0.3, "answer": 1.0},
    },
}  # fmt: skip


def data(folder: Path, *names: str, **changes) -> recipe_data.Data:
    """These datasets of KINDS, over files in `folder`."""
    for name, content in FILES.items():
        (folder / name).write_text(content)
    datasets = {name: dict(KINDS[name]) for name in names}
    for one in datasets.values():
        for key in ("path", "source", "target", "english", "translated"):
            if key in one:
                here = [str(folder / file) for file in ([one[key]] if key != "path" else one[key])]
                one[key] = here if key == "path" else here[0]
    # prompts alone are longer than such rows
    defaults = {"sequence_length": 8, "long_answers": "split", "datasets": datasets}
    if changes.get("long_documents", "split") != "split":
        del defaults["long_answers"]
    return recipe_data.Data(**{**defaults, **changes})
