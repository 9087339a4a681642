"""Encodes and decodes packed rows, makes a batch's arrays of them, and keeps a dataset's manifest.

The bytes of a row, little endian:

    version u8, flags u8, number of segments u32, number of tokens u32
    the length of each segment u32
    the loss weights, with one of three layouts:
      all are 1          nothing
      all are 0 or 1     a bit per token                                               (MASKED)
      others             n u8, the n different weights f32, and which it is u8 per token (WEIGHTED)
    the tokens u16, or u32 if an id needs it (WIDE)
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import hashlib
import io
import json
import struct

from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.text import DataError

HEADER = struct.Struct("<BBII")
VERSION = 2
WIDE, MASKED, WEIGHTED = 1, 2, 4  # flags
MANIFEST = "manifest.json"
ORDER = "order.npy"  # row ids in reading order, of a dataset that is not shuffled
SAMPLES = "samples.json"  # reason -> some of the records left out for it


@dataclasses.dataclass(frozen=True)
class PackedRow:
    """Holds one row as it is stored: its documents one after another, without padding.

    Attributes:
      tokens: the target tokens; each document ends in eos unless the row cut it there.
      weights: of each token in the loss, float32; 0 for tokens that are read, not learnt.
      lengths: how many tokens each document (segment) has.
    """

    tokens: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray


def encode(documents: Sequence[tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Returns the bytes of a row that holds these (tokens, weights) documents, in this order."""
    lengths = np.array([len(tokens) for tokens, _ in documents], "<u4")
    tokens = np.concatenate([tokens for tokens, _ in documents])
    weights = np.concatenate([weights for _, weights in documents]).astype("<f4")
    assert lengths.all()
    wide = bool(tokens.max() > 0xFFFF)
    flag, written = _pack_weights(weights)
    header = HEADER.pack(VERSION, WIDE * wide | flag, len(lengths), len(tokens))
    return header + lengths.tobytes() + written + tokens.astype("<u4" if wide else "<u2").tobytes()


def _pack_weights(weights: np.ndarray) -> tuple[int, bytes]:
    ones = weights == 1
    if ones.all():
        return 0, b""
    if (ones | (weights == 0)).all():
        return MASKED, np.packbits(ones).tobytes()
    kinds, places = np.unique(weights, return_inverse=True)
    if len(kinds) > 255:
        raise DataError(f"a row with {len(kinds)} different loss weights; want at most 255")
    return WEIGHTED, bytes([len(kinds)]) + kinds.tobytes() + places.astype(np.uint8).tobytes()


def decode(data: bytes) -> PackedRow:
    """Decodes the bytes of a row that `encode` made; ValueError if they are damaged."""
    if len(data) < HEADER.size:
        raise DataError(f"a row of {len(data)} bytes is cut short; want at least {HEADER.size}")
    version, flags, segments, count = HEADER.unpack_from(data)
    if version != VERSION:
        raise DataError(f"a row of version {version}; this reader knows {VERSION}")
    dtype = np.dtype("<u4" if flags & WIDE else "<u2")
    at = HEADER.size + 4 * segments
    kinds = data[at] if flags & WEIGHTED and at < len(data) else 0
    size = 1 + 4 * kinds + count if flags & WEIGHTED else (count + 7) // 8 * bool(flags & MASKED)
    want = at + size + dtype.itemsize * count
    if len(data) != want:
        raise DataError(f"a row of {len(data)} bytes is damaged; its header says {want}")
    lengths = np.frombuffer(data, "<u4", segments, HEADER.size)
    if lengths.sum() != count:
        raise DataError(f"a row is damaged: segments of {lengths.sum()} tokens, {count} stored")
    if flags & WEIGHTED:
        places = np.frombuffer(data, np.uint8, count, at + 1 + 4 * kinds)
        if places.max() >= kinds:
            raise DataError(f"a row is damaged: weight {places.max()} of {kinds}")
        weights = np.frombuffer(data, "<f4", kinds, at + 1)[places]
    elif flags & MASKED:
        bits = np.frombuffer(data, np.uint8, size, at)
        weights = np.unpackbits(bits, count=count).astype(np.float32)
    else:
        weights = np.ones(count, np.float32)
    tokens = np.frombuffer(data, dtype, count, at + size).astype(np.int32)
    return PackedRow(tokens, weights, lengths.astype(np.int64))


