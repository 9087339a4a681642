"""Describes the section of a recipe that says how to train.

Stages, what learns in each and how fast, optimizer, precision, memory, devices, saving, logging.
"""

import re
from typing import Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lrl_jax.recipe.data import Name
from lrl_jax.recipe.vocab import Language, Section, Share

Remat = Literal["nothing", "qk", "qkv", "projections", "dots", "full", "offload", "auto"]


class Schedule(Section):
    """Describes the learning rate over a stage: linear warm-up, then `kind` down to `final` x
    `peak`.

    Attributes:
      kind: `wsd` stays at the peak and comes down, linearly, over the last `decay` of the stage.
    """

    peak: PositiveFloat
    kind: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    warmup: NonNegativeInt = 0
    final: Share = 0.1
    decay: Share = 0.1


class Rule(Section):
    """Says how the parameters learn whose path matches the regular expression `match`.

    `rows: new` lets only the rows of new tokens move, in embed_VD and unembed_DV.
    The first rule that matches a parameter decides it.
    """

    match: str
    schedule: Schedule | Literal["frozen"]
    rows: Literal["all", "new"] = "all"


class Stage(Section):
    """Describes a stretch of training on one mixture.

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


class Lora(Section):
    """Adds low-rank adapters to every layer weight whose path matches (arXiv 2106.09685).

    They add zero at first and learn like any parameter: `match: lora` in a learn table.

    Attributes:
      match: regular expression, as in a learn table.
      alpha: an adapter's product is scaled by alpha / rank, or
      rank_stabilised: by alpha / sqrt(rank) (arXiv 2312.03732).
    """

    match: str = "layers/(q|k|v|o|gate|up|down)_"
    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    rank_stabilised: bool = False


class Optimizer(Section):
    """Describes how gradients change parameters. Weight decay does not apply to norms and biases.

    One `peak` and one weight decay mean about the same under every kind.

    Attributes:
      kind: `muon` is for matrices of layers; the rest learns by AdamW beside it.
      b1: decay of the first moment (muon's momentum: 0.95 in its paper); with `adafactor`, 0 keeps
        none, and almost no memory.
      b2: decay of the second moment (with `adafactor`, its upper bound).
      moments: how they are stored between steps, rounded at random so that they are right on
        average; int8 is at most 1/8 (the second moment's root 1/16) off each time. The small second
        moment of `adafactor` stays float32.
      moments_on: `host` keeps the optimizer's state and the running average in the host's memory
        between steps.
      rounding: of updated parameters that are stored in bfloat16; `stochastic` keeps on average
        what rounding to the nearest loses of small steps.
    """

    kind: Literal["adamw", "adafactor", "muon"] = "adamw"
    b1: Share = 0.9
    b2: Share = 0.95
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    clip: PositiveFloat = 1.0
    moments: Literal["float32", "bfloat16", "int8"] = "float32"
    moments_on: Literal["device", "host"] = "device"
    rounding: Literal["nearest", "stochastic"] = "nearest"


class Save(Section):
    """Says when to save: every `minutes` and every `steps` (0: not by that clock)."""

    minutes: NonNegativeFloat = 10.0
    steps: NonNegativeInt = 0
    keep: PositiveInt = 2


class Mesh(Section):
    """Describes how many devices lie along each axis; one axis may be -1, for all that are left.

    Attributes:
      data: whole copies of the model, which read different rows.
      fsdp: parameters are split over these too, and gathered a layer at a time.
      tensor: heads, feed-forward and vocabulary are split over these.
      slices: groups of chips with a slower network between them; `data` is a multiple.
      sequence: between blocks, tokens are split over the tensor axis.
    """

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
    slices: PositiveInt = 1
    sequence: bool = False


class Prompt(Section):
    """Holds a fixed prompt whose continuation is shown during training."""

    template: str = "plain"
    text: str
    source_language: Language = "eng_Latn"
    target_language: Language = "eng_Latn"


class Train(Section):
    """Says how to train: stages, batch, optimizer, precision, memory, saving, logging.

    Attributes:
      accumulate: parts in which a batch is read one after the other, for one step.
      lora: adapters beside the weights; without it there are none.
      frozen_dtype: how weights that no stage trains are stored.
      ema: decay of a running average of what learns, beside it; 0: none is kept.
      remat: what a layer keeps for its backward pass, from least memory to most; `offload` keeps
        it in the host's memory; `auto` compiles the step to find the most that fits.
      unroll: layers in a step of the scan; small models train faster with all of them.
      loss_blocks: vocabulary blocks of the loss; more hold less of the logits at a time.
      z_loss: weight of the squared log of the softmax's normaliser (PaLM, arXiv 2204.02311).
      mesh: `auto` is chosen for the machine by a rule (lrl_jax.devices.presets): fsdp first.
      pod: the machine it is meant for, such as v5e-64: what `lrl fit` compiles for.
      profile: first and last step to trace, such as "10:15"; goes to train/profile.
      max_skipped: steps in a row without a finite gradient after which the run stops.
      replay: dataset or mixture name -> share of every stage, against forgetting; the weights of
        a stage share what is left.
    """

    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    stages: tuple[Stage, ...] = Field(min_length=1)
    replay: dict[Name, Share] = Field(default_factory=dict)
    lora: Lora | None = None
    frozen_dtype: Literal["as_is", "bfloat16", "int8", "nf4"] = "as_is"
    optimizer: Optimizer = Optimizer()
    ema: Share = 0.0
    z_loss: NonNegativeFloat = 0.0
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Remat = "nothing"
    unroll: PositiveInt = 1
    loss_blocks: PositiveInt = 1
    mesh: Mesh | Literal["auto"] = Mesh()
    pod: str = ""
    save: Save = Save()
    log_every: PositiveInt = 10
    max_skipped: PositiveInt = 5
    sample_every: NonNegativeInt = 0
    sample_tokens: PositiveInt = 48
    samples: tuple[Prompt, ...] = ()
    tensorboard: bool = True
    profile: str = ""

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def traced(self) -> tuple[int, ...]:
        """Returns the first and the last step that `profile` names; () for none.

        Raises:
          ValueError: no such range, or not in this run.
        """
        if not self.profile:
            return ()
        match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", self.profile, re.ASCII)
        first, last = map(int, match.groups()) if match else (0, 0)
        if not 1 <= first <= last <= self.steps:
            raise ValueError(
                f"train.profile: {self.profile!r}; want the first and the last step to trace, "
                f"such as 10:15, of 1 to {self.steps}"
            )
        return first, last

    @pydantic.model_validator(mode="after")
    def _traces_steps_it_has(self) -> "Train":
        if not any(stage.epochs for stage in self.stages):  # else the steps are not known yet
            self.traced()
        return self

    @property
    def axes(self) -> Mesh:
        """Returns the mesh, once `auto` has been settled."""
        assert isinstance(self.mesh, Mesh), "auto is settled by fit.compile.settled"
        return self.mesh
