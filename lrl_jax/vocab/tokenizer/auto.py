"""Encodes text by the `tokenizers` library: a tokenizer.json itself, or as transformers loads it.

`AutoTokenizer` decides what is in the tokenizer of a folder, as for users of an export. Texts then
go straight to that, for transformers adds masks and copies that take ten times as long.
"""

from collections.abc import Iterator, Sequence
import contextlib
import tempfile
from typing import Any

from etils import epath
import tokenizers

from lrl_jax import storage, terminal
from lrl_jax.vocab.tokenizer.types import MAX_BYTES

FORMS = (".json", ".model", ".jinja", ".txt")  # ends of names of what a tokenizer consists of
SIDES = ("padding_side", "truncation_side")


class FastCodec:
    """Encodes text by the `tokenizers` library; special tokens in text are read as text."""

    def __init__(self, fast: tokenizers.Tokenizer):
        self.fast = fast
        fast.no_truncation()
        fast.no_padding()
        fast.encode_special_tokens = True

    def __reduce__(self) -> tuple[type["FastCodec"], tuple[tokenizers.Tokenizer]]:
        return FastCodec, (self.fast,)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        rows = self.fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return [row.ids for row in rows]

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self.fast.decode_batch([list(row) for row in rows], skip_special_tokens=True)


@contextlib.contextmanager
def _local(folder: epath.Path) -> Iterator[str]:
    """Yields a folder that transformers can open: of a store, copies of all but the weights."""
    if not storage.is_remote(folder):
        yield str(folder)
        return
    with tempfile.TemporaryDirectory() as here:
        for path in folder.iterdir():
            if path.name.endswith(FORMS):
                data = storage.read_bytes(path, MAX_BYTES)
                (epath.Path(here) / path.name).write_bytes(data)
        yield here


class AutoCodec(FastCodec):
    """Encodes text by `AutoTokenizer`, control tokens in text read as text; nothing is downloaded.

    A folder without a tokenizer.json, or with one that does not load, is a ValueError; so is one
    that asks to change spaces in decoded texts, unless nothing is decoded (`only_reads`).
    """

    def __init__(self, folder: epath.PathLike, only_reads: bool = False):
        terminal.quiet_libraries()
        import transformers

        if not (epath.Path(folder) / "tokenizer.json").exists():
            raise ValueError(f"{folder}: holds no tokenizer.json; run `lrl vocab` again")
        load: Any = transformers.AutoTokenizer.from_pretrained
        try:
            with _local(epath.Path(folder)) as here:
                self.tokenizer = load(here, local_files_only=True, trust_remote_code=False)
        except Exception as e:  # tokenizers raises plain Exception for a file it cannot read
            raise ValueError(f"{folder}/tokenizer.json: transformers cannot load it: {e}") from None
        if self.tokenizer.clean_up_tokenization_spaces and not only_reads:
            raise ValueError(f"{folder}: tokenizer_config.json asks to clean up spaces; want false")
        super().__init__(self.tokenizer.backend_tokenizer)

    def ids(self) -> dict[str, int]:
        """Returns the id of every piece and added token."""
        return self.fast.get_vocab(with_added_tokens=True)

    def names(self) -> dict[str, str]:
        """Returns the special tokens by their keys, such as pad_token; classes have some too."""
        given = self.tokenizer.special_tokens_map.items()
        return {key: str(token) for key, token in given if not isinstance(token, list)}

    def sides(self) -> dict[str, str]:
        """Returns where padding is put and where long texts are cut: left or right."""
        return {key: getattr(self.tokenizer, key) for key in SIDES}

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes as callers of transformers do: bos put first, control tokens read as such."""
        rows = [self.tokenizer(text, split_special_tokens=False)["input_ids"] for text in texts]
        self.fast.encode_special_tokens = True
        return rows

    def read_rendered(self, text: str) -> list[int]:
        """Encodes what a chat template wrote, as transformers does: nothing is put first."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=False)
        self.fast.encode_special_tokens = True
        return ids["input_ids"]