def features(
    rows: Sequence[PackedRow], length: int, bos_id: int, pad_id: int
) -> dict[str, np.ndarray]:
    """Makes a batch of rows: five arrays [B, T] with seqio's names; T is `length`.

    The loss weights are float32, the others int32. Each document's input starts with bos and is
    its targets moved by one place. Padding has segment 0 and loss weight 0; only this tells it from
    a token, as documents may contain any id.

    >>> row = PackedRow(np.array([7, 8, 2, 9, 2]), np.array([0, 1, 1, 0.5, 1]), np.array([3, 2]))
    >>> for name, array_BT in features([row], length=6, bos_id=1, pad_id=0).items():
    ...     print(f"{name:21}", array_BT[0])
    decoder_target_tokens [7 8 2 9 2 0]
    decoder_input_tokens  [1 7 8 1 9 0]
    decoder_loss_weights  [0.  1.  1.  0.5 1.  0. ]
    decoder_segment_ids   [1 1 1 2 2 0]
    decoder_positions     [0 1 2 0 1 0]
    """
    shape = (len(rows), length)
    targets_BT, inputs_BT = (np.full(shape, pad_id, np.int32) for _ in range(2))
    segments_BT, positions_BT = (np.zeros(shape, np.int32) for _ in range(2))
    weights_BT = np.zeros(shape, np.float32)
    for b, row in enumerate(rows):
        n = len(row.tokens)
        if n > length:
            raise DataError(f"a row of {n} tokens does not fit a sequence length of {length}")
        starts = np.cumsum(row.lengths) - row.lengths
        targets_BT[b, :n] = row.tokens
        inputs_BT[b, 1:n] = row.tokens[:-1]
        inputs_BT[b, starts] = bos_id
        weights_BT[b, :n] = row.weights
        segments_BT[b, :n] = np.repeat(np.arange(1, len(starts) + 1), row.lengths)
        positions_BT[b, :n] = np.arange(n) - np.repeat(starts, row.lengths)
    return {
        "decoder_target_tokens": targets_BT,
        "decoder_input_tokens": inputs_BT,
        "decoder_loss_weights": weights_BT,
        "decoder_segment_ids": segments_BT,
        "decoder_positions": positions_BT,
    }


