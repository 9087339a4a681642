#!/usr/bin/env bash
# Runs TaCo on the aligned Alpaca files in English and German: configs/taco_en_de.yaml. DATA is the
# folder that scripts/get_data.py fills.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=${DATA:-${LRL_TEST_DATA:-test_data}}
[ -f "$DATA/instruct/alpaca_en_12k.json" ] || {
  echo "no $DATA/instruct/alpaca_en_12k.json: python scripts/get_data.py --to $DATA --only instruct/alpaca fetches it; data elsewhere: DATA=FOLDER $0" >&2
  exit 3
}
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}

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
