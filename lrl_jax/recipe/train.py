"""Describes the section of a recipe that says how to train.

Stages, what learns in each and how fast, optimizer, precision, memory, devices, saving, logging.
"""

from collections.abc import Iterator, Mapping
import itertools
import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from lrl_jax.recipe.data import Name
from lrl_jax.recipe.vocab import (
    NUMBER,
    Language,
    Names,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
    is_default,
)

Remat = Literal["nothing", "qk", "qkv", "projections", "dots", "full", "offload", "auto"]


class Schedule(Section):
    """Describes the learning rate over a stage: a linear warm-up to `peak`, then `kind`."""

    peak: PositiveFloat
    kind: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """How it falls after the warm-up; `constant` does not, and `wsd` stays at the peak and falls
    linearly over the last `decay` of the stage."""
    warmup: NonNegativeInt = 0
    """How many steps the warm-up has."""
    final: Share = 0.1
    """The last learning rate as a share of `peak`."""
    decay: Share = 0.1
    """The share of the steps in which `wsd` falls."""


class Rule(Section):
    """Says how parameters learn whose path matches the regular expression `match`.

    With `rows: new`, only the rows of new tokens in embed_VD and unembed_DV learn. The first rule
    that matches a parameter decides.
    """

    match: str
    schedule: Schedule | Literal["frozen"]
    rows: Literal["all", "new"] = "all"


class Stage(Section):
    """Describes a stretch of training on one mixture.

    Neighbouring stages with equal `learn` tables share an optimizer and a schedule over their joint
    length; another table starts a new optimizer.
    """

    name: Name
    steps: NonNegativeInt = 0
    """How many steps the stage has, each of `train.step_rows` rows; give this or `epochs`."""
    epochs: NonNegativeFloat = 0.0
    """How often every dataset of the mixture is read from end to end; the weights multiply it."""
    mixture: dict[Name, NonNegativeFloat] = Field(min_length=1)
    """Name of a dataset or mixture -> weight."""
    weights: Literal["tokens", "examples"] = "tokens"
    """Whether the weights are shares of training tokens or of examples."""
    ramp_to: dict[Name, NonNegativeFloat] = Field(default_factory=dict)
    """The mixture at the end of the stage; the weights move to it in equal steps."""
    learn: tuple[Rule, ...] = Field(min_length=1)

    def _misfits(self) -> Iterator[str]:
        if bool(self.steps) == bool(self.epochs):
            yield f"stage {self.name!r}: give steps or epochs, one of them"
        if self.ramp_to and self.steps == 1:
            yield f"stage {self.name!r}: a ramp takes at least 2 steps, got 1"
        if self.epochs and (self.ramp_to or self.weights == "examples"):
            yield f"stage {self.name!r}: epochs leave no room for ramp_to or weights"


class Lora(Section):
    """Adds low-rank adapters to every layer weight whose path matches (arXiv 2106.09685).

    Adapters add zero at first. They learn like any parameter, by `match: lora` in a learn table.
    """

    match: str = "layers/(q|k|v|o|gate|up|down)_"
    """Regular expression for paths of weights, as in a learn table."""
    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    """The product of an adapter's two matrices is scaled by alpha / rank."""
    rank_stabilised: bool = False
    """Whether it is scaled by alpha / sqrt(rank) instead (arXiv 2312.03732)."""


