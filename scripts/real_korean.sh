#!/usr/bin/env bash
# Teaches real weights real Korean: configs/real_korean.yaml, and the same run without English replay
# beside it, to show what the replay is for. DATA is the folder that scripts/get_data.py fills; the
# recipes read it as runs/public_data. `scripts/real_korean.sh prepare` only prepares the text.
source "$(dirname "$0")/public_data.sh" models/stories260K-hf

# Review text without its JSON, and stories cut into what is replayed and what is held out.
mkdir -p runs/real_text
ln -sfn "$(cd "$DATA" && pwd)" runs/public_data
python3 - "$DATA" <<'PY'
import json, pathlib, sys
data, out = pathlib.Path(sys.argv[1]), pathlib.Path("runs/real_text")
reviews = (data / "mono/ko/nsmc_raw_sample.jsonl").read_text(encoding="utf-8").split("\n")
texts = [" ".join(json.loads(row)["text"].split()) for row in reviews if row]
(out / "nsmc.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
stories = (data / "mono/en/tinystories_sample.txt").read_text(encoding="utf-8").split("\n")
(out / "stories.replay.txt").write_text("\n".join(stories[:2000]) + "\n", encoding="utf-8")
(out / "stories.heldout.txt").write_text("\n".join(stories[2000:]), encoding="utf-8")
PY

[ "${1:-}" != prepare ] || exit 0

$LRL run configs/real_korean.yaml "$@"
$LRL run configs/real_korean.yaml name=real_korean_no_replay \
  'train.stages.0.mixture={encyclopaedia: 0.6, reviews: 0.4}' \
  'train.stages.1.mixture={encyclopaedia: 0.55, reviews: 0.35, news: 0.1}' "$@"
