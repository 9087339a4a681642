"""A tokenizer folder as transformers reads it: what users of an export will run."""

from collections.abc import Sequence
from typing import Any

from etils import epath


class AutoCodec:
    """Text to ids by `AutoTokenizer`, control tokens in text read as text; nothing is downloaded.

    Raises:
      ValueError: the folder has no tokenizer.json, or one that does not load.
    """

    def __init__(self, folder: epath.PathLike):
        import transformers

        if not (epath.Path(folder) / "tokenizer.json").exists():
            raise ValueError(f"{folder}: holds no tokenizer.json; run `lrl vocab` again")
        load: Any = transformers.AutoTokenizer.from_pretrained
        try:
            self.tokenizer = load(str(folder), local_files_only=True)
        except Exception as e:  # tokenizers raises plain Exception for a file it cannot read
            raise ValueError(f"{folder}/tokenizer.json: transformers cannot load it: {e}") from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        return [list(row) for row in ids["input_ids"]]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)
