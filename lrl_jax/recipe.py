"""The recipe: one frozen description of a whole adaptation, in pipeline order.

Every number a run depends on is a field here; `docs/recipe.schema.json` is generated from it.
`lrl_jax.recipe_file` reads a recipe from YAML.
"""

from collections.abc import Iterator, Sequence
import difflib
from typing import Annotated, Any, Literal

from etils import epath
import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lrl_jax.recipe_data import Data, Name
from lrl_jax.recipe_vocab import Language, Part, Share, TrainVocab, Vocab


# ---------------------------------------------------------------------------- base
class Pretrained(Part):
    """Adapt an existing model: a Hugging Face folder (local or gs://) or a hub id."""

    model: str
    revision: str = "main"
    license: str = "unknown"


class Shape(Part):
    """The shape of a Llama trained from scratch; names are Hugging Face's."""

    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    intermediate_size: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    max_position_embeddings: PositiveInt = 2048
    rms_norm_eps: PositiveFloat = 1e-5
    rope_theta: PositiveFloat = 10_000.0
    tie_word_embeddings: bool = False


class Scratch(Part):
    """Train a Llama from random weights; its tokenizer is learnt, or given as a .model file."""

    shape: Shape
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


class Words(Part):
    """Word vectors in fastText's text form (`.vec`, `.vec.gz`), for `wechsel`.

    Attributes:
      source: of the base language.
      target: of the new language; the same file when it has both.
      dictionary: base-language word, tab, translation; for files that were not aligned.
    """

    source: str
    target: str
    dictionary: str = ""


class Init(Part):
    """Starting rows of new tokens, for the input and the output matrix separately.

    Attributes:
      input_rows, output_rows: a strategy of `lrl_jax.embeddings.table`.
      norms: `calibrated` gives new rows the norm that old rows of the language have (arXiv
        2608.03494).
      text: text of the new language that `align`, `focus` and calibration read; vocab.text
        when empty.
      lines: how many lines of it.
      words: for `wechsel`.
      helper: for `clp` and `omp`: a Hugging Face folder whose tokenizer has the new tokens.
    """

    input_rows: Rows = "subword_mean"
    output_rows: Rows = "subword_mean"
    norms: Literal["as_given", "calibrated"] = "as_given"
    text: tuple[str, ...] = ()
    lines: PositiveInt = 300_000
    words: Words | None = None
    helper: str = ""
    param_dtype: Literal["float32", "bfloat16"] = "float32"


# ---------------------------------------------------------------------------- train
class Schedule(Part):
    """Learning rate over a stage: linear warm-up, then `kind` down to `final` x `peak`."""

    peak: PositiveFloat
    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: NonNegativeInt = 0
    final: Share = 0.1


class Rule(Part):
    """Parameters whose path matches the regular expression `match` learn like this.

    `rows: new` lets only the rows of new tokens move, in embed_VD and unembed_DV.
    The first rule that matches a parameter decides it.
    """

    match: str
    schedule: Schedule | Literal["frozen"]
    rows: Literal["all", "new"] = "all"


class Stage(Part):
    """A stretch of training on one mixture.

    Neighbouring stages with equal `learn` tables share one optimizer and one schedule over
    their joint length; a new table starts a new optimizer.

    Attributes:
      steps: how long; or
      epochs: how often every dataset of the mixture is read, whole; the weights multiply it.
      mixture: dataset or mixture name -> weight.
      weights: what the weights are shares of: training tokens, or examples.
      ramp_to: the mixture at the end of the stage; its weights are reached in equal steps.
    """

    name: Name
    steps: NonNegativeInt = 0
    epochs: NonNegativeFloat = 0.0
    mixture: dict[Name, NonNegativeFloat] = Field(min_length=1)
    weights: Literal["tokens", "examples"] = "tokens"
    ramp_to: dict[Name, NonNegativeFloat] = Field(default_factory=dict)
    learn: tuple[Rule, ...] = Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> "Stage":
        if bool(self.steps) == bool(self.epochs):
            raise ValueError(f"stage {self.name!r}: give steps or epochs, one of them")
        if self.epochs and (self.ramp_to or self.weights == "examples"):
            raise ValueError(f"stage {self.name!r}: epochs leave no room for ramp_to or weights")
        return self


class Optimizer(Part):
    """AdamW. Weight decay spares norms (one-dimensional parameters)."""

    b1: Share = 0.9
    b2: Share = 0.95
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    clip: PositiveFloat = 1.0


class Save(Part):
    """When to save: every `minutes` and every `steps` (0: never by that clock)."""

    minutes: NonNegativeFloat = 10.0
    steps: NonNegativeInt = 0
    keep: PositiveInt = 2


