"""Merges models that were exported with one tokenizer: `lrl merge`.

lrl merge runs/seed0 runs/seed1 runs/seed2 --out soup
lrl merge tuned_a tuned_b --method task --weights 0.5,0.5 --base start --out merged
"""

import argparse
from collections.abc import Sequence
import contextlib
import dataclasses
import math
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.data.read import plain
from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import card, families, gate, load, save
from lrl_jax.hf import merge as merging
from lrl_jax.pipeline import models, vocab
from lrl_jax.pipeline.console import progress, say
from lrl_jax.recipe.schema import Export, Pretrained
from lrl_jax.recipe.train import Mesh
from lrl_jax.train.checkpoint import VerificationError
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import ADDED

NEAR = 1e-6  # how far from 1 the sum of a mean's weights may be: 0.3333333 three times is fine


def merge(args: argparse.Namespace) -> None:
    """Writes the merged model under a temporary name, proves it as an export, and renames it."""
    weights, out = _weights(args), epath.Path(args.out)
    storage.refuse_odd(args.out, writes=True)
    if out.exists():
        raise ValueError(f"{out}: is there already; name another folder with --out")
    storage.check_writable(out)
    lines = [line for line in plain.lines(*args.texts) if line.strip()][: Export().gate_lines]
    if not lines:
        raise ValueError(f"--texts: no line in {', '.join(args.texts)} to compare")
    folders = [_folder(place) for place in args.models]
    base = _folder(args.base) if args.base else None
    staged = out.with_name(f"{out.name}.unproved")
    staged.rmtree(missing_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            opened = merging.opened(folders, weights, base, stack)
            passed = _written(opened, folders[0], staged, lines)
    except VerificationError:
        raise
    except Exception:
        staged.rmtree(missing_ok=True)
        raise
    parts = [
        _part(place, weight, folder)
        for place, weight, folder in zip(args.models, weights, folders, strict=True)
    ]
    of = _part(args.base, 1.0, base) if base else None
    title = args.title or out.name
    page = card.merged(title=title, license=args.license, parts=parts, base=of)
    (staged / "README.md").write_text(page)
    made = {"method": args.method, "models": [dataclasses.asdict(part) for part in parts]}
    made |= {"base": dataclasses.asdict(of)} if of else {}
    storage.write_json(staged / "gate.json", {"passed": True, **made, **passed})
    save.finish(staged, out)
    say(f"merge: {out}: {len(parts)} models, proved on {passed['texts']} texts")


def _weights(args: argparse.Namespace) -> tuple[float, ...]:
    """Returns a weight for each model; refuses arguments that do not fit together."""
    if args.overrides:
        raise ValueError(f"{args.overrides[0]}: `lrl merge` reads no recipe to override")
    count = len(args.models)
    if count < 2:
        raise ValueError(
            f"{args.models[0]}: one model is no merge; to go a part of the way from its base, take "
            "the mean of both: lrl merge BASE MODEL --weights 0.5,0.5"
        )
    if args.method == "mean" and args.base:
        raise ValueError(
            "--base: is for --method task; a mean has no base, leave it out or name it as a model"
        )
    if args.method == "task" and not args.base:
        raise ValueError("--method task adds differences from a base; name it with --base")
    if args.method == "task" and not args.weights:
        raise ValueError(
            "--method task wants a weight for each difference, such as --weights 0.5,0.5"
        )
    weights = args.weights or (1 / count,) * count
    if len(weights) != count:
        raise ValueError(f"--weights: {len(weights)} for {count} models; want one for each")
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"--weights: {', '.join(map(str, weights))}; want finite numbers")
    if args.method == "mean" and (min(weights) < 0 or abs(math.fsum(weights) - 1) > NEAR):
        raise ValueError(
            f"--weights: {', '.join(f'{w:g}' for w in weights)}, together "
            f"{math.fsum(weights):g}; those of a mean are 0 or more and together 1. Any others are "
            "for --method task"
        )
    return weights


def _folder(place: str) -> epath.Path:
    """Returns the Hugging Face folder of a place: a folder, a hub id, or the export of a run."""
    run = models.run_at(place)
    if run is None:
        return load.resolve(Pretrained(model=place))
    if not models.exported(run):
        raise ValueError(
            f"{place}: this run has not exported a whole model; run `lrl export` with export.form: "
            "merged, and merge then"
        )
    return run.at("export")


def _written(
    opened: merging.Merge, first: epath.Path, staged: epath.Path, lines: Sequence[str]
) -> dict[str, Any]:
    """Writes a folder and compares it with the models; returns what the gate measured.

    Raises:
      VerificationError: the folder does not hold the merged model.
    """
    staged.mkdir(parents=True)
    for path in first.iterdir():
        beside = path.name in ("config.json", load.GENERATION, ADDED)
        if beside or path.name.startswith("LICENSE"):
            (staged / path.name).write_bytes(path.read_bytes())
    vocab.copy_tokenizer(first, staged)
    with progress("merge") as tell:
        merging.write(opened, staged, Export().max_shard_bytes, tell)
    cfg = families.config_from_hf(load.read_config(staged), "float32", "nothing")
    grid = meshes.make(Mesh())
    params = merging.gathered(opened, cfg, meshes.param_shardings(cfg, grid))
    result = gate.check(staged, cfg, params, tokenizers.load(first), lines, "float32")
    if result.problems:
        raise VerificationError(
            f"{staged}: the folder is not the merged model: {'; '.join(result.problems)}; it stays "
            "under this name to be looked at"
        )
    return dataclasses.asdict(result)


def _part(place: str, weight: float, folder: epath.Path) -> card.MergedPart:
    """Returns what the card says of a model."""
    hub = not epath.Path(place).exists()
    return card.MergedPart(_called(place), weight, merging.digest(folder), hub)


def _called(place: str) -> str:
    """Returns how a card calls a model: a hub id, or the last two names of a path.

    >>> _called("/home/me/runs/tamil/export"), _called("meta-llama/Llama-3.2-1B")
    ('tamil/export', 'meta-llama/Llama-3.2-1B')
    """
    return "/".join(place.rstrip("/").split("/")[-2:])
