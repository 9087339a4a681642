"""Says in a word whether llama.cpp can run an exported folder, for its card and for `lrl check`."""

from collections.abc import Sequence

from etils import epath

from lrl_jax.hf.gguf import contents, proof


def verdict(folder: epath.PathLike, texts: Sequence[str] = ()) -> str:
    """Returns "yes", or "no, because ..." of an exported folder.

    Nothing is written. Weights are not read.

    Args:
      texts: of the model's languages, which llama.cpp must cut as the export does.
    """
    try:
        notes = proof.read_alike(contents.source(folder), texts)
    except ValueError as e:
        return f"no, because {e}"
    return ", but ".join(["yes", *notes])