# ---------------------------------------------------------------------------- manifest
@dataclasses.dataclass(frozen=True)
class Shard:
    """Describes one file of rows: its name, rows, size and digest."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Describes a packed dataset; it is written last, so its presence means complete.

    Every record is packed as one document or left out: records == docs + sum(left_out.values()).

    Attributes:
      fingerprint: changes when the text, the tokenizer, the template or the packing does.
      language: FLORES code, or two joined by `-` for pairs.
      order: the order of reading; all but `shuffled` have their row ids in `order.npy`.
      left_out: reason -> how many records were left out for it.
      distinct: how many different texts the documents train on.
      scripts: ISO 15924 code -> letters of that script in the text that is trained on.
      bytes: UTF-8 bytes of the text that is trained on (no prompts).
      tokens: all tokens, eos included.
      loss_tokens: tokens that are trained on.
      cut: tokens of long documents that were cut off and are in no row.
      beyond: how many documents with a prompt have something to learn beyond their first row.
      source_rows: rows that records were made from; 0 where they do not come from rows.
      unread: field -> how many of those rows have it, though nothing reads it.
      absent: column of the recipe -> how many of those rows do not have it.
      in_tests: test file -> how many records were left out because they share text with it; empty
        where no records were compared.
      provenance: where its text comes from and under which licence, as
        `data.read.catalogues.provenance` says it; empty where it is from files.
    """

    name: str
    fingerprint: str
    language: str
    template: str
    order: str
    sequence_length: int
    bos_id: int
    eos_id: int
    pad_id: int
    tokenizer: str
    records: int
    left_out: dict[str, int]
    docs: int
    distinct: int
    scripts: dict[str, int]
    bytes: int
    tokens: int
    loss_tokens: int
    cut: int
    rows: int
    shards: tuple[Shard, ...]
    beyond: int = 0
    source_rows: int = 0
    unread: dict[str, int] = dataclasses.field(default_factory=dict)
    absent: dict[str, int] = dataclasses.field(default_factory=dict)
    in_tests: dict[str, int] = dataclasses.field(default_factory=dict)
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def fill(self) -> float:
        """Returns the share of the rows that is tokens, not padding."""
        return self.tokens / (self.rows * self.sequence_length)

    @property
    def content(self) -> str:
        """Returns a digest of the rows as they are read, whatever they were packed from.

        It is "" where no rows are written, as with seqio.
        """
        if not self.shards:
            return ""
        read = [self.order, self.sequence_length, self.bos_id, self.eos_id, self.pad_id]
        facts = [self.tokenizer, *read, *(shard.sha256 for shard in self.shards)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


MAX_BYTES, MAX_VALUES = 1 << 28, 1 << 24  # of manifest.json; a shard is some 400 bytes, 12 values


@dataclasses.dataclass(frozen=True)
class Count:
    """Counts what was packed, with the attributes of `Manifest`; two counts can be added."""

    records: int = 0
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    docs: int = 0
    scripts: Counter[str] = dataclasses.field(default_factory=Counter)
    bytes: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    cut: int = 0
    beyond: int = 0
    source_rows: int = 0
    unread: Counter[str] = dataclasses.field(default_factory=Counter)
    absent: Counter[str] = dataclasses.field(default_factory=Counter)
    in_tests: Counter[str] = dataclasses.field(default_factory=Counter)

    def __add__(self, other: "Count") -> "Count":
        names = [field.name for field in dataclasses.fields(self)]
        return Count(**{name: getattr(self, name) + getattr(other, name) for name in names})


def write_manifest(manifest: Manifest, folder: epath.Path) -> None:
    """Writes `manifest.json`, whole or not at all."""
    fields = dataclasses.asdict(manifest)
    for field in ("in_tests", "provenance"):
        if not fields[field]:  # as it was before there were these
            del fields[field]
    storage.write_json(folder / MANIFEST, fields)


def read_manifest(folder: epath.PathLike) -> Manifest:
    """Reads `manifest.json`; ValueError if there is none, or none of this version."""
    path = epath.Path(folder) / MANIFEST
    if not path.exists():
        raise DataError(f"{path}: no such file; run `lrl data` to pack this dataset")
    try:
        fields = storage.read_json(path, MAX_BYTES, MAX_VALUES)
        shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
        return Manifest(**fields, shards=shards)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise DataError(
            f"{path}: is not a manifest of this version ({e}); run `lrl data` again"
        ) from None


def read_order(folder: epath.PathLike, manifest: Manifest) -> np.ndarray | None:
    """Reads `order.npy`: row ids in reading order; None for a shuffled dataset.

    Raises ValueError if the file is missing, or is not an order of this dataset's rows.
    """
    if manifest.order == "shuffled":
        return None
    path = epath.Path(folder) / ORDER
    try:
        order = np.load(io.BytesIO(path.read_bytes()))
    except (OSError, ValueError, EOFError, MemoryError) as e:
        raise DataError(f"{path}: cannot be read ({e}); run `lrl data` again") from None
    if not np.array_equal(np.sort(order), np.arange(manifest.rows)):
        raise DataError(f"{path}: is not an order of {manifest.rows} rows; run `lrl data` again")
    return order
