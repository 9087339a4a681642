#!/usr/bin/env bash
# Adapts one small model to four languages of four scripts at once: scripts/four_languages.yaml, and its
# vocabulary without balance beside it. DATA is the folder that scripts/get_data.py fills.
# `scripts/four_languages.sh prepare` only prepares the text.
source "$(dirname "$0")/public_data.sh" models/stories260K-hf

mkdir -p runs
ln -sfn "$(cd "$DATA" && pwd)" runs/public_data
python3 - "$DATA" <<'PY'
import json, pathlib, sys
data, out = pathlib.Path(sys.argv[1]), pathlib.Path("runs/four_texts")
# FLORES-200 code: the names of the language in NTREX and in FLORES-101, and more text of it
TEXTS = {
    "eng_Latn": ("", "eng", []),
    "kor_Hang": ("kor", "kor", ["mono/ko/korquad_dev_contexts.txt"]),
    "npi_Deva": ("nep", "npi", ["parallel/flores_v1/wikipedia.dev.ne-en.ne"]),
    "tam_Taml": ("tam", "tam", []),
    "tha_Thai": ("tha", "tha", []),
}
out.mkdir(parents=True, exist_ok=True)
for code, (ntrex, flores, more) in TEXTS.items():
    lines = (data / f"parallel/flores101_first200/{flores}.devtest").read_text("utf-8").split("\n")
    (out / f"{code}.dev").write_text("\n".join(lines[:100]) + "\n", "utf-8")
    (out / f"{code}.test").write_text("\n".join(lines[100:200]) + "\n", "utf-8")
    if ntrex:
        (out / code).mkdir(exist_ok=True)
        for name in [f"parallel/ntrex128/newstest2019-ref.{ntrex}.txt", *more]:
            (out / code / f"{pathlib.Path(name).stem}.txt").write_bytes((data / name).read_bytes())
reviews = (data / "mono/ko/nsmc_raw_sample.jsonl").read_text("utf-8").split("\n")
texts = [" ".join(json.loads(row)["text"].split()) for row in reviews if row]
(out / "kor_Hang/nsmc.txt").write_text("\n".join(texts) + "\n", "utf-8")
PY

[ "${1:-}" != prepare ] || exit 0

$LRL run scripts/four_languages.yaml "$@"
$LRL vocab scripts/four_languages.yaml name=four_languages_unbalanced vocab.balance=none \
  'vocab.parallel={}' "$@"
