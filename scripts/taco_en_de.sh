#!/usr/bin/env bash
# Runs TaCo on the aligned Alpaca files in English and German: configs/taco_en_de.yaml. DATA is the
# folder that scripts/get_data.py fills.
source "$(dirname "$0")/public_data.sh" instruct/alpaca_en_12k.json --only instruct/alpaca

# Rows for training, and every 60th of the short ones held out; the words of each as plain text.
mkdir -p runs/taco_text
python3 - "$DATA" <<'PY'
import json, pathlib, sys
data, out = pathlib.Path(sys.argv[1]) / "instruct", pathlib.Path("runs/taco_text")
names = {"english": "alpaca_en_12k.json", "german": "alpaca_de_openai_12k.json"}
rows = {k: json.loads((data / name).read_text(encoding="utf-8")) for k, name in names.items()}
pairs = list(zip(rows["english"], rows["german"], strict=True))
short = [
    i for i, (e, g) in enumerate(pairs)
    if 20 < len(g["output"]) < 160 and not g["input"] and e["output"] != g["output"]
]
held = set(short[::60][:60])
for k in names:
    for name, keep in ((k, lambda i: i not in held), (f"heldout.{k}", lambda i: i in held)):
        some = [row for i, row in enumerate(rows[k]) if keep(i)]
        (out / f"{name}.json").write_text(json.dumps(some, ensure_ascii=False), encoding="utf-8")
        words = (" ".join(f"{r['instruction']} {r['output']}".split()) for r in some)
        (out / f"{name}.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
PY

$LRL run configs/taco_en_de.yaml "$@"
