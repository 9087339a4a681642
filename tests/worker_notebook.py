"""Runs the cells of a notebook in one process, then other lines with the names that they leave.

python -m worker_notebook first_steps.ipynb lines.json
"""

import json
from pathlib import Path
import sys
import time


def cells(path: Path) -> list[str]:
    """Returns the source of every cell of code."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def main(notebook: str, lines: str) -> None:
    """Runs all of it, and says how long each took."""
    names: dict = {"__name__": "__main__"}
    sources = {f"cell {i}": source for i, source in enumerate(cells(Path(notebook)))}
    sources |= json.loads(Path(lines).read_text(encoding="utf-8"))
    for title, source in sources.items():
        started, cpu = time.monotonic(), time.process_time()
        exec(compile(source, title, "exec"), names)
        spent = f"{time.monotonic() - started:.1f} s, {time.process_time() - cpu:.1f} s of CPU"
        sys.stdout.write(f"{title}: {spent}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
