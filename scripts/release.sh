#!/usr/bin/env bash
# Builds the distribution, and proves that what was built works where no checkout is:
#
#   scripts/release.sh [FOLDER]           FOLDER: where everything is put (default: dist)
#   QUICK=1 scripts/release.sh            leaves out the run of the quickstart (some ten minutes)
#   PYTHON=python3.12 scripts/release.sh  another interpreter
#
# Leaves there the sdist, the wheel, sbom.cdx.json and SHA256SUMS. What to do around it: CONTRIBUTING.md.
set -euo pipefail
cd "$(dirname "$0")/.."
CHECKOUT=$PWD
OUT=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
PYTHON=${PYTHON:-python3}
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

say() { printf 'release: %s\n' "$*" >&2; }

if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
  say "the checkout has changes that are not committed; they will be in the distribution"
fi

say "building"
rm -f "$OUT"/*.whl "$OUT"/*.tar.gz
"$PYTHON" -m venv "$SCRATCH/build"
"$SCRATCH/build/bin/python" -m pip install --quiet build
"$SCRATCH/build/bin/python" -m build --outdir "$OUT" . >"$SCRATCH/build.log" 2>&1 ||
  { tail -30 "$SCRATCH/build.log" >&2; exit 1; }
WHEEL=$(ls "$OUT"/*.whl)

say "installing $(basename "$WHEEL") into a fresh environment"
"$PYTHON" -m venv "$SCRATCH/env"
ENV=$SCRATCH/env/bin
"$ENV/python" -m pip install --quiet -c constraints.txt "$WHEEL"

# What is outside of the checkout from here on finds only what the wheel brought.
cd "$SCRATCH"
"$ENV/lrl" --version
"$ENV/lrl" check quickstart_base >/dev/null
case $("$ENV/python" -c 'import lrl_jax; print(lrl_jax.__file__)') in
  "$SCRATCH"/*) ;;
  *) say "the environment imports lrl_jax from elsewhere"; exit 1 ;;
esac

say "asking for every extra"
EXTRAS=$("$ENV/python" - <<'PY'
from importlib import metadata
print(*sorted(metadata.metadata("lrl-jax").get_all("Provides-Extra")))
PY
)
for EXTRA in $EXTRAS; do
  "$ENV/python" -m pip install --quiet --dry-run "${WHEEL}[$EXTRA]" >"$SCRATCH/extra.log" 2>&1 ||
    { say "extra $EXTRA cannot be installed"; tail -5 "$SCRATCH/extra.log" >&2; exit 1; }
done
say "extras that install: $(echo "$EXTRAS" | tr '\n' ' ')"

if [ -z "${QUICK:-}" ]; then
  say "running the quickstart from the wheel"
  "$ENV/lrl" run quickstart_base
  "$ENV/lrl" run quickstart
  test -f runs/quickstart/export/gate.json
fi

"$ENV/python" "$CHECKOUT/scripts/sbom.py" lrl-jax >"$OUT/sbom.cdx.json"
cd "$OUT"
sha256sum -- *.whl *.tar.gz sbom.cdx.json >SHA256SUMS
cat SHA256SUMS
