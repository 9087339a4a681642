"""Writes the archive of sample text that ships with the package: lrl_jax/data/sample/sample.tar.xz.

    python -m scripts.sample_world.make            # from the root of the checkout
    python -m scripts.sample_world.make --to /tmp/sample.tar.xz

The tar file has the same bytes on every machine: names in order, no times and no owners. The
compressed bytes may differ between versions of liblzma, so tests compare the tar file.
"""

import argparse
import io
import lzma
from pathlib import Path
import tarfile

from . import corpora

ARCHIVE = Path(__file__).parents[2] / "lrl_jax" / "data" / "sample" / "sample.tar.xz"
PRESET = 9 | lzma.PRESET_EXTREME


def tar_bytes() -> bytes:
    """Returns the uncompressed archive: one file for each corpus, a line ending in a newline."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(corpora.NAMES):
            content = "".join(line + "\n" for line in corpora.lines(name)).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write(path: Path) -> int:
    """Writes the compressed archive and returns its size in bytes."""
    return path.write_bytes(lzma.compress(tar_bytes(), preset=PRESET))


def main() -> None:
    """Reads the command line and writes the archive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ARCHIVE, help="the file to write")
    path = parser.parse_args().to
    print(f"{path}: {write(path):,} bytes")


if __name__ == "__main__":
    main()
