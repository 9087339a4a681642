#!/usr/bin/env bash
# Which vocabulary and which start: the grid of arXiv 2406.14670, small. An English base that has
# read some Korean in bytes, as Llama 2 has, is extended in three sizes and started in many ways.
set -euo pipefail
cd "$(dirname "$0")/.."
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
LRL=${LRL:-$([ -x .venv/bin/lrl ] && echo .venv/bin/lrl || echo lrl)}
$LRL run configs/quickstart_base.yaml name=probe_base \
  'data.datasets.korean={kind: text, path: ["sample:mono.kor"], language: kor_Hang}' \
  'train.stages.0.mixture={paragraphs: 0.5, sentences: 0.25, tasks: 0.05, korean: 0.2}'
$LRL vocab probe configs/quickstart.yaml name=probe base.model=runs/probe_base/export \
  --pieces "${PIECES:-0,256,768}" --steps "${STEPS:-40}" \
  --rows "${ROWS:-subword_mean,subword_first,eeve,length_weighted,merge_tree,align,focus,mean,hewitt,matched_normal,random_normal}"
