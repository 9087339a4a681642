"""Runs the step `export`: writes a Hugging Face folder, checks it, and moves it into place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
from typing import Any

from etils import epath
import jax

from lrl_jax import storage, text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import kinds, plain
from lrl_jax.devices import mesh as meshes
from lrl_jax.devices import peers
from lrl_jax.hf import card, families, gate, licences, load, peft_write, save, vector
from lrl_jax.hf.gguf import verdict
from lrl_jax.model import llama
from lrl_jax.pipeline import evaluate, prompt, vocab, weights
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.hub import facts
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import supply
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.train import adapt
from lrl_jax.train.checkpoint import VerificationError
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

LICENCE_BYTES = 1 << 20  # of a file of a licence, at most


def run(run: Run) -> None:
    """Writes a Hugging Face folder under a temporary name, checks it, and renames it.

    A folder that does not hold the trained model is a VerificationError.
    """
    recipe, final = run.recipe, run.at("export")
    cfg = dataclasses.replace(weights.config(run), dtype="float32")
    mesh = weights.make_mesh(run, cfg)
    tokenizer = tokenizers.load(run.at("vocab"))
    lines = texts(recipe)
    staged = final.with_name(f"{final.name}.unproved")
    if meshes.lead() and staged.exists():
        staged.rmtree()
    peers.meet("export is clear")
    used = weights.checkpoint(run)
    write = {"merged": _merged, "adapter": _adapter}[recipe.export.form]
    check = write(run, staged, cfg, mesh)
    if meshes.lead():
        vocab.copy_tokenizer(run.at("vocab"), staged)
        base = vocab.base_tokenizer(run) or tokenizer
        vocab.refuse_lossy(staged, vocab.prove_lossless(run, staged, base, "export"))
        if isinstance(recipe.base, Pretrained):
            prompt.keep_defaults(run.base_tokenizer(), staged)
        prompt.lengthen(staged, recipe.data.sequence_length)
        prompts = prompt.write(run, staged)
        _pass_on_licence(run, staged)
        (staged / "README.md").write_text(_card(run, used, prompts, _runtimes(staged, lines)))
    peers.meet("export is written")
    result = check(tokenizer, lines, recipe.export.dtype)
    if result.problems:
        raise VerificationError(
            f"{staged}: the export is not the model: {'; '.join(result.problems)}. "
            f"Nothing was put at {final}"
        )
    peers.meet("export is checked")  # it is renamed, and others may still read it
    if meshes.lead():
        which = {f"checkpoint_{key}": value for key, value in used.items()}
        passed = {"passed": True, **which, **dataclasses.asdict(result)}
        storage.write_json(staged / "gate.json", passed)
        save.finish(staged, final)
    say(f"export: {final}: same tokens on {result.texts} texts, {_differences(result)}")


def texts(recipe: Recipe) -> list[str]:
    """Returns the lines on which an export is compared with the model."""
    uris = supply.gate_texts(recipe)
    lines = (line for line in plain.lines(*uris) if line.strip()) if uris else _learnt(recipe)
    texts = [*itertools.islice(lines, recipe.export.gate_lines)]
    if uris and not texts:
        raise text.DataError(
            f"{', '.join(uris)}: blank lines alone; the export is compared with the model on "
            "text: name some in export.gate_on"
        )
    return texts


def _learnt(recipe: Recipe) -> Iterator[str]:
    """Yields texts of the datasets, in turn."""
    for dataset in recipe.data.datasets.values():
        records = (r for shard in datasets.shards(dataset) for r in datasets.read(dataset, shard))
        usable = (r for r in records if not isinstance(r, text.Bad))
        for record in itertools.islice(usable, recipe.export.gate_lines):
            yield from kinds.of(dataset).texts_compared(record)


Check = Callable[[Tokenizer, Sequence[str], str], gate.Gate]


def _merged(run: Run, staged: epath.Path, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Check:
    """Writes the whole model; returns a function that compares it with the folder."""
    settings = run.recipe.export
    params = weights.trained(run, cfg, mesh)
    if settings.vector is not None:
        instruct = load.resolve(Pretrained(model=settings.vector.instruct))
        base = load.resolve(Pretrained(model=settings.vector.base))
        rows = len(splice.read(run.at("vocab") / "splice.json").kept)
        params = vector.add(params, cfg, instruct, base, settings.vector.scale, rows)
    config = families.lengthened(weights.made_config(run), run.recipe.data.sequence_length)
    pretrained = isinstance(run.recipe.base, Pretrained)
    generation = load.read_generation(run.base_folder()) if pretrained else None
    save.save(staged, params, cfg, config, settings.dtype, settings.max_shard_bytes, generation)
    return functools.partial(gate.check, staged, cfg, params)


def _adapter(
    run: Run, staged: epath.Path, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh
) -> Check:
    """Writes adapters and other trained weights; returns a function that compares the model."""
    training = adapt.adapted(cfg, run.recipe.train)
    params = weights.unmerged(run, training, mesh)
    cfg = dataclasses.replace(training, frozen=None)
    full = trained_whole(cfg, run.recipe, grown=vocab.new_pieces(run) > 0)
    base = run.recipe.base
    assert isinstance(base, Pretrained)
    peft_write.save(staged, params, cfg, full, base.model, run.recipe.export.dtype)
    return functools.partial(gate.check, staged, cfg, params, base=run.base_folder(), full=full)


def trained_whole(cfg: llama.LlamaConfig, recipe: Recipe, grown: bool) -> set[str]:
    """Returns the weights that an exported adapter holds whole.

    ValueError for those of a recipe that PEFT's format cannot hold; it reads no weights.

    Args:
      cfg: of the model with its adapters.
      grown: whether the vocabulary has new pieces, whose rows the base has not.
    """
    names = {*llama.abstract(cfg)}
    full = names - {*adapt.frozen(cfg, recipe.train.stages)}
    if grown:
        full |= {"embed_VD", "unembed_DV"} & names
    full = {name for name in full if "_lora_" not in name}
    peft_write.refuse_unfit(cfg, full)
    return full


def _differences(result: gate.Gate) -> str:
    reloaded = f"logits reloaded within {result.reload_error:.1e}"
    if result.transformers_error is None:
        return f"{reloaded} (transformers: not compared, torch is not installed)"
    return f"{reloaded}, transformers' within {result.transformers_error:.1e}"


def _runtimes(staged: epath.Path, lines: Sequence[str]) -> dict[str, str]:
    """Returns what runs an export that is being written, for its card: a name -> yes, or why not.

    transformers and vLLM read it as it is. Nothing is said of llama.cpp on a store.
    """
    if storage.is_remote(staged):
        return {}
    return {"llama.cpp": verdict.verdict(staged, lines).replace(f"{staged}: ", "")}


def _card(
    run: Run,
    used: Mapping[str, Any],
    prompts: Sequence[card.TrainedPrompt],
    runtimes: Mapping[str, str],
) -> str:
    recipe, base, checkpoint = run.recipe, run.recipe.base, weights.called(used)
    before, after = evaluate.results(run, "before"), evaluate.results(run)
    if after and evaluate.measured(run) not in ("", checkpoint):
        say(
            f"export: the card has no results, as {evaluate.measured(run)} was evaluated and "
            f"{checkpoint} is exported: run `lrl evaluate RECIPE --redo --step {used['step']}`, "
            "and export again"
        )
        after = {}
    license = recipe.export.license
    if base.license in licences.DUTIES and license not in ("other", base.license):
        say(
            f"export: the card says license: {license}, and the base is under {base.license}, "
            "which holds for what is made from it too; leave export.license out to pass it on"
        )
    return card.card(
        title=recipe.export.title or recipe.name,
        base_model=base.model if isinstance(base, Pretrained) else "",
        base_adapter=base.adapter if isinstance(base, Pretrained) else "",
        base_license=base.license,
        license=license,
        languages=[d.language for d in recipe.data.datasets.values()],
        metrics=facts.scores(run, before, after),
        new_pieces=vocab.new_pieces(run),
        checkpoint=checkpoint,
        prompts=prompts,
        adapter=recipe.export.form == "adapter",
        datasets=facts.datasets(run),
        fertility=facts.fertility(run),
        hashes=facts.hashes(run, used),
        runtimes=runtimes,
    )


def _pass_on_licence(run: Run, staged: epath.Path) -> None:
    """Copies the files of the base's licence, and writes the notice that it asks for."""
    base = run.recipe.base
    if isinstance(base, Pretrained):
        folder = run.base_folder()
        for path in sorted(p for pattern in licences.FILES for p in folder.glob(pattern)):
            if storage.within(folder, path.name).is_file():
                (staged / path.name).write_bytes(storage.read_bytes(path, LICENCE_BYTES))
    duties, notice = licences.duties(base.license), staged / licences.NOTICE
    if duties and not notice.exists():
        notice.write_text(f"{duties.notice}\n")
