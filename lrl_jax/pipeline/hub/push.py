"""Puts what a run has made on the Hugging Face hub: its export, its tokenizer, its packed data.

    order = push.order("org/llama-korean", what="export")     # refuses before any work
    push.refuse_name(run.recipe, order)
    push.push(run, order)

Each is compared with what its step wrote before anything is sent.
"""

import dataclasses
from typing import Literal

from etils import epath

from lrl_jax.data.pack import packing, rows
from lrl_jax.hf import card, licences
from lrl_jax.hf.hub import client, parcel
from lrl_jax.hf.hub import push as pushing
from lrl_jax.hf.hub.client import HubPlace
from lrl_jax.hf.hub.parcel import CARD, ChangedError, Parcel, What
from lrl_jax.pipeline import notes, vocab
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.hub import facts
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Recipe
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import EXTRAS

Asked = Literal["export", "tokenizer", "data"]

ADAPTER = "adapter_config.json"
ROWS = ".array_record"  # what lies beside rows names files of this machine, and texts left out
OF_VOCAB = ("splice.json", "proof.json", "fertility.json", "fertility.csv", "fertility.svg")
OF_DATA = (packing.DATASETS, "plan.json")


@dataclasses.dataclass(frozen=True)
class PushOrder:
    """Says what to push where, and who may see it.

    Attributes:
      public: whether everybody may.
      revision: the branch that was asked for; "" means the main one, and no files of others in it.
    """

    repository: str
    what: Asked
    public: bool
    revision: str

    @property
    def place(self) -> HubPlace:
        """Returns the repository and its branch."""
        kind = "dataset" if self.what == "data" else "model"
        return HubPlace(self.repository, kind, self.revision or client.MAIN)


def order(
    repository: str, *, what: Asked = "export", public: bool = False, revision: str = ""
) -> PushOrder:
    """Returns an order; ValueError for a name of wrong form, or without a token of the hub."""
    client.checked(repository)
    if revision:
        client.checked_branch(revision)
    client.token()
    return PushOrder(repository, what, public, revision)


def refuse_name(recipe: Recipe, order: PushOrder) -> None:
    """Raises ValueError for a public name that the licence of the base does not allow.

    Of a private one it is said.
    """
    duties = licences.duties(recipe.base.license) if order.what == "export" else None
    problem = duties.refuses(order.repository) if duties else ""
    if problem and order.public:
        raise ValueError(f"{order.repository}: {problem}, for what is published; choose another")
    if problem:
        say(f"push: {order.repository}: {problem}, before it is published")


def push(run: Run, order: PushOrder) -> pushing.Pushed:
    """Pushes what an order names, and says where it is; raises as `hf.hub.push.push`.

    Raises:
      ValueError: it is not made yet.
      ChangedError: a file is not what its step wrote.
    """
    make = {"export": _export, "tokenizer": _tokenizer, "data": _data}[order.what]
    what, paths, text, wanted = make(run)
    with parcel.local(paths) as local_paths:
        title = run.recipe.export.title or run.recipe.name
        made = parcel.parcel(what, title, order.repository, local_paths, text)
        _refuse_changed(made, wanted, order.what)
        done = pushing.push(
            made, order.place, private=not order.public, anywhere=bool(order.revision), say=say
        )
    seen = "private" if done.private else "public"
    say(
        f"push: {done.address}: {done.verified} files verified, {done.sent} of them sent; {seen}, "
        f"commit {done.commit[:12]}"
    )
    return done


Made = tuple[What, dict[str, epath.Path], str, dict[str, str]]


def _refuse_changed(made: Parcel, wanted: dict[str, str], what: Asked) -> None:
    for name, sha256 in wanted.items():
        if made.files[name].sha256 != sha256:
            step = {"export": "export", "tokenizer": "vocab", "data": "data"}[what]
            raise ChangedError(
                f"{name}: has changed since `lrl {step}` wrote it; make it anew: lrl {step} "
                "RECIPE --redo"
            )