class Optimizer(Section):
    """Describes how gradients change parameters. Weight decay does not apply to norms and biases.

    The same `peak` and weight decay have about the same effect under every kind.
    """

    kind: Literal["adamw", "adafactor", "muon"] = "adamw"
    """`muon` updates the matrices of layers; all other parameters learn by AdamW."""
    b1: Share = 0.9
    """Decay of the first moment (for muon its momentum, 0.95 in its paper). With `adafactor`, 0
    keeps no first moment, which saves almost all of the optimizer's memory."""
    b2: Share = 0.95
    """Decay of the second moment (with `adafactor`, the upper bound of it)."""
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    clip: PositiveFloat = 1.0
    moments: Literal["float32", "bfloat16", "int8"] = "float32"
    """How moments are stored between steps. They are rounded at random, so that they are right on
    average; int8 is off by at most 1/8 each time, and the root of the second moment by 1/16. The
    small second moment of `adafactor` stays float32."""
    moments_on: Literal["device", "host"] = "device"
    """`host` keeps the optimizer's state and the running average in the host's memory between
    steps."""
    rounding: Literal["nearest", "stochastic"] = "nearest"
    """How updated parameters are rounded that are stored in bfloat16. Rounding to the nearest value
    loses small updates; `stochastic` keeps them on average."""


class Save(Section):
    """Says when to save: every `minutes` and every `steps`; 0 turns either of them off."""

    minutes: NonNegativeFloat = 10.0
    steps: NonNegativeInt = 0
    keep: PositiveInt = 2


class Mesh(Section):
    """Says how many devices each axis has; one axis may be -1, for all devices that are left."""

    data: Annotated[int, NUMBER] = 1
    """Number of whole copies of the model, which read different rows."""
    fsdp: Annotated[int, NUMBER] = -1
    """Over how many devices parameters are split that are gathered a layer at a time."""
    tensor: Annotated[int, NUMBER] = 1
    """Over how many devices heads, feed-forward and vocabulary are split."""
    slices: PositiveInt = 1
    """Number of groups of chips with a slower network between them; `data` is a multiple of it."""
    sequence: bool = False
    """Whether tokens are split over the tensor axis between blocks."""


class Prompt(Section):
    """Holds a fixed prompt whose continuation is shown during training."""

    template: str = "plain"
    text: str
    source_language: Language = "eng_Latn"
    target_language: Language = "eng_Latn"
    language_names: Names = Field(default_factory=dict, exclude_if=is_default)
    """English names of its languages; those of the recipe's `languages` if empty."""


def _is_none(value: object) -> bool:
    """Tells pydantic to leave a field out of what is written, as recipes do that are older."""
    return value == "none"


# What a step of a ramp has behind the name of its stage in a plan: `tune.01`, `tune.02`, ...
RAMP_STEP = re.compile(r"\.\d\d\Z")
WATCHING = frozenset({"stall_seconds", "tracker"})  # fields that change nothing of a training


