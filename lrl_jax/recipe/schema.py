"""Describes a whole adaptation as one frozen recipe, in the order of the pipeline's steps.

Every number a run depends on is a field here; `docs/recipe.schema.json` is generated from it.
`lrl_jax.recipe.file` reads a recipe from YAML.
"""

from collections.abc import Iterator, Mapping, Sequence
import os
import posixpath
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from lrl_jax.recipe import languages
from lrl_jax.recipe.data import Data, Name
from lrl_jax.recipe.evaluate import Evaluate, EvaluateSection
from lrl_jax.recipe.train import Train
from lrl_jax.recipe.vocab import (
    NUMBER,
    Names,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    TrainVocab,
    Vocab,
    did_you_mean,
    is_default,
)

# ---------------------------------------------------------------------------- base
ModelType = Literal[
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2",
    "smollm3",
]  # fmt: skip  # the families of hf.families.FAMILIES


class ModelShape(Section):
    """Describes the shape of a model, in the names of Hugging Face's `config.json`."""

    model_type: ModelType = "llama"
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    intermediate_size: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt | None = None
    """None means hidden_size / num_attention_heads."""
    max_position_embeddings: PositiveInt = 2048
    rms_norm_eps: PositiveFloat = 1e-5
    rope_theta: PositiveFloat = 10_000.0
    tie_word_embeddings: bool = False


class Expected(ModelShape):
    """Says what a base's `config.json` holds, to plan without it; compared once it is there."""

    vocab_size: PositiveInt


class Pretrained(Section):
    """Names an existing model to adapt: a Hugging Face folder (local or gs://) or a hub id."""

    model: str
    revision: str = "main"
    adapter: str = ""
    """Folder or hub id of a LoRA in PEFT's format, which is merged into the model. If it has
    embeddings, its own tokenizer is used in place of the model's."""
    adapter_revision: str = "main"
    license: str = "unknown"
    expected: Expected | None = None
    """What the model's `config.json` says, for planning without it."""


class Scratch(Section):
    """Starts from random weights; the tokenizer is learnt, or given as a .model file."""

    shape: ModelShape
    tokenizer: str = ""
    license: str = "unknown"


def _base_kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "scratch" if "shape" in keys else "pretrained"


Base = Annotated[
    Annotated[Pretrained, pydantic.Tag("pretrained")] | Annotated[Scratch, pydantic.Tag("scratch")],
    pydantic.Discriminator(_base_kind),
]


# ---------------------------------------------------------------------------- init
Rows = Literal[
    "subword_mean", "subword_first", "subword_last", "subword_weighted", "eeve", "length_weighted",
    "merge_tree", "align", "wechsel", "focus", "clp", "omp",
    "mean", "hewitt", "matched_normal", "random_normal",
]  # fmt: skip
InputRows = Literal[Rows, "token_distillation"]


class Words(Section):
    """Names word vectors in fastText's text form (`.vec`, `.vec.gz`), for `wechsel`."""

    source: str
    """Vectors of the base language."""
    target: str
    """Vectors of the new language; the same file if it has both."""
    dictionary: str = ""
    """Lines of a word of the base language, a tab and its translation; for vectors that are not
    aligned yet."""


class Distillation(Section):
    """Says how `token_distillation` learns input rows; the defaults are those of arXiv 2505.20133.

    Short texts with the new tokens are read twice: as the base spells them, and with the new
    tokens. The rows of new tokens learn to give the hidden states that the base has.
    """

    snippets: PositiveInt = 100
    """Snippets of text for each new token, as far as `init.text` has them."""
    length: PositiveInt = 50
    """Tokens of a snippet at most, as the base spells it."""
    fewest: PositiveInt = 1
    """A token with fewer snippets than this keeps its subword mean."""
    layer: PositiveInt | None = None
    """The layer after which states are compared; None means the last. An earlier one is cheaper."""
    epochs: PositiveInt = 1
    """How often the snippets are read."""
    batch_size: PositiveInt = 16
    """Snippets of a step."""
    rate: PositiveFloat = 1e-4
    """The highest learning rate of AdamW: it rises for half an epoch, then falls to 0."""


def _is_published(value: object) -> bool:
    """Tells pydantic to leave settings out of what is written where they are the paper's."""
    return value == Distillation()


