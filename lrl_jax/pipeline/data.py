"""Runs the step `data`: packs every dataset and prints the plan of training; prints packed rows."""

from collections.abc import Mapping

from lrl_jax import storage
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture, plan
from lrl_jax.data.feed import show as showing
from lrl_jax.data.pack import jobs, packing, progress, rows, shared, workers
from lrl_jax.data.read import language
from lrl_jax.devices import mesh as meshes
from lrl_jax.pipeline.console import display, say
from lrl_jax.pipeline.run import Run, counted, manifests
from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.vocab.tokenizer import load as tokenizers

PLAN = "plan.json"  # for people and for the report; training makes its own plan


def run(run: Run, runner: workers.Runner | None = None) -> None:
    """Packs every dataset, on this machine unless a runner is given, and prints the plan."""
    recipe, out = run.recipe, run.at("data")
    tokenizer = tokenizers.load(run.at("vocab"))
    if recipe.data.backend == "seqio":
        from lrl_jax.data.seqio import online  # TensorFlow

        online.refuse(recipe)
        say(f"data: {online.WHAT_IT_IS}")
        packed = online.prepare(recipe.data, tokenizer, out)
    else:
        with progress.shown() as announce:
            packed = jobs.prepare_all(recipe.data, tokenizer, out, announce, runner)
    display(showing.datasets(packed))
    show_plan(run, mixture.plan(counted(run), packed), packed)
    for name, dataset in recipe.data.datasets.items():
        if how := language.says(dataset):
            say(f"data: {name}: {how}")
        for file in datasets.repeated_files(dataset):
            say(f"data: {name}: {file}: several entries of `path` name it, and it is read once")
        for file in datasets.quoted_files(dataset):
            say(
                f"data: {name}: {file}: its cells are quoted where they have to be, and are read "
                "so; `format: tsv_raw` takes quote marks for text"
            )
    for remark in [*showing.remarks(packed), *shared.remarks(out)]:
        say(f"data: {remark}")


def show_plan(run: Run, order: plan.Plan, packed: Mapping[str, rows.Manifest]) -> None:
    """Prints the plan of training and writes it beside the data."""
    display(showing.plan_table(order, packed))
    if meshes.lead():
        storage.write(run.at("data") / PLAN, order.to_json().encode())


def show(run: Run, dataset: str, stage: str, first: int, count: int, tokens: bool) -> None:
    """Prints `count` rows of a dataset or of a stage, from row `first` on, as the model reads them.

    Without a stage it is the dataset, by default the first. With `tokens`, ids, pieces and loss
    weights are printed instead of text.
    """
    for step in ("vocab", "data"):
        if not run.at(step).exists():
            raise ValueError(
                f"{run.at(step)}: is not there yet; run `lrl vocab` and then `lrl data`, or "
                "`lrl run` for all steps"
            )
    tokenizer, folders = tokenizers.load(run.at("vocab")), packing.folders(run.at("data"))
    if stage:
        order = mixture.plan(counted(run), manifests(run))
        showing.show_stage(folders, order, tokenizer, stage, count, first, tokens=tokens)
        return
    name = dataset or next(iter(run.recipe.data.datasets))
    if name not in run.recipe.data.datasets:
        names = [*run.recipe.data.datasets]
        near = did_you_mean(name, names)
        raise ValueError(f"--dataset {name}: there are {', '.join(names)}{near}")
    showing.show(folders[name], tokenizer, count, first, tokens=tokens)
