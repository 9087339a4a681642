"""Lists what each step depends on: settings by their place in the recipe, files by their content.

What an earlier step has made is compared with its note (`pipeline.notes`) before it counts.
"""

from collections.abc import Iterable, Mapping
import itertools
import json
from typing import Any, NamedTuple

from etils import epath

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.hf import load
from lrl_jax.pipeline import notes
from lrl_jax.pipeline.notes import MismatchError, digest
from lrl_jax.pipeline.run import Run, refuse_other_length, resolved
from lrl_jax.recipe import supply
from lrl_jax.recipe.evaluate import Evaluate
from lrl_jax.recipe.schema import Export, Pretrained, Recipe, Scratch
from lrl_jax.train import adapt, checkpoint
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import fingerprint

IN_CARD = ("base.license", "data: language", "data: license, origin", "evaluate", "fertility")
EARLIER = {"init": ("vocab",), "data": ("vocab",), "train": ("vocab", "init")}


class Input(NamedTuple):
    """Describes something that a step depends on: a digest of its content, and where it lies."""

    digest: str
    place: str = ""


def inputs(run: Run, step: str) -> dict[str, Input]:
    """Returns everything that a step depends on, by name."""
    match step:
        case "vocab":
            return _vocab(run)
        case "init":
            return _init(run)
        case "data":
            return _data(run)
        case "train":
            return {name: _made(run, name) for name in ("vocab", "init", "data")}
        case "evaluate":
            return _trained(run) | _computed(run) | _evaluate(run.recipe)
    assert step == "export", step
    return _trained(run) | _export(run.recipe.export) | _in_card(run)


def _export(settings: Export) -> dict[str, Input]:
    vector = settings.vector
    models = (vector.instruct, vector.base) if vector else ()
    folders = {model: load.resolve(Pretrained(model=model)) for model in models}
    files = {model: _weights(folder) for model, folder in folders.items()}
    return _contents("export", settings, files)


def _in_card(run: Run) -> dict[str, Input]:
    """Returns what an export only writes about in its card, which `perform` lets it follow."""
    shown = {"base.license": Input(run.recipe.base.license)}
    datasets = run.recipe.data.datasets.items()
    shown["data: language"] = Input(_digest({name: d.language for name, d in datasets}))
    if said := {name: [d.license, d.origin] for name, d in datasets if d.license or d.origin}:
        shown["data: license, origin"] = Input(_digest(said))
    vocab, measured = notes.read(run.note("vocab")), notes.read(run.note("evaluate"))
    if vocab is not None and notes.FERTILITY in (vocab.outputs or {}):
        shown["fertility"] = Input((vocab.outputs or {})[notes.FERTILITY])
    if measured is not None and measured.finished:
        # before.json and after.json also hold times, which are others whenever it is done again
        items = {n: sha256 for n, sha256 in (measured.outputs or {}).items() if "/" in n}
        shown["evaluate"] = Input(_digest({**measured.inputs, **items}))
    return shown


def _made(run: Run, step: str) -> Input:
    """Returns one digest of what an earlier step has made, after comparing its files with its note.

    The step must have finished, and the steps it was made from must still be what they were.
    """
    have = notes.read(run.note(step))
    if have is None or not have.finished:
        raise MismatchError(
            f"{run.at(step)} is not finished; run `lrl {step}` first, or `lrl run` for all steps"
        )
    for earlier in EARLIER.get(step, ()) if have.outputs is not None else ():
        if have.inputs[earlier] != _made(run, earlier).digest:
            raise MismatchError(
                f"{run.at(step)} was made from another {earlier} than {run.at(earlier)} holds now: "
                f"run `lrl {step}`, or undo the change of {earlier}"
            )
    have = notes.verify(step, run.at(step), have)
    return Input(have.made())