class TrainedWeights(Section):
    """Names a checkpoint of another run, whose weights this run starts with."""

    run: str
    """The folder of the run, such as runs/tamil or gs://bucket/runs/tamil."""
    step: NonNegativeInt = 0
    """A step that it has saved; 0 is the newest."""


class Init(Section):
    """Says how the embedding rows of new tokens start, in the input and in the output matrix."""

    input_rows: InputRows = "subword_mean"
    """A strategy of `lrl_jax.embeddings.strategies`."""
    output_rows: Rows = "subword_mean"
    """A strategy of `lrl_jax.embeddings.strategies`."""
    norms: Literal["as_given", "calibrated"] = "as_given"
    """`calibrated` gives new rows the norm that old rows of the language have (arXiv 2608.03494).
    """
    text: tuple[str, ...] = ()
    """Text of the new language that `align`, `focus`, `token_distillation` and calibration read;
    vocab.text if empty."""
    lines: PositiveInt = 300_000
    """How many lines of `text` are read."""
    words: Words | None = None
    """Word vectors, for `wechsel`."""
    helper: str = ""
    """A Hugging Face folder whose tokenizer has the new tokens, for `clp` and `omp`."""
    distillation: Distillation = Field(default=Distillation(), exclude_if=_is_published)
    """How `token_distillation` learns."""
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    weights: TrainedWeights | None = None
    """Weights of another run with the same tokenizer and the same shape, in place of the base's;
    training begins at step 0, with a new optimizer."""

    def _misfits(self) -> Iterator[str]:
        rows = ("input_rows", "output_rows", "norms", "text", "words", "helper", "distillation")
        changed = [name for name in rows if getattr(self, name) != Init.model_fields[name].default]
        if self.weights and changed:
            yield (
                "init.weights has a row for every token already; leave out "
                f"init.{', init.'.join(changed)}"
            )


# ---------------------------------------------------------------------------- export
class Vector(Section):
    """Adds the difference between an instruct model and its base to the weights."""

    instruct: str
    """Hugging Face folder or hub id of a model that was tuned from `base`."""
    base: str
    """Hugging Face folder or hub id."""
    scale: Annotated[float, NUMBER] = 1.0


