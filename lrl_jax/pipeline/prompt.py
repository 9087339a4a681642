"""Finds out how an exported model is asked: its prompt, chat template and what ends an answer."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import itertools
import json
import tempfile
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.data.feed import mixture
from lrl_jax.data.templates import as_jinja, tokenizer_chat
from lrl_jax.data.templates import table as templates
from lrl_jax.data.templates.as_jinja import Made
from lrl_jax.hf import card, load, save
from lrl_jax.pipeline import run as runs
from lrl_jax.pipeline import vocab
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.data import Dataset
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.types import CONFIG, Tokenizer

UNASKED = ("plain", "pair")  # templates without a question
QUESTION = json.dumps([{"role": "user", "content": "q"}])


@dataclasses.dataclass(frozen=True)
class _Way:
    """Describes one way in which the last stage asks, and the share of its tokens that does."""

    template: str
    made: Made
    translates: bool
    share: float = 0.0


def write(run: Run, folder: epath.Path) -> list[card.TrainedPrompt]:
    """Puts the chat template of the last stage and its stop token into an export.

    Of several templates the one with the most tokens is taken, one that translates last. Where none
    can be a chat template, and where training used the base's as it stands, the base's files stay.

    Args:
      folder: the export, which has its tokenizer already.

    Returns:
      How the model was asked, the way of the chat template first; nothing if it was never asked.
    """
    tokenizer = tokenizers.load(folder)
    ways = sorted(_ways(run, folder, tokenizer), key=lambda way: (way.translates, -way.share))
    chosen = next((way for way in ways if way.made.source), None)
    if chosen is not None:
        ways.insert(0, ways.pop(ways.index(chosen)))
        if not _is_the_bases(chosen, tokenizer):
            _write_template(folder, chosen.made.source)
        _write_stop(folder, tokenizer, chosen.made.stop)
    has_own = (folder / tokenizer_chat.JINJA).exists()
    for way in ways:
        whose = "the base's, kept" if _is_the_bases(way, tokenizer) else "written"
        say(f"export: {_line(way, chosen, whose, has_own)}")
    return [
        card.TrainedPrompt(way.template, way.made.text, way.made.stop, way.share, way is chosen)
        for way in ways
    ]


def lengthen(folder: epath.Path, length: int) -> None:
    """Raises `model_max_length` of an export's tokenizer to the length of the rows it learnt."""
    config = storage.read_json(folder / CONFIG)
    most = config.get("model_max_length")
    if isinstance(most, int | float) and most < length:
        save.write_json(folder / CONFIG, config | {"model_max_length": length})


def keep_defaults(base: epath.Path, folder: epath.Path) -> None:
    """Writes what only the class of a base in transformers says, which an export's does not.

    Such as <|padding|> of GPT-NeoX, and the left side, on which the class of Llama 2 pads.
    """
    if storage.is_remote(base):
        return
    config, controls = storage.read_json(folder / CONFIG), tokenizers.load(folder).controls
    try:
        codec = AutoCodec(base, only_reads=True)
    except ValueError:  # a base that AutoTokenizer does not load so
        return
    names = {key: name for key, name in codec.names().items() if name in controls}
    said = names | {key: side for key, side in codec.sides().items() if side != "right"}
    fresh = {key: value for key, value in said.items() if config.get(key) is None}
    if fresh:
        save.write_json(folder / CONFIG, config | fresh)


def last_template(run: Run) -> str:
    """Returns the template with the most tokens of the last stage, of those that ask; else ""."""
    shares, datasets = _shares(run), run.recipe.data.datasets
    asking = {
        name: share
        for name, share in shares.items()
        if datasets[name].template not in UNASKED and datasets[name].kind != "parallel"
    }
    best = max(asking, key=asking.__getitem__, default="")
    return datasets[best].template if best else ""


# ---------------------------------------------------------------------------- the last stage
def _ways(run: Run, folder: epath.Path, tokenizer: Tokenizer) -> Iterator[_Way]:
    """Yields every way in which the last stage asks."""
    data, shares = run.recipe.data, _shares(run)
    with tempfile.TemporaryDirectory() as local:  # transformers reads local folders only
        vocab.copy_tokenizer(folder, epath.Path(local))
        if (folder / "config.json").exists():  # it decides of the tokenizer's class
            text = (folder / "config.json").read_bytes()
            (epath.Path(local) / "config.json").write_bytes(text)
        read = AutoCodec(local).read_rendered
        ways: dict[_Way, float] = {}
        for name in data.datasets:
            if shares.get(name, 0.0) > 0 and (way := _way(data.datasets[name], tokenizer, read)):
                ways[way] = ways.get(way, 0.0) + shares[name]
    yield from (dataclasses.replace(way, share=share) for way, share in ways.items())