def _export(run: Run) -> Made:
    """Returns the files of an export whose gate was passed, its card, and their digests."""
    folder = run.at("export")
    digests = parcel.verified_export(folder)
    paths = {name: folder / name for name in digests}
    what: What = "adapter" if ADAPTER in paths else "model"
    text = parcel.verified_text(folder / CARD, digests[CARD])
    return what, paths, text, {n: d for n, d in digests.items() if n != CARD}


def _tokenizer(run: Run) -> Made:
    """Returns every form of a tokenizer that is proved lossless, with what was measured of it."""
    folder = run.at("vocab")
    wanted = _finished(run, "vocab")
    if facts.read(folder / "proof.json").get("ok") is not True:
        raise ChangedError(f"{folder / 'proof.json'}: the tokenizer is not proved; run `lrl vocab`")
    tokenizer = tokenizers.load(folder)
    forms = tokenizers.family(tokenizer).FORMS
    paths = _present(folder, (*forms, *EXTRAS, *OF_VOCAB))
    base = run.recipe.base
    text = card.rendered(
        "tokenizer.md.j2",
        front={
            **licences.front(licences.passed_on(run.recipe.export.license, base.license)),
            "language": card.iso_codes(_languages(run)),
            "library_name": "transformers",
            "tags": ["lrl-jax", "tokenizer"],
        },
        title=run.recipe.export.title or run.recipe.name, pieces=tokenizer.size,
        new_pieces=vocab.new_pieces(run), languages=_languages(run),
        fertility=facts.fertility(run), fingerprint=tokenizer.fingerprint,
    )  # fmt: skip
    return "tokenizer", paths, text, {n: d for n, d in wanted.items() if n in paths}


def _data(run: Run) -> Made:
    """Returns the packed rows of a run with their manifests, but no text that was left out."""
    home = run.at("data")
    wanted = _finished(run, "data")
    paths = _present(home, OF_DATA)
    length = 0
    for folder in packing.folders(home).values():
        inside = str(folder.relative_to(home))
        manifest = rows.read_manifest(folder)
        length = manifest.sequence_length
        wanted |= {f"{inside}/{shard.file}": shard.sha256 for shard in manifest.shards}
        paths |= {
            f"{inside}/{path.name}": path
            for path in sorted(folder.iterdir())
            if path.suffix == ROWS or path.name in (rows.MANIFEST, rows.ORDER)
        }
    if absent := sorted(name for name in wanted if name not in paths and name.count("/")):
        raise ChangedError(f"{home / absent[0]}: is missing; run `lrl data` again")
    datasets = facts.datasets(run)
    licenses = {dataset.license for dataset in datasets}
    text = card.rendered(
        "data.md.j2",
        front={
            **licences.front(licenses.pop() if len(licenses) == 1 and all(licenses) else "other"),
            "language": card.iso_codes(_languages(run)),
            "tags": ["lrl-jax"],
            "viewer": None,
        },
        title=run.recipe.export.title or run.recipe.name, name=run.recipe.name,
        datasets=datasets, length=length,
    )  # fmt: skip
    return "data", paths, text, {n: d for n, d in wanted.items() if n in paths}


def _finished(run: Run, step: str) -> dict[str, str]:
    """Returns the digests that a finished step's note has, after comparing its files with it."""
    note = notes.read(run.note(step))
    if note is None or not note.finished:
        raise MismatchError(f"{run.at(step)} is not finished; run `lrl {step}` first")
    return dict(notes.verify(step, run.at(step), note).outputs or {})


def _present(folder: epath.Path, names: tuple[str, ...]) -> dict[str, epath.Path]:
    """Returns the paths of those files of a folder that are there, by their names."""
    return {name: folder / name for name in names if (folder / name).exists()}


def _languages(run: Run) -> list[str]:
    pairs = [dataset.language for dataset in run.recipe.data.datasets.values()]
    return list(dict.fromkeys(code for pair in pairs for code in card.CODE.findall(pair)))
