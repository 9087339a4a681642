#!/usr/bin/env bash
# The papers' tasks of the five systems that the recipes rebuild, in miniature, on one model: each row
# with its paper, where its prompt comes from, and what differs. What the public data lacks is listed.
#
#   scripts/paper_tasks.sh                        # runs/quickstart/export, 8 questions of each task
#   MODEL=FOLDER_OR_HUB_ID LIMIT=0 scripts/paper_tasks.sh    # any model, all questions
#
# DATA is the folder that scripts/get_data.py fills. A model as small as the quickstart's guesses; the
# table shows that every task runs, not what it can do.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=${DATA:-${LRL_TEST_DATA:-test_data}}
MODEL=${MODEL:-runs/quickstart/export}
OUT=${OUT:-runs/paper_tasks}
[ -d "$DATA/qa/xquad" ] || {
  echo "no $DATA/qa/xquad: python scripts/get_data.py --to $DATA fetches it; data elsewhere: DATA=FOLDER $0" >&2
  exit 3
}
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

# The public data has the first 200 lines of FLORES-101's devtest and none of dev, from which examples are
# drawn: here they are drawn from the last 50 lines, and the others are asked.
mkdir -p "$OUT/data"
for names in eng:eng_Latn hin:hin_Deva; do
  lines="$DATA/parallel/flores101_first200/${names%:*}.devtest" flores="$OUT/data/${names#*:}"
  rm -f "$flores.devtest" "$flores.dev"
  head -n 150 "$lines" > "$flores.devtest"
  tail -n +151 "$lines" > "$flores.dev"
done

system() { # name, data, further options, tasks
  local name=$1 data=$2 options=$3 tasks=$4
  # shellcheck disable=SC2086  # options are words
  $LRL evaluate --model "$MODEL" --tasks "$tasks" --data "$data" --out "$OUT/$name" \
    --limit "${LIMIT:-8}" $options
}
system bllossom "$DATA" "" kobest,kornli
system taco "$DATA" "" flores101_from_eng_npi,flores101_to_eng_npi
system design_choices "$OUT/data" "" flores200_from_eng_hin_Deva
system design_choices_xcopa "$DATA" "--shots 5" xcopa_ta,xcopa_tr
system xllama "$DATA" "" xquad_zh,flores101_from_eng_zho_simpl,xcopa_zh
system mllama "$DATA" "" "xquad_ar,xquad_hi,xquad_tr,xquad_zh,flores101_from_eng_ara,\
flores101_from_eng_hin,flores101_from_eng_tur,flores101_from_eng_vie,flores101_from_eng_zho_simpl"
system english_kept "$DATA" "" in_context

$PYTHON - "$OUT" <<'PY'
import json, pathlib, sys
from lrl_jax.evaluate import task_files, tasks

out = pathlib.Path(sys.argv[1])
SYSTEMS = {  # system -> folders of results, and what of its paper is not measured here
    "Bllossom": (["bllossom"], "KLUE (not in the public data); the preference of people and GPT-4"),
    "TaCo": (["taco"], "the rating of 80 answers by GPT-4; these rows, of translation, are ours"),
    "Design Choices": (
        ["design_choices", "design_choices_xcopa"],
        "examples of FLORES from its dev split; XL-Sum, mLAMA, IndicSentiment, XNLI and XStoryCloze (not in the public data)"),
    "x-LLaMA": (["xllama"], "MLQA (not in the public data); COMET; judgements by GPT-3.5"),
    "m-LLaMA": (["mllama"], "Greek, and Vietnamese XQuAD (not in the public data); as x-LLaMA"),
    "all": (["english_kept"], "HellaSwag (not in the public data); both are ours"),
}
head = ("system", "task", "score", "chance", "95 %", "items", "shots", "paper", "prompt", "differs")
lines = [" | ".join(head), " | ".join("---" for _ in head)]
for system, (folders, missing) in SYSTEMS.items():
    for folder in folders:
        results = json.loads((out / folder / "results.json").read_text())["tasks"]
        for name, result in results.items():
            facts = task_files.resolve(name)[0].facts
            first = result["metric"]
            for metric in (first, "acc") if first == "f1" else (first,):  # chance is that of acc
                bounds = (result.get("intervals") or {}).get(metric)
                chance = result.get("chance") if tasks.has_chance(metric) else None
                lines.append(" | ".join([
                    system, name, f"{metric} {result['scores'][metric]:.1f}",
                    f"{chance:.1f}" if chance is not None else "",
                    " to ".join(f"{bound:.1f}" for bound in bounds) if bounds else "",
                    str(result["items"]), str(result.get("shots") or 0), facts.paper,
                    facts.prompt, facts.differs,
                ]))
    lines.append(f"{system} | not measured | | | | | | | | {missing}")
table = "".join(f"| {line} |\n" for line in lines)
(out / "table.md").write_text(table, encoding="utf-8")
print(table)
print(f"{out}/table.md")
PY
