"""Runs `lrl study run`, `lrl study show` and the hidden `lrl study step`."""

import argparse
import json
import shlex

from etils import epath

from lrl_jax import storage, terminal
from lrl_jax.cli import begin
from lrl_jax.cli.studies import engines
from lrl_jax.report import study as study_report


def study_run(args: argparse.Namespace) -> int:
    """Does every cell of a study that is due; 1 if one of them failed."""
    from lrl_jax.pipeline.perform import ALONE
    from lrl_jax.pipeline.study import grid
    from lrl_jax.pipeline.study.study import perform_study

    study, team = grid.load(args.study, args.overrides, args.out), ALONE
    if args.on == engines.HERE:
        engines.refuse_ray(args)
        team, engine = begin.start(args), None
    else:
        engine = engines.engine(args, study.folder, args.jobs)
    results = perform_study(study, engine, team=team, retry=args.retry)
    if not team.lead:
        return 0
    for table in study_report.tables(results.as_json()):
        terminal.console().print(table)
    if results.failed:
        out = ["--out", args.out] if args.out else []
        again = shlex.join(["lrl", "study", "run", args.study, *args.overrides, *out, "--retry"])
        begin.say(f"study: {len(results.failed)} cells failed; go on with {again}")
    begin.say(f"study: {study.folder}/index.html, results.json")
    return 1 if results.failed else 0


def study_show(args: argparse.Namespace) -> None:
    """Prints the results of a study so far, and how far it is."""
    folder = _folder(epath.Path(args.study))
    path = folder / "results.json"
    results = storage.read_json(path) if path.exists() else None
    if args.json:
        print(json.dumps(results or {}, indent=1, ensure_ascii=False))
        return
    for table in study_report.tables(results) if results else ():
        terminal.console().print(table)
    begin.say(_state(folder, results))


def _folder(path: epath.Path) -> epath.Path:
    """Returns the folder of a study, which itself or its file names."""
    if path.is_dir():
        folder = path
    else:
        from lrl_jax.recipe import study

        described = study.load(path)
        folder = epath.Path(described.folder) / described.name
    if not (folder / "study.json").exists():
        raise ValueError(f"{folder}: holds no study yet; begin with `lrl study run STUDY.yaml`")
    return folder


def _state(folder: epath.Path, results) -> str:
    """Returns how many cells of a study have ended, and who works on it."""
    from lrl_jax.devices import lease

    whole = study_report.cells_of(storage.read_json(folder / "study.json"))
    cells = results["cells"] if results else []
    failed = sum(bool(cell["error"]) for cell in cells)
    said = f"study: {len(cells)} of {whole} cells have ended, {failed} of them failed"
    holder = lease.holder(folder)
    if holder is None or not holder[1]:
        return said if len(cells) >= whole else f"{said}; nobody works on it"
    return f"{said}; process {holder[0].pid} on {holder[0].host} works on it"


def study_step(args: argparse.Namespace) -> None:
    """Does one step of one cell; an engine calls it, in a process of its own.

    A step without devices joins no others: its host may be one of a slice that another job has.
    """
    from lrl_jax.pipeline.perform import ALONE, LEAD_ONLY
    from lrl_jax.pipeline.study import step

    team = ALONE if args.step in LEAD_ONLY else begin.start(args)
    step.perform_step(args.folder, args.cell, args.step, team)
