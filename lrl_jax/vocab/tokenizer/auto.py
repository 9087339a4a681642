"""Loads a tokenizer folder as transformers does: what users of an export will run.

`AutoTokenizer` decides what is in the tokenizer; texts then go straight to that, for transformers
adds masks and copies that make a corpus take ten times as long.
"""

from collections.abc import Sequence
from typing import Any

from etils import epath


class AutoCodec:
    """Encodes text by `AutoTokenizer`, control tokens in text read as text; nothing is downloaded.

    Raises:
      ValueError: the folder has no tokenizer.json, or one that does not load.
    """

    def __init__(self, folder: epath.PathLike):
        import transformers

        if not (epath.Path(folder) / "tokenizer.json").exists():
            raise ValueError(f"{folder}: holds no tokenizer.json; run `lrl vocab` again")
        load: Any = transformers.AutoTokenizer.from_pretrained
        try:
            self.tokenizer = load(str(folder), local_files_only=True, trust_remote_code=False)
        except Exception as e:  # tokenizers raises plain Exception for a file it cannot read
            raise ValueError(f"{folder}/tokenizer.json: transformers cannot load it: {e}") from None
        if self.tokenizer.clean_up_tokenization_spaces:
            raise ValueError(f"{folder}: tokenizer_config.json asks to clean up spaces; want false")
        self._fast = self.tokenizer.backend_tokenizer
        self._fast.no_truncation()
        self._fast.no_padding()
        self._fast.encode_special_tokens = True

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        rows = self._fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return [row.ids for row in rows]

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self._fast.decode_batch([list(row) for row in rows], skip_special_tokens=True)