class Train(Section):
    """Says how to train: stages, batch, optimizer, precision, memory, saving, logging."""

    batch_size: Annotated[PositiveInt, Field(le=1 << 24)]
    step_rows: NonNegativeInt = 0
    """How many rows a step of the recipe counts, in `steps` of stages, `warmup`, `save.steps` and
    `sample_every`; 0 is the batch size with which the run began, so that every stage reads its own
    rows whatever the batch size becomes."""
    accumulate: PositiveInt = 1
    """Into how many parts a batch is split; a step computes them one after the other."""
    stages: tuple[Stage, ...] = Field(min_length=1)
    replay: dict[Name, Share] = Field(default_factory=dict)
    """Name of a dataset or mixture -> its share of every stage, against forgetting; the weights of
    a stage divide what is left."""
    lora: Lora | None = None
    """Adapters beside the weights; without it there are none."""
    frozen_dtype: Literal["as_is", "bfloat16", "int8", "nf4"] = "as_is"
    """How weights that no stage trains are stored."""
    optimizer: Optimizer = Optimizer()
    ema: Share = 0.0
    """Decay of a running average of the parameters that learn; 0 keeps none."""
    z_loss: NonNegativeFloat = 0.0
    """Weight of the squared log of the softmax's normaliser (PaLM, arXiv 2204.02311)."""
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Remat = "nothing"
    """What a layer keeps for its backward pass, from least memory to most; `offload` keeps it in
    the host's memory; `auto` compiles the step to find the most that fits."""
    unroll: PositiveInt = 1
    """How many layers a step of the scan has; small models train faster with all of them."""
    loss_blocks: PositiveInt = 1
    """Into how many blocks of the vocabulary the loss is split; with more blocks, fewer logits are
    in memory at once."""
    mesh: Mesh | Literal["auto"] = Mesh()
    """`auto` chooses a mesh for the machine, fsdp first (lrl_jax.devices.presets)."""
    pod: str = ""
    """The machine that the recipe is meant for, such as v5e-64; `lrl fit` compiles for it."""
    save: Save = Save()
    log_every: PositiveInt = 10
    max_skipped: PositiveInt = 5
    """After how many steps in a row without a finite gradient the run stops."""
    stall_seconds: NonNegativeFloat = 300.0
    """After how many seconds without progress the run ends with code 76 and writes where it stands;
    at least ten median steps, and six times as long to compile, save or sample. 0 never ends it."""
    sample_every: NonNegativeInt = 0
    sample_tokens: PositiveInt = 48
    samples: tuple[Prompt, ...] = ()
    tensorboard: bool = True
    tracker: Literal["none", "wandb", "trackio"] = Field(default="none", exclude_if=_is_none)
    """Who shows the metrics beside TensorBoard: Weights & Biases or Trackio, whose library is
    installed by the user. What fails in it cannot stop a run."""
    profile: str = ""
    """First and last step to trace, such as "10:15"; traces go to train/profile."""

    def _misfits(self) -> Iterator[str]:
        names = [stage.name for stage in self.stages]
        labels = [RAMP_STEP.sub("", name) for name in names]
        for i, (name, label) in enumerate(zip(names, labels, strict=True)):
            if name in names[:i]:
                yield f"two stages are called {name!r}; give each a name of its own"
            elif label in labels[:i]:
                yield (
                    f"stages {names[labels.index(label)]!r} and {name!r}: the steps of a ramp of "
                    f"{label!r} have such names; call them otherwise, such as {label}_{i + 1}"
                )

    @property
    def steps(self) -> int:
        """Returns the number of steps of all stages together, in batches of `rows_per_step`."""
        return sum(stage.steps for stage in self.stages)

    @property
    def rows_per_step(self) -> int:
        """Returns how many rows a step of the recipe counts."""
        return self.step_rows or self.batch_size

    @property
    def ends(self) -> tuple[int, ...]:
        """Returns for each stage the global row after its last one; `epochs` must be steps."""
        return tuple(itertools.accumulate(s.steps * self.rows_per_step for s in self.stages))

    def traced(self) -> tuple[int, ...]:
        """Returns the first and the last step that `profile` names; () for none.

        What is no range of steps of this run is a ValueError.
        """
        if not self.profile:
            return ()
        match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", self.profile, re.ASCII)
        first, last = map(int, match.groups()) if match else (0, 0)
        # Other batches than the recipe counts make another number of steps.
        total = self.steps if self.rows_per_step == self.batch_size else last
        if not 1 <= first <= last <= total:
            raise ValueError(
                f"train.profile: {self.profile!r}; want the first and the last step to trace, "
                f"such as 10:15, of 1 to {self.steps}"
            )
        return first, last

    @pydantic.model_validator(mode="after")
    def _traces_steps_it_has(self) -> "Train":
        if not any(stage.epochs for stage in self.stages):  # with epochs, steps are counted later
            self.traced()
        return self

    @property
    def axes(self) -> Mesh:
        """Returns the mesh; `auto` must have been replaced by a mesh before."""
        assert isinstance(self.mesh, Mesh), "auto is settled by fit.compile.settled"
        return self.mesh


def saved_rows_per_step(train: Mapping[str, Any]) -> int:
    """Returns `rows_per_step` of a `train` section that a checkpoint holds as plain data.

    Earlier versions had no `step_rows`: their steps counted the batch size that they had.
    """
    return train.get("step_rows") or train["batch_size"]
