"""Writes a GGUF file of an exported folder, and proves that it says the same.

    proof = write("runs/tamil/export", "runs/tamil/export-gguf/tamil-F16.gguf", "f16", texts)

The file stands under another name until it is proved. No torch is needed; the library `gguf` knows
the format of the file alone.
"""

from collections.abc import Sequence
import contextlib
import importlib.util
from typing import Any

from etils import epath
import numpy as np

from lrl_jax.hf import load
from lrl_jax.hf.gguf import architectures, contents, tensors
from lrl_jax.hf.gguf.architectures import Value
from lrl_jax.hf.gguf.contents import GgufSource
from lrl_jax.hf.gguf.proof import GgufProof, prove, read_alike
from lrl_jax.hf.safetensors_ranges import Tensors
from lrl_jax.recipe.extras import how_to_install


def write(
    folder: epath.PathLike,
    path: epath.PathLike,
    kind: str,
    texts: Sequence[str],
    prompts: Sequence[str] = (),
    name: str = "",
) -> GgufProof:
    """Writes an exported folder as one GGUF file under `path`, proved.

    Args:
      kind: of tensors.TYPES.
      texts: what the model will read: llama.cpp must give the export's ids for them.
      prompts: what the chat template makes of a question, with its control tokens.
      name: of the model, for people.

    Raises:
      ValueError: the folder cannot be said in GGUF, or llama.cpp would read a text otherwise.
      UnprovedError: the file read back is not the folder.
    """
    require()
    path = epath.Path(path)
    given = contents.source(folder)
    notes = read_alike(given, texts, prompts)
    unproved = path.with_name(path.name + ".unproved")
    unproved.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            opened = load.opened(folder, given.cfg, stack, given.tokenizer.size)
            _write(unproved, given, opened, kind, name or epath.Path(folder).name)
    except BaseException:  # half of a file would keep a full disk full
        unproved.unlink(missing_ok=True)
        raise
    proof = prove(unproved, given, kind, len(texts), len(prompts), notes)
    unproved.replace(path)
    return proof


def require() -> None:
    """Raises ValueError where the gguf package is not installed."""
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"GGUF files are written with the gguf package: {how_to_install('gguf')}")


def _write(path: epath.Path, given: GgufSource, opened: Tensors, kind: str, name: str) -> None:
    import gguf

    writer = gguf.GGUFWriter(None, architectures.of(given.cfg).name)
    for key, value in contents.said(given, kind, name).items():
        _put(writer, key, value)
    wanted = [*tensors.tensors(given.cfg, kind)]
    for tensor in wanted:
        library = tensors.library_type(tensor.kind)
        shape, dtype = tensor.shape, {"f32": np.float32, "f16": np.float16}.get(tensor.kind)
        if dtype is None:  # of bytes
            shape, dtype = gguf.quants.quant_shape_to_byte_shape(shape, library), np.uint8
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        writer.add_tensor_info(tensor.name, shape, np.dtype(dtype), size, library)
    with contextlib.closing(writer):
        writer.write_header_to_file(path=path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in wanted:
            values = tensors.stored(tensor.read(opened.read), tensor.kind, tensor.name)
            writer.write_tensor_data(np.ascontiguousarray(values))


def _put(writer: Any, key: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case np.int32():
            writer.add_int32(key, int(value))
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)
