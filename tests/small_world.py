"""Two recipes small enough for a test: an English base from scratch, and its Korean adaptation."""

from pathlib import Path
import subprocess

import forked

ROOT = Path(__file__).parents[1]

NAMES = ("Minsu", "Jiyoung", "Yuna", "Junho", "Boram", "Sujin", "Taemin", "Eunbi")
NAMES_KO = ("민수", "지영", "유나", "준호", "보람", "수진", "태민", "은비")
THINGS = ("apple", "book", "chair", "peach", "lemon", "letter", "mirror", "potato")
THINGS_KO = ("사과", "책", "의자", "복숭아", "레몬", "편지", "거울", "감자")
PLACES = ("store", "park", "library", "school", "market")
PLACES_KO = ("가게", "공원", "도서관", "학교", "시장")


def write_texts(folder: Path) -> None:
    """en.txt and ko.txt, 320 aligned lines; tasks.json, 20 rows."""
    pairs = [
        (f"{n} saw a {t} at the {p}.", f"{nk}이 {pk}에서 {tk}를 보았다.")
        for n, nk in zip(NAMES, NAMES_KO, strict=True)
        for t, tk in zip(THINGS, THINGS_KO, strict=True)
        for p, pk in zip(PLACES, PLACES_KO, strict=True)
    ]
    (folder / "en.txt").write_text("".join(f"{en}\n" for en, _ in pairs), encoding="utf-8")
    (folder / "ko.txt").write_text("".join(f"{ko}\n" for _, ko in pairs), encoding="utf-8")
    rows = ",\n".join(
        f'{{"instruction": "Who saw a {t}?", "input": "", "output": "Minsu."}}' for t in THINGS
    )
    (folder / "tasks.json").write_text(f"[{rows}]", encoding="utf-8")


BASE = """
name: base
folder: {folder}/runs
base:
  license: cc0-1.0
  shape: {{hidden_size: 32, num_hidden_layers: 2, intermediate_size: 64, num_attention_heads: 4,
          num_key_value_heads: 2, max_position_embeddings: 48}}
vocab: {{method: train, text: ["{folder}/en.txt"], size: 340}}
data:
  sequence_length: 64
  datasets: {{english: {{kind: text, path: ["{folder}/en.txt"], language: eng_Latn}}}}
train:
  batch_size: 8
  stages:
    - name: pretrain
      steps: 12
      mixture: {{english: 1}}
      learn: [{{match: ".*", schedule: {{peak: 1.0e-2, warmup: 2}}}}]
  compute_dtype: float32
  tensorboard: false
evaluate:
  bits_per_byte: {{eng_Latn: "{folder}/en.txt"}}
export: {{dtype: float32, gate_on: ["{folder}/en.txt"], gate_lines: 20, license: cc0-1.0}}
"""

KOREAN = """
name: korean
folder: {folder}/runs
base: {{model: "{folder}/runs/base/export", license: cc0-1.0}}
vocab:
  method: extend
  text: ["{folder}/ko.txt"]
  pieces: 60
  scripts: [Hang]
  min_count: 2
  prove_on: ["{folder}/en.txt"]
  report: {{texts: {{eng_Latn: "{folder}/en.txt", kor_Hang: "{folder}/ko.txt"}}}}
data:
  sequence_length: 64
  long_answers: split  # Alpaca's prompt alone is longer than a row
  datasets:
    korean: {{kind: text, path: ["{folder}/ko.txt"], language: kor_Hang}}
    pairs: {{kind: parallel, source: "{folder}/en.txt", target: "{folder}/ko.txt",
            source_language: eng_Latn, target_language: kor_Hang}}
    tasks: {{kind: instructions, path: ["{folder}/tasks.json"], language: eng_Latn}}
train:
  batch_size: 8
  stages:
    - name: align
      steps: 5
      mixture: {{korean: 1}}
      learn:
        - {{match: embed, rows: new, schedule: {{peak: 1.0e-2, kind: constant}}}}
        - {{match: ".*", schedule: frozen}}
    - name: continue
      steps: {steps}
      mixture: {{korean: 0.5, pairs: 0.25, tasks: 0.25}}
      learn: [{{match: ".*", schedule: {{peak: 1.0e-2, warmup: 2}}}}]
  compute_dtype: float32
  save: {{steps: 5, keep: 3}}
  ema: 0.5
  sample_every: 6
  samples: [{{template: translation, text: "Minsu saw a book at the park.",
             target_language: kor_Hang}}]
evaluate:
  bits_per_byte: {{kor_Hang: "{folder}/ko.txt", eng_Latn: "{folder}/en.txt"}}
  max_lines: 40
  baseline_text: {{kor_Hang: ["{folder}/ko.txt"]}}
  translation:
    eng_kor: {{source: "{folder}/en.txt", target: "{folder}/ko.txt", source_language: eng_Latn,
              target_language: kor_Hang, limit: 4, max_new_tokens: 12}}
export: {{dtype: bfloat16, gate_on: ["{folder}/en.txt", "{folder}/ko.txt"], gate_lines: 20}}
"""


def write_recipes(folder: Path, korean: str = KOREAN, steps: int = 7) -> tuple[str, str]:
    """The texts and both recipes, in `folder`; returns the recipes' paths.

    Args:
      folder: where they are written, and where their runs will be.
      korean: the Korean one, with the names of what follows in braces.
      steps: of its second stage.
    """
    write_texts(folder)
    for name, text in (("base", BASE), ("korean", korean)):
        (folder / f"{name}.yaml").write_text(
            text.format(folder=folder, steps=steps), encoding="utf-8"
        )
    return str(folder / "base.yaml"), str(folder / "korean.yaml")


def lrl(*args: str, code: int = 0) -> subprocess.CompletedProcess:
    """Runs a word in a process of its own, which must end with `code`."""
    got = forked.run("lrl_jax.cli", args, ROOT, timeout=600)
    assert got.returncode == code, got.stdout + got.stderr
    return got