class Export(Section):
    """Says how to write the Hugging Face folder.

    It is reloaded: tokens and logits must match.
    """

    form: Literal["merged", "adapter"] = "merged"
    """`merged` writes weights with the adapters of `train.lora` merged into them; `adapter` writes
    an adapter in PEFT's format, to put on the base, with whatever else was trained."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_shard_bytes: PositiveInt = 5_000_000_000
    gate_lines: PositiveInt = 200
    gate_on: tuple[str, ...] = ()
    use_ema: bool = False
    """Whether to write the running average of the weights that `train.ema` kept."""
    vector: Vector | None = None
    """A difference that is added to every weight but the embedding rows of new tokens."""
    title: str = ""
    license: str = "other"


# ---------------------------------------------------------------------------- recipe
LANGUAGE_FIELDS = ("language", "source_language", "target_language", "reference")
BY_LANGUAGE = ("text", "texts", "parallel")  # where they are mappings, their keys are codes


class Recipe(Section):
    """Describes one adaptation, in pipeline order: vocab, init, data, train, evaluate, export."""

    name: Name
    folder: str = "runs"
    seed: NonNegativeInt = 0
    base: Base
    vocab: Vocab
    init: Init = Init()
    data: Data
    train: Train
    evaluate: EvaluateSection = Evaluate()
    export: Export = Export()
    supply: dict[str, str] = Field(default_factory=dict)
    """Path, pattern or hub id of what only the user can bring -> how to get it; `lrl check` lists
    what is missing."""
    languages: Names = Field(default_factory=dict, exclude_if=is_default)
    """Code of a language -> its English name, as prompts spell it: for languages that have none, or
    to spell one otherwise."""

    @classmethod
    def from_yaml(
        cls,
        path: str | os.PathLike,
        /,
        *overrides: str,
        imports: Sequence[str] = (),
        **sections: Any,
    ) -> "Recipe":
        """Reads a recipe from a file, or the one that ships under a name, and changes it.

            recipe = lrl.Recipe.from_yaml("quickstart", "train.batch_size=8")
            recipe = lrl.Recipe.from_yaml("quickstart", name="trial", train={"batch_size": 8})

        Args:
          path: a YAML file, local or `gs://`, or a name such as "quickstart".
          overrides: as on the command line; the value takes the place of what is there.
          imports: Python files that register seqio Tasks and Mixtures; they are run.
          sections: top-level keys of the recipe. A mapping goes into the mapping that is there,
            key by key, where None takes a key away; a list takes one by index:
            train={"stages": {0: {"steps": 10}}}.

        Raises:
          ValueError: what is wrong, with the file and the key, one problem a line.
        """
        import lrl_jax  # the package's front door, which loads rooms above this one

        return lrl_jax.load_recipe(os.fspath(path), *overrides, imports=imports, **sections)

    def _misfits(self) -> Iterator[str]:
        yield from self._mixture_misfits()
        yield from self._vocab_misfits()
        yield from self._init_misfits()
        yield from self._export_misfits()
        for where, code in _codes(self):
            if code not in self.languages and (problem := languages.unknown(code)):
                yield f"{where}: {problem}"

    def _mixture_misfits(self) -> Iterator[str]:
        names = [*self.data.datasets, *self.data.mixtures]
        for where, weights in self._weights():
            for name in weights:
                if name not in names:
                    yield (
                        f"{where} mixes {name!r}, which is not in data.datasets or data.mixtures "
                        f"({', '.join(names)}){did_you_mean(name, names)}"
                    )
            if weights and not sum(weights.values()) > 0:
                yield f"the weights of {where} sum to zero"

    def _weights(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yields every table of weights, after a description of where it is in the recipe.

        A seqio mixture has an empty one: it gets its weights later, from data.imports.
        """
        for name, mixture in self.data.mixtures.items():
            yield f"mixture {name!r}", mixture.of
        for stage in self.train.stages:
            yield f"stage {stage.name!r}", stage.mixture
            yield f"the ramp of stage {stage.name!r}", stage.ramp_to
        yield "train.replay", self.train.replay

    def _vocab_misfits(self) -> Iterator[str]:
        base, new_vocab = self.base, isinstance(self.vocab, TrainVocab)
        if isinstance(base, Scratch) and not base.tokenizer and not new_vocab:
            yield (
                "base.shape without base.tokenizer needs vocab.method: train; "
                f"got vocab.method: {self.vocab.method}"
            )
        if isinstance(base, Pretrained) and new_vocab:
            yield (
                "vocab.method: train makes an unrelated vocabulary, which base.model's "
                "embeddings do not fit; use extend or keep"
            )
        stored = self.init.param_dtype
        if self.train.optimizer.rounding == "stochastic" and stored != "bfloat16":
            yield (
                "train.optimizer.rounding: stochastic is for parameters stored in bfloat16; got "
                f"init.param_dtype: {stored}; change one of them"
            )

    def _init_misfits(self) -> Iterator[str]:
        weights, own = self.init.weights, f"{self.folder}/{self.name}"
        if weights and posixpath.normpath(weights.run) == posixpath.normpath(own):
            yield f"init.weights.run: {own} is this run itself; give the recipe another name"

    def _export_misfits(self) -> Iterator[str]:
        base, export = self.base, self.export
        if export.form == "adapter":
            what, instead = "export.form: adapter", "; use form: merged"
            if self.train.lora is None:
                yield f"{what} needs train.lora; use merged"
            if isinstance(base, Scratch):
                yield f"{what} is put on base.model, which is not given{instead}"
            elif base.adapter:
                yield (
                    f"{what} is put on base.model alone, but this run began with base.adapter on "
                    f"it{instead}"
                )
            elif self.init.weights:
                yield (
                    f"{what} is put on base.model alone, but this run began with init.weights, the "
                    f"weights of another run{instead}"
                )
            if export.vector:
                yield f"export.vector changes every weight, which no adapter can hold{instead}"
        if export.vector and isinstance(base, Scratch):
            yield "export.vector is added to base.model, which is not given; leave it out"
        if export.use_ema and not self.train.ema:
            yield "export.use_ema needs train.ema, such as 0.999"


def _codes(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yields every code of a language in a section, after the key where it stands."""
    members: Any = ()
    if isinstance(value, Section):
        members = value
    elif isinstance(value, Mapping):
        members = value.items()
    elif isinstance(value, tuple):
        members = enumerate(value)
    for name, member in members:
        key = f"{where}.{name}" if where else str(name)
        if name in LANGUAGE_FIELDS and isinstance(member, str):
            yield key, member
        elif name in BY_LANGUAGE and isinstance(member, dict):
            yield from ((f"{key}.{code}", code) for code in member)
        else:
            yield from _codes(member, key)
