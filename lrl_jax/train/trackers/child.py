"""Is the process of a tracker: reads records from its input, and gives them to the library.

The first line says what is tracked; every other is a step. It ends when its input does, by force if
the library hangs then. What the library prints is dropped, as it may show a key.
"""

from collections.abc import Callable, Mapping
import json
import os
import queue
import sys
import threading
from typing import Any, TextIO

from lrl_jax.recipe.extras import how_to_install

SHOWN, FAILED = "shown", "failed"  # what a line of its output begins with
FAREWELL = 60.0  # seconds that the library has to end once the run has
LINE = 300  # characters of a reason

Send = Callable[[Mapping[str, float], int], None]


def main(kind: str, lines: TextIO, report: TextIO) -> int:
    """Tracks until the lines end; returns an exit code."""
    records: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(lines, records), daemon=True).start()

    def say(what: str, words: str) -> None:
        report.write(f"{what} {' '.join(words.split())[:LINE]}\n")
        report.flush()

    try:
        first = records.get()
        if first is None:
            return 0
        address, send, finish = STARTS[kind](json.loads(first))
        say(SHOWN, address)
        while (line := records.get()) is not None:
            record = json.loads(line)
            send(record["numbers"], record["step"])
        finish()
    except ModuleNotFoundError as e:
        say(FAILED, f"{e}; {how_to_install(kind)}")
        return 1
    except BaseException as e:  # a library may call sys.exit
        say(FAILED, f"{type(e).__name__}: {e}")
        return 1
    return 0


def _read(lines: TextIO, records: queue.Queue[str | None]) -> None:
    """Reads all lines as they come, also while the library hangs."""
    for line in lines:
        records.put(line)
    records.put(None)
    threading.Event().wait(FAREWELL)
    os._exit(3)


def _wandb(said: Mapping[str, Any]) -> tuple[str, Send, Callable[[], None]]:
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or said["project"], name=said["name"],
        id=said["id"], resume="allow", config=said["config"], dir=said["folder"] or None,
    )  # fmt: skip
    address = str(getattr(run, "url", "") or "offline")
    return address, lambda numbers, step: run.log(dict(numbers), step=step), run.finish


def _trackio(said: Mapping[str, Any]) -> tuple[str, Send, Callable[[], None]]:
    import trackio

    trackio.init(
        project=said["project"], name=f"{said['name']}-{said['id']}", resume="allow",
        config=said["config"],
    )  # fmt: skip
    address = f"trackio show --project {said['project']}"
    return address, lambda numbers, step: trackio.log(dict(numbers), step=step), trackio.finish


STARTS: dict[str, Callable[[Mapping[str, Any]], tuple[str, Send, Callable[[], None]]]] = {
    "wandb": _wandb,
    "trackio": _trackio,
}


def _apart() -> tuple[TextIO, TextIO]:
    """Returns this process's input and output, and leaves the library none of its own."""
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    return lines, report


if __name__ == "__main__":
    code = main(sys.argv[1], *_apart())
    os._exit(code)  # threads of a library may hang in its own farewell