class Mesh(Part):
    """Devices along each axis; one of them may be -1, for all that is left."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1


class Prompt(Part):
    """A fixed prompt whose continuation is shown while training."""

    template: str = "plain"
    text: str
    source_language: Language = "eng_Latn"
    target_language: Language = "eng_Latn"


class Train(Part):
    """How to learn: stages, batch, optimizer, precision, memory, saving, logging.

    Attributes:
      remat: what a layer keeps for its backward pass: nothing but its input, its matrix
        products (dots), or everything (full).
      unroll: layers in a step of the scan; small models train faster with all of them.
      loss_blocks: vocabulary blocks of the loss; more hold less of the logits at a time.
      max_skipped: steps in a row without a finite gradient after which the run stops.
      replay: dataset or mixture name -> share of every stage, against forgetting; the weights of
        a stage share what is left.
    """

    batch_size: PositiveInt
    stages: tuple[Stage, ...] = Field(min_length=1)
    replay: dict[Name, Share] = Field(default_factory=dict)
    optimizer: Optimizer = Optimizer()
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Literal["nothing", "dots", "full"] = "nothing"
    unroll: PositiveInt = 1
    loss_blocks: PositiveInt = 1
    mesh: Mesh = Mesh()
    save: Save = Save()
    log_every: PositiveInt = 10
    max_skipped: PositiveInt = 5
    sample_every: NonNegativeInt = 0
    sample_tokens: PositiveInt = 48
    samples: tuple[Prompt, ...] = ()
    tensorboard: bool = True

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


# ---------------------------------------------------------------------------- evaluate
class Translation(Part):
    """Translate a held-out parallel file greedily; chrF and BLEU (sacrebleu)."""

    source: str
    target: str
    source_language: Language
    target_language: Language
    template: str = "translation"
    limit: PositiveInt = 200
    max_new_tokens: PositiveInt = 128


class Chains(Part):
    """Held-out instructions answered as TaCo's chain, greedily: how many are whole, and chrF.

    The files and their form are those of a `taco` dataset.
    """

    english: str
    translated: str
    language: Language
    template: Literal["taco", "taco_legacy"] = "taco"
    prompt: Literal["alpaca", "guanaco"] = "alpaca"
    limit: PositiveInt = 100
    max_new_tokens: PositiveInt = 512


class Evaluate(Part):
    """What is measured, on the base before and on the trained model after.

    `baselines` names languages for which smoothed character n-gram models, fitted on
    `baseline_text`, are scored on the same text, so that a number has something beside it.
    """

    bits_per_byte: dict[Name, str] = Field(default_factory=dict)
    translation: dict[Name, Translation] = Field(default_factory=dict)
    chains: dict[Name, Chains] = Field(default_factory=dict)
    batch_size: PositiveInt = 8
    max_lines: PositiveInt = 2000
    baseline_text: dict[Name, tuple[str, ...]] = Field(default_factory=dict)


# ---------------------------------------------------------------------------- export
class Export(Part):
    """A Hugging Face folder, gated by reloading it: tokens and logits must match."""

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_shard_bytes: PositiveInt = 5_000_000_000
    gate_lines: PositiveInt = 200
    gate_on: tuple[str, ...] = ()
    title: str = ""
    license: str = "other"


# ---------------------------------------------------------------------------- recipe
class Recipe(Part):
    """One adaptation, in pipeline order: vocab, init, data, train, evaluate, export."""

    name: Name
    folder: str = "runs"
    seed: NonNegativeInt = 0
    base: Base
    vocab: Vocab
    init: Init = Init()
    data: Data
    train: Train
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @pydantic.model_validator(mode="after")
    def _mixtures_name_datasets(self) -> "Recipe":
        known = [*self.data.datasets, *self.data.mixtures]
        for where, weights in self._weights():
            for name in weights:
                if name not in known:
                    raise ValueError(
                        f"{where} mixes {name!r}, which is not in data.datasets or data.mixtures "
                        f"({', '.join(known)}){did_you_mean(name, known)}"
                    )
            if not sum(weights.values()) > 0:
                raise ValueError(f"the weights of {where} sum to zero")
        return self

    def _weights(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Every table of weights, with where it stands."""
        for name, mixture in self.data.mixtures.items():
            if mixture.of:  # that of a seqio mixture is known when its file has run
                yield f"mixture {name!r}", mixture.of
        for stage in self.train.stages:
            yield f"stage {stage.name!r}", stage.mixture
            if stage.ramp_to:
                yield f"the ramp of stage {stage.name!r}", stage.ramp_to
        if self.train.replay:
            yield "train.replay", self.train.replay

    @pydantic.model_validator(mode="after")
    def _vocabulary_fits_base(self) -> "Recipe":
        base, trains = self.base, isinstance(self.vocab, TrainVocab)
        if isinstance(base, Scratch) and not base.tokenizer and not trains:
            raise ValueError(
                "base.shape without base.tokenizer needs vocab.method: train; "
                f"got vocab.method: {self.vocab.method}"
            )
        if isinstance(base, Pretrained) and trains:
            raise ValueError(
                "vocab.method: train makes an unrelated vocabulary, which base.model's "
                "embeddings do not fit; use extend or keep"
            )
        return self

    @property
    def run_folder(self) -> epath.Path:
        return epath.Path(self.folder) / self.name


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint to append to an error: the nearest known name, or nothing.

    >>> did_you_mean("batchsize", ["batch_size", "seed"])
    "; did you mean 'batch_size'?"
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