def _contents(part: str, section: Any, files: Mapping[str, str]) -> dict[str, Input]:
    """Returns a digest of a section's settings and one of each file it names, by its key.

    Args:
      files: path -> digest of its content. A path that stands in no setting is its own name.
    """
    named: dict[str, Input] = {}

    def without_paths(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: without_paths(item, f"{key}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [without_paths(item, f"{key}.{i}") for i, item in enumerate(value)]
        if value not in files:
            return value
        named[key] = Input(files[value][:16], value)
        return ""

    settings = without_paths(section.model_dump(mode="json"), part)
    shown = {given.place for given in named.values()}
    unnamed = {uri: Input(files[uri][:16], uri) for uri in files if uri not in shown}
    return {**unnamed, **named, part: Input(_digest(settings))}


def _digest(settings: Any) -> str:
    """Returns a digest of plain data that leaves out keys without a value (0, false, null, "").

    A later version, with one setting more that is not used, so finds the same digest.
    """

    def said(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept for key, item in sorted(value.items()) if (kept := said(item))}
        return [said(item) for item in value] if isinstance(value, list) else value

    return digest(json.dumps(said(settings)))


def _vocab(run: Run) -> dict[str, Input]:
    base, vocab = run.recipe.base, run.recipe.vocab
    files = _texts(uri for _, uri in supply.vocab_texts(vocab))
    if donor := getattr(vocab, "donor", ""):
        files[donor] = fingerprint(*tokenizers.read(donor).values())
    source = run.base_tokenizer() if isinstance(base, Pretrained) else base.tokenizer
    tokenizer = fingerprint(*tokenizers.read(source).values()) if source else ""
    return {"base tokenizer": Input(tokenizer), **_contents("vocab", vocab, files)}


def _init(run: Run) -> dict[str, Input]:
    base, settings = run.recipe.base, run.recipe.init
    weights = _base(run) if isinstance(base, Pretrained) else _shape(run, base)
    words = settings.words.model_dump().values() if settings.words else ()
    files = _texts([*settings.text, *filter(None, words)])
    if settings.helper:
        files[settings.helper] = _weights(epath.Path(settings.helper))
    return {
        "base": Input(weights),
        "seed": Input(str(run.recipe.seed)),
        "vocab": _made(run, "vocab"),
        **_contents("init", settings.model_copy(update={"weights": None}), files),
        **({"init.weights": _start(run)} if settings.weights else {}),
    }


def _start(run: Run) -> Input:
    """Returns the digest of the checkpoint that `init.weights` names."""
    other = run.another()
    sha256 = checkpoint.fingerprint(other.at("train") / "checkpoints", other.step)
    return Input(sha256[:16], str(other.at("train").parent))


def _shape(run: Run, base: Scratch) -> str:
    """Returns the digest of the shape of a base from scratch; its licence is no part of that."""
    noted, licensed = notes.read(run.note("init")), _digest(base.model_dump(mode="json"))
    if noted is not None and noted.inputs.get("base") == licensed:
        return licensed  # as an earlier version noted it
    return _digest(base.model_copy(update={"license": "unknown"}).model_dump(mode="json"))


def _base(run: Run) -> str:
    """Returns the digests of the base's weights, and of its adapter's."""
    return " ".join(map(_weights, filter(None, (run.base_folder(), run.base_adapter()))))


def _weights(folder: epath.Path) -> str:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; want a Hugging Face model")
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
    return digest(" ".join(f"{p.name}:{text.digest(str(p))}" for p in files))


def _data(run: Run) -> dict[str, Input]:
    data = run.recipe.data
    texts: dict[str, str] = {}
    for dataset in data.datasets.values():
        texts |= datasets.contents(dataset)
    texts |= _texts(data.decontaminate)
    said = {"datasets": {"__all__": {"license", "origin"}}}  # in the card alone
    shape = data.model_dump(mode="json", exclude={"workers": True, "cache_gib": True, **said})
    return {
        **{f"text {name}": Input(texts[name][:16]) for name in sorted(texts)},
        "vocab": _made(run, "vocab"),
        "seed": Input(str(run.recipe.seed)),
        "data": Input(_digest(shape)),
    }


def evaluated_on(recipe: Recipe) -> dict[str, str]:
    """Returns the digest of each file and task that a recipe evaluates on, by name."""
    given = _evaluate(recipe)
    return {
        name: each.digest for name, each in given.items() if name not in ("evaluate", "use_ema")
    }


def _evaluate(recipe: Recipe) -> dict[str, Input]:
    from lrl_jax.evaluate import tasks  # takes a second, which other steps need not wait

    settings = recipe.evaluate
    files = _texts(_evaluated_files(settings))
    averaged = {"use_ema": Input("true")} if recipe.export.use_ema else {}
    made = {name: Input(digest[:16]) for name, digest in tasks.contents(settings).items()}
    settings = settings.model_copy(update={"task_data": ""})  # it may move
    return averaged | made | _contents("evaluate", settings, files)


def _evaluated_files(settings: Evaluate) -> list[str]:
    baselines = itertools.chain.from_iterable(settings.baseline_text.values())
    return [*(uri for _, uri in settings.files()), *baselines]


def said_of_evaluation(recipe: Recipe) -> str:
    """Returns the digest of what a recipe says of evaluation, as notes of the step have it.

    It reads no file, as settings count without the paths in them.
    """
    settings = recipe.evaluate.model_copy(update={"task_data": ""})
    files = dict.fromkeys(_evaluated_files(settings), "")
    return _contents("evaluate", settings, files)["evaluate"].digest


def _trained(run: Run) -> dict[str, Input]:
    folder = run.at("train") / "checkpoints"
    if meta := checkpoint.newest_meta(folder):
        adapt.check_same(meta["train"], run.recipe.train)  # before earlier results are removed
        refuse_other_length(run)
    made = {name: _made(run, name) for name in ("vocab", "init")}
    if not run.step:
        steps = Input(str(resolved(run).train.steps))
        return made | {"train": _made(run, "train"), "steps": steps}
    asked = folder / str(run.step)  # it verifies itself
    if not asked.exists():
        raise ValueError(f"--step {run.step}: there is no {asked}")
    return made | {"steps": Input(str(run.step))}


def _computed(run: Run) -> dict[str, Input]:
    """Returns the dtype that models are measured in, where it is not that of training."""
    meta = checkpoint.newest_meta(run.at("train") / "checkpoints")
    dtype = run.recipe.train.compute_dtype
    if meta is None or meta["train"].get("compute_dtype", dtype) == dtype:
        return {}
    return {"train.compute_dtype": Input(dtype)}


def refuse_bad(run: Run, step: str) -> None:
    """Raises what the work of a step would refuse at once, before earlier results are removed.

    DataError names files that cannot be evaluated on; ValueError a task that there is not;
    MismatchError a base that is not that of training; VerificationError results for the card that
    are not what `lrl evaluate` wrote.
    """
    if step == "evaluate":
        from lrl_jax.evaluate import kinds, tasks

        kinds.validate(run.recipe.evaluate)
        tasks.validate(run.recipe.evaluate)
        _refuse_another_base(run)
    elif step == "export":
        measured = notes.read(run.note("evaluate"))
        if measured is not None and measured.finished:
            notes.verify("evaluate", run.at("evaluate"), measured)


def _refuse_another_base(run: Run) -> None:
    """Refuses to measure a base whose weights are not those that training began with."""
    base, init = run.recipe.base, notes.read(run.note("init"))
    if not isinstance(base, Pretrained) or run.recipe.init.weights or init is None:
        return
    if init.outputs is not None and _base(run) != init.inputs["base"]:
        raise MismatchError(
            f"base.model: {base.model} has other weights than {run.at('init')} was made from, so "
            "what is measured of it would be of another model: put its files back, or begin again "
            "under another name"
        )


def refuse_unknown(run: Run, step: str) -> None:
    """Raises ValueError, with the nearest name, if a step names a task that there is not."""
    if step == "evaluate":
        from lrl_jax.evaluate import tasks

        tasks.refuse_unknown(run.recipe.evaluate)


def _texts(uris: Iterable[str]) -> dict[str, str]:
    return {uri: text.fingerprint(uri) for uri in sorted(set(uris))}
