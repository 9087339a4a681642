"""Checks what a TPU is called, of which type and where, before anything is asked of Google.

    tpu = Tpu("tamil", "europe-west4-b", "my-project", "v5litepod-64", spot=True)
    tpu.hosts, tpu.nodes, tpu.topology        (16, ("tamil",), "8x8")

Nothing here needs a library: a laptop without JAX launches. Sizes and hosts are those of
cloud.google.com/tpu/docs (v4, v5e, v5p, v6e), zones those of its page regions-zones, and what a
grant of the TPU Research Cloud gives was read in seven public copies of its e-mail, all the same
(2025 and 2026); all were looked up on 2026-11-30.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import difflib
import re

# The number in a type's name -> chips along each side.
SQUARES = {
    1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16",
}  # fmt: skip
CUBES = {  # named by cores, two a chip
    8: "2x2x1", 16: "2x2x2", 32: "2x2x4", 64: "2x4x4", 128: "4x4x4", 256: "4x4x8", 512: "4x8x8",
    1024: "8x8x8", 2048: "8x8x16", 4096: "8x16x16",
}  # fmt: skip
CHIPS_OF_HOST = 4  # of a slice of several hosts
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z0-9]+")
MOST_SLICES = 256  # far above any grant; a larger number is a slip of the keyboard


@dataclasses.dataclass(frozen=True)
class Generation:
    """Describes a generation of TPUs.

    Attributes:
      prefix: what its types begin with, in Google's spelling.
      sizes: the number in the name of a type -> chips along each side.
      cores: how many of that number a chip counts for.
      software: the runtime version that is asked for.
      gke: its name in a node selector of GKE.
      zones: where it can be had.
    """

    prefix: str
    sizes: Mapping[int, str]
    cores: int
    software: str
    gke: str
    zones: tuple[str, ...]


FAMILIES: Mapping[str, Generation] = {
    "v4": Generation("v4", CUBES, 2, "tpu-ubuntu2204-base", "tpu-v4-podslice", ("us-central2-b",)),
    "v5e": Generation(
        "v5litepod", SQUARES, 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice",
        ("europe-west4-b", "us-central1-a", "us-south1-a", "us-west1-c", "us-west4-a"),
    ),
    "v5p": Generation(
        "v5p", CUBES, 2, "v2-alpha-tpuv5", "tpu-v5p-slice",
        ("europe-west4-b", "us-central1-a", "us-east5-a"),
    ),
    "v6e": Generation(
        "v6e", SQUARES, 1, "v2-alpha-tpuv6e", "tpu-v6e-slice",
        ("asia-northeast1-b", "europe-west4-a", "us-central1-b", "us-east1-d", "us-east5-a",
         "us-east5-b"),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Grant:
    """Says what the TPU Research Cloud pays for in a zone; anything else is billed."""

    zone: str
    family: str
    chips: int
    spot: bool


GRANTS = (
    Grant("us-central2-b", "v4", 32, spot=False),
    Grant("us-central2-b", "v4", 32, spot=True),
    Grant("us-central1-a", "v5e", 64, spot=True),
    Grant("europe-west4-b", "v5e", 64, spot=True),
    Grant("us-east1-d", "v6e", 64, spot=True),
    Grant("europe-west4-a", "v6e", 64, spot=True),
)


@dataclasses.dataclass(frozen=True)
class Tpu:
    """Names a TPU: one slice, or several that train together.

    Attributes:
      name: of the request; that of its slice too, where there is one.
      type: "" where it is not needed, as for deleting.
      slices: how many.
      spot: whether it may be taken away at any time, and costs less.
      reserved: whether it comes out of a reservation.

    Raises:
      ValueError: a name that Google would refuse; with the nearest one that it takes.
    """

    name: str
    zone: str
    project: str
    type: str = ""
    slices: int = 1
    spot: bool = False
    reserved: bool = False
    unlisted: bool = dataclasses.field(default=False, repr=False)  # newer than our tables

    def __post_init__(self):
        _refuse_name(self.name)
        _refuse_project(self.project)
        _refuse_zone(self.zone, self.unlisted)
        if self.type:
            _refuse_type(self.type, self.zone, self.unlisted)
        if not 1 <= self.slices <= MOST_SLICES:
            raise ValueError(
                f"--node-count {self.slices}: want a number of slices from 1 to {MOST_SLICES}"
            )
        if self.spot and self.reserved:
            raise ValueError("--spot and --reserved: a TPU is one of them; leave one out")

    @property
    def nodes(self) -> tuple[str, ...]:
        """Returns the name of each slice, as gcloud has it."""
        if self.slices == 1:
            return (self.name,)
        return tuple(f"{self.name}-{i}" for i in range(self.slices))

    @property
    def family(self) -> Generation:
        """Returns the generation of its type."""
        return FAMILIES[_split(self.type)[0]]

    @property
    def topology(self) -> str:
        """Returns the chips along each side of a slice."""
        kind, size = _split(self.type)
        return FAMILIES[kind].sizes[size]

    @property
    def chips(self) -> int:
        """Returns the number of chips of a slice."""
        kind, size = _split(self.type)
        return size // FAMILIES[kind].cores

    @property
    def hosts(self) -> int:
        """Returns the number of hosts of a slice: up to 8 chips of v5e and v6e share one."""
        alone = 8 if self.family.cores == 1 else CHIPS_OF_HOST
        return 1 if self.chips <= alone else self.chips // CHIPS_OF_HOST

    @property
    def region(self) -> str:
        """Returns the region of its zone."""
        return region(self.zone)

    def free(self) -> bool:
        """Tells whether a usual grant of the TPU Research Cloud pays for it."""
        if not self.type or self.reserved:
            return False
        kind, _ = _split(self.type)
        asked = (self.zone, kind, self.spot)
        chips = self.chips * self.slices
        return any((g.zone, g.family, g.spot) == asked and chips <= g.chips for g in GRANTS)


def region(zone: str) -> str:
    """Returns the region of a zone.

    >>> region("europe-west4-b")
    'europe-west4'
    """
    return zone.rpartition("-")[0]


def zones() -> list[str]:
    """Returns every zone with TPUs."""
    return sorted({zone for family in FAMILIES.values() for zone in family.zones})


def types(families: Iterable[str] = tuple(FAMILIES)) -> list[str]:
    """Returns every type of these generations."""
    every = ((FAMILIES[name].prefix, FAMILIES[name].sizes) for name in families)
    return [f"{prefix}-{size}" for prefix, sizes in every for size in sizes]


def near_name(name: str) -> str:
    """Returns the nearest name that Google takes.

    >>> near_name("Tamil's 1st run"), near_name("3"), near_name("!")
    ('tamil-s-1st-run', 'tpu-3', 'tpu')
    """
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    begun = plain if plain[:1].isalpha() else f"tpu-{plain}".strip("-")
    return begun[:63].rstrip("-")


def _split(type: str) -> tuple[str, int]:
    """Returns the generation and the number of a type; ("", 0) where there is no such type."""
    prefix, _, size = type.rpartition("-")
    kind = next((name for name, family in FAMILIES.items() if family.prefix == prefix), "")
    number = int(size) if size.isdecimal() else 0
    return (kind, number) if kind and number in FAMILIES[kind].sizes else ("", 0)


def _refuse_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"--name {name!r}: want small letters, digits and dashes, a letter first, 63 at most; "
            f"such as {near_name(name)}"
        )


def _refuse_project(project: str) -> None:
    if not PROJECT.fullmatch(project):
        near = near_name(project)[:30].rstrip("-")
        raise ValueError(
            f"--project {project!r}: want the id of a project, 6 to 30 small letters, digits and "
            f"dashes, such as {near if len(near) > 5 else 'my-project'}; `gcloud projects list` "
            "lists yours"
        )


def _refuse_zone(zone: str, unlisted: bool) -> None:
    if zone in zones() or (unlisted and ZONE.fullmatch(zone)):
        return
    near = _nearest(zone, zones())
    raise ValueError(
        f"--zone {zone!r}: no zone with TPUs; did you mean {near}? There are {', '.join(zones())}; "
        "--unlisted takes one that is newer than this list"
    )


def _refuse_type(type: str, zone: str, unlisted: bool) -> None:
    kind, _ = _split(type)
    if not kind:
        near = _nearest(_spelt(type), types())
        raise ValueError(
            f"--type {type!r}: no such TPU; did you mean {near}? v5e is v5litepod-CHIPS, v6e is "
            "v6e-CHIPS; v4-CORES and v5p-CORES count two a chip"
        )
    if zone not in FAMILIES[kind].zones and not unlisted:
        here = [name for name, family in FAMILIES.items() if zone in family.zones]
        raise ValueError(
            f"--type {type}: {kind} is not in {zone}, which has {', '.join(here) or 'none we list'}"
            f"; {kind} is in {', '.join(FAMILIES[kind].zones)}. --unlisted asks all the same"
        )


def _spelt(type: str) -> str:
    """Returns a type in Google's spelling, where ours was given: v5e-64 is v5litepod-64."""
    kind, dash, size = type.lower().replace("_", "-").replace(" ", "-").rpartition("-")
    return f"{FAMILIES[kind].prefix}{dash}{size}" if kind in FAMILIES else type.lower()


def _nearest(name: str, names: Iterable[str]) -> str:
    every = [*names]
    return next(iter(difflib.get_close_matches(name.lower(), every, n=1, cutoff=0)), every[0])
