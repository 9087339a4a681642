"""Says of one stage of a recipe what its mixture is, how much it reads, and how often at most.

stage = of(recipe, manifests, name="continue", max_epochs=16)
stage.caps                       # the largest weight of each dataset
stage.epochs(weights_D)          # how often the whole run reads each dataset, [D]
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math

import numpy as np

from lrl_jax.data.feed import mixture as mixtures
from lrl_jax.data.pack.rows import Manifest
from lrl_jax.laws.mixtures.law import MixtureDesign
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.train import Stage
from lrl_jax.recipe.vocab import did_you_mean

Manifests = Mapping[str, Manifest]


@dataclasses.dataclass(frozen=True)
class MixtureStage:
    """Holds what bounds and tables of a mixture need to know of a stage.

    Attributes:
      name: the stage's.
      datasets: keys of its mixture: datasets, or mixtures of them.
      own_D: the recipe's weights, as shares that sum to 1.
      tokens: what the stage reads, without replay.
      sizes_D: tokens of each dataset.
      elsewhere_D: tokens that replay and other stages read of it.
      most_D: tokens that the stage may read of it; infinite where nothing bounds them.
    """

    name: str
    datasets: tuple[str, ...]
    own_D: np.ndarray
    tokens: float
    sizes_D: np.ndarray
    elsewhere_D: np.ndarray
    most_D: np.ndarray

    @property
    def caps(self) -> dict[str, float]:
        """Returns the largest weight of each dataset that its epochs allow; at most 1."""
        caps_D = np.clip(self.most_D / self.tokens, 0, 1)
        return dict(zip(self.datasets, caps_D.tolist(), strict=True))

    def epochs(self, weights_D: np.ndarray) -> np.ndarray:
        """Returns how often the whole run reads each dataset under these weights, [D]."""
        return (weights_D * self.tokens + self.elsewhere_D) / self.sizes_D


def chosen(recipe: Recipe, name: str) -> int:
    """Returns the index of the stage that is named; of the longest one for ''.

    Raises:
      ValueError: no such stage, or one whose mixture a law does not describe.
    """
    stages = recipe.train.stages
    names = [stage.name for stage in stages]
    if name and name not in names:
        near = did_you_mean(name, names)
        raise ValueError(f"--stage {name}: there are {', '.join(names)}{near}")
    index = names.index(name) if name else max(range(len(stages)), key=lambda i: stages[i].steps)
    stage = stages[index]
    where = f"stage {stage.name!r}"
    if len(stage.mixture) < 2:
        raise ValueError(
            f"{where} reads {', '.join(stage.mixture)} alone; a mixture has 2 datasets or more: "
            "add those to be tried, with weight 0 if they are new, or name another --stage"
        )
    if stage.ramp_to:
        raise ValueError(f"{where} moves to another mixture (ramp_to); a law is of one that stays")
    if stage.weights == "examples":
        raise ValueError(f"{where} has weights of examples; give them as shares of tokens")
    if not stage.steps:
        raise ValueError(f"{where} has epochs, which read every dataset whole; give it steps")
    return index


def of(recipe: Recipe, manifests: Manifests, name: str, max_epochs: float) -> MixtureStage:
    """Returns a stage whose datasets have been packed.

    Args:
      max_epochs: how often the run may read a dataset; a smaller `max_epochs` of its own holds.
    """
    _refuse_no_epochs(max_epochs)
    index = chosen(recipe, name)
    stage = recipe.train.stages[index]
    read = [
        mixtures.tokens_read(manifests, stages)
        for _, stages in mixtures.by_stage(recipe, manifests)
    ]
    sizes = {name: float(manifest.tokens) for name, manifest in manifests.items()}
    whole, replay = math.fsum(read[index].values()), recipe.train.replay
    taken = math.fsum(replay.values())
    elsewhere = {
        name: math.fsum(tokens.get(name, 0) for i, tokens in enumerate(read) if i != index)
        for name in sizes
    }
    if taken:
        for name, share in mixtures.shares(recipe.data, replay, sizes).items():
            elsewhere[name] += share * taken * whole
    limits = {
        name: min(recipe.data.datasets[name].max_epochs or math.inf, max_epochs) * size
        for name, size in sizes.items()
    }
    inside = [mixtures.shares(recipe.data, {name: 1.0}, sizes) for name in stage.mixture]
    most = [
        min((limits[n] - elsewhere[n]) / share for n, share in shares.items()) for shares in inside
    ]
    return MixtureStage(
        stage.name,
        tuple(stage.mixture),
        _shares(stage),
        whole * (1 - taken),
        np.array([math.fsum(sizes[n] for n in shares) for shares in inside]),
        np.array([math.fsum(elsewhere[n] for n in shares) for shares in inside]),
        np.maximum(most, 0.0),
    )


def of_design(design: MixtureDesign, max_epochs: float) -> MixtureStage:
    """Returns the stage that small runs were made of, from what they noted."""
    _refuse_no_epochs(max_epochs)
    sizes_D = np.array([design.sizes[name] for name in design.mixture])
    return MixtureStage(
        design.stage,
        tuple(design.mixture),
        np.array([*design.mixture.values()]),
        design.tokens,
        sizes_D,
        np.zeros(len(sizes_D)),
        sizes_D * max_epochs,
    )


def _refuse_no_epochs(max_epochs: float) -> None:
    if not max_epochs > 0:
        raise ValueError(f"--max-epochs {max_epochs:g}: want more than 0")


def with_tokens(stage: MixtureStage, tokens: float) -> MixtureStage:
    """Returns the stage as if it read another number of tokens."""
    return dataclasses.replace(stage, tokens=tokens)


def refuse_other_datasets(stage: MixtureStage, datasets: Sequence[str]) -> None:
    """Raises ValueError unless a law is of the same datasets as the stage's mixture."""
    if set(stage.datasets) != set(datasets):
        raise ValueError(
            f"the law is of {', '.join(datasets)}, and stage {stage.name!r} mixes "
            f"{', '.join(stage.datasets)}: name the stage of the small runs with --stage, give it "
            "those datasets, or run them again: lrl laws mixture run"
        )


def amounts_read(recipe: Recipe, manifests: Manifests) -> tuple[float, float]:
    """Returns the tokens and the bytes of text that the last stage of a recipe reads."""
    *_, (_, stages) = mixtures.by_stage(recipe, manifests)
    return mixtures.amounts_read(manifests, stages)


def _shares(stage: Stage) -> np.ndarray:
    weights_D = np.array([*stage.mixture.values()], float)
    return weights_D / weights_D.sum()