def _way(dataset: Dataset, tokenizer: Tokenizer, read: as_jinja.Read) -> _Way | None:
    made = (
        _own(dataset, tokenizer)
        if dataset.template == templates.OWN
        else as_jinja.write(dataset, tokenizer, read)
    )
    translates = dataset.kind == "parallel"
    return None if made is None else _Way(dataset.template, made, translates)


def _own(dataset: Dataset, tokenizer: Tokenizer) -> Made:
    """Returns the base's own chat template, with the system prompt that a dataset puts first."""
    system = str(dataset.template_options().get("system", ""))
    source, text = tokenizer_chat.with_system(tokenizer_chat.template(tokenizer), system), ""
    with contextlib.suppress(ValueError):  # some want more than one message
        text = as_jinja.shown(source, tokenizer_chat.special_names(tokenizer))
    stop = templates.ending(templates.OWN, {"messages": QUESTION}, tokenizer)
    names = {i: name for name, i in tokenizer.controls.items()}
    return Made(source, "", text, names.get(stop, ""))


def _shares(run: Run) -> dict[str, float]:
    """Returns the share of each dataset in the tokens of the last stage, as far as it is known."""
    recipe, stage = run.recipe, run.recipe.train.stages[-1]
    shares = mixture.unsized(recipe, stage)
    if shares is not None and not stage.epochs:
        return shares
    sizes = dict.fromkeys(recipe.data.datasets, 1)
    with contextlib.suppress(MismatchError):  # packed data that was removed
        sizes = {name: manifest.tokens for name, manifest in runs.manifests(run).items()}
    shares = mixture.shares(recipe.data, stage.mixture, sizes)
    if stage.epochs:  # which are counted for each dataset
        shares = {name: share * sizes[name] for name, share in shares.items()}
    whole = sum(shares.values())
    return {name: share / whole for name, share in shares.items()}


def _is_the_bases(way: _Way, tokenizer: Tokenizer) -> bool:
    """Tells whether a way is the base's chat template as it stands, without a system prompt."""
    return way.template == templates.OWN and way.made.source == tokenizer_chat.template(tokenizer)


def _line(way: _Way, chosen: _Way | None, whose: str, has_own: bool) -> str:
    """Returns what is said of a way."""
    about = f"template {way.template} ({way.share:.0%} of the last stage)"
    if way is chosen:
        return f"{about}: the chat template, {whose}; an answer ends with {way.made.stop}"
    if way.made.source:
        return f"{about}: another prompt, which the model card shows"
    kept = "" if chosen else "; the base's is kept" if has_own else "; none is written"
    return f"{about}: not a chat template, for {way.made.why}{kept}"


# ---------------------------------------------------------------------------- files
def _write_template(folder: epath.Path, source: str) -> None:
    """Writes the file that transformers reads, and takes the base's template out of the config."""
    (folder / tokenizer_chat.JINJA).write_text(source)
    config = storage.read_json(folder / CONFIG)
    if "chat_template" in config:
        save.write_json(folder / CONFIG, {k: v for k, v in config.items() if k != "chat_template"})


def _write_stop(folder: epath.Path, tokenizer: Tokenizer, stop: str) -> None:
    """Adds the token that ends an answer to the ends of generation_config.json."""
    path = folder / load.GENERATION
    if not path.exists() or stop not in tokenizer.controls:  # an adapter has the base's
        return
    config = storage.read_json(path)
    ids = _ends(config, tokenizer.eos_id)
    wanted = list(dict.fromkeys([*ids, tokenizer.control(stop)]))
    if wanted != ids or config.get("eos_token_id") is None:
        ends = wanted if len(wanted) > 1 else wanted[0]
        save.write_json(path, config | {"eos_token_id": ends})


def _ends(config: Mapping[str, Any], eos: int) -> list[int]:
    """Returns the ends that a generation_config.json names, else the tokenizer's."""
    said = config.get("eos_token_id")
    said = [eos] if said is None else said
    return [*itertools.chain([said] if isinstance(said, int) else said)]
