"""Kills a small run at random moments, then flips a bit in each of its files.

    scripts/kill_test.sh                    # KILLS=100 SEED=0 PROCESSES=1
    KILLS=20 PROCESSES=2 scripts/kill_test.sh

A run of all steps is started and gets SIGKILL or SIGTERM at a random moment, again and again, until
it is through; then every output must equal that of a run that was never killed, and it begins anew.
Then one random bit is flipped in every file of the run, one file at a time, and the next step that
could read it runs: it refuses the file by name, or its outputs are the same. One line each; exit
code 1 if anything is lost, silently different, or ends in a traceback.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
import functools
import itertools
from pathlib import Path
import random
import shutil
import signal
import sys
import tempfile
import time

from scripts.kill_test.outputs import outputs
from scripts.kill_test.world import Ended, World
from scripts.same_as.compare import first_difference

SOON = 45.0  # seconds in which all processes must have ended after a signal
MEETING = 60.0  # seconds in which processes meet; signals before that are in tests/test_peers.py
EARLY = 4.0  # seconds in which a process may not listen yet
ORDER = ("vocab", "init", "data", "train", "evaluate", "export")
READER = {"vocab": "init", "init": "train", "data": "train", "train": "evaluate",
          "evaluate": "export", "export": "export"}  # fmt: skip


def main() -> int:
    """Runs both parts; returns the exit code."""
    parser = argparse.ArgumentParser(prog="kill_test", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=None, help="files, at most (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=None, help="folder to work in, and to keep")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill_test") as temporary:
        world = World((args.keep or Path(temporary)).resolve(), args.processes)
        seconds = world.make()
        print(
            f"a run without a kill: {seconds:.0f} s, {len(outputs(world.whole))} outputs",
            flush=True,
        )
        rng = random.Random(args.seed)
        kinds = (kills(world, args.kills, seconds, rng), flips(world, args.flips, rng))
        problems = 0
        for problem in itertools.chain(*kinds):
            problems += 1
            print(f"PROBLEM {problem}", flush=True)
    print(f"{problems} problems")
    return bool(problems)


def kills(world: World, count: int, seconds: float, rng: random.Random) -> Iterator[str]:
    """Kills the run `count` times; yields what went wrong."""
    killed, through, steps = 0, 0, Counter()
    while killed < count or world.run.exists():
        asked = time.time()
        children = world.start("run")
        if world.processes > 1:  # until they have met, each waits for the others, as long as JOIN
            met = functools.partial(is_newer, world.run / "lock.json", asked)
            wait(children, MEETING, until=met)
        began = time.monotonic()
        delay = rng.uniform(0, seconds) if killed < count else 10 * seconds
        wait(children, delay)
        if all(child.poll() is not None for child in children):
            ended = world.end(children, SOON)
            if set(ended.codes) != {0}:
                yield f"after kill {killed} `lrl run` ended with {ended.codes}{last_lines(ended)}"
            elif difference := first_difference(outputs(world.whole), outputs(world.run)):
                yield f"after kill {killed} the run differs: {difference}"
            through += 1
            shutil.rmtree(world.run, ignore_errors=True)
            continue
        killed += 1
        step, number = world.step() or "between steps", rng.choice((signal.SIGKILL, signal.SIGTERM))
        victim = rng.randrange(len(children))
        children[victim].send_signal(number)
        lived, ended = time.monotonic() - began, world.end(children, SOON)
        steps[step] += 1
        print(
            f"kill {killed}: {number.name} to process {victim} after {lived:.1f} s, in {step}: "
            f"codes {ended.codes} in {ended.seconds:.1f} s",
            flush=True,
        )
        if fault := wrong_end(ended, number, victim, lived):
            yield f"kill {killed}, {number.name} to {victim} in {step}: {fault}{last_lines(ended)}"
    where = ", ".join(f"{n} in {step}" for step, n in steps.most_common())
    print(f"{killed} kills ({where}); {through} runs went through, each compared", flush=True)


def wrong_end(ended: Ended, number: signal.Signals, victim: int, lived: float) -> str:
    """Returns what is wrong with how the processes ended after a signal; "" if nothing is."""
    if ended.seconds >= SOON:
        return f"not ended after {SOON:.0f} s"
    if number == signal.SIGKILL:
        others = [code for i, code in enumerate(ended.codes) if i != victim]
        fine = set(others) <= {0, 76} and ended.codes[victim] in (0, -signal.SIGKILL)
    else:
        early = {-signal.SIGTERM, 76} if lived < EARLY else set()
        fine = set(ended.codes) <= {0, 75} | early
    return "" if fine else f"codes {ended.codes}"


def flips(world: World, most: int | None, rng: random.Random) -> Iterator[str]:
    """Flips a bit in each file of the whole run; yields what went wrong."""
    whole = outputs(world.whole)
    paths = [
        path for path in sorted(world.whole.rglob("*")) if path.is_file() and path.stat().st_size
    ]
    if most is not None:
        paths = sorted(rng.sample(paths, min(most, len(paths))))
    outcomes: Counter[str] = Counter()
    for path in paths:
        place = path.relative_to(world.whole)
        outcome = flip(world, place, whole, rng)
        outcomes[outcome.partition(":")[0]] += 1
        print(f"flip {place}: {outcome}", flush=True)
        if outcome.isupper() or outcome.partition(":")[0].isupper():
            yield f"flip {place}: {outcome}"
    print("flips: " + ", ".join(f"{n} {what}" for what, n in outcomes.items()), flush=True)


def flip(world: World, place: Path, whole: dict, rng: random.Random) -> str:
    """Flips a bit of one file, and runs the step that reads it; returns what came of it."""
    step = place.stem if place.parts[0] == "steps" else place.parts[0]
    verb = READER.get(step, "report" if step == "report" else "init")
    if step == "train" and place.suffix == ".jsonl":
        verb = "report"  # a log
    done = ORDER if verb == "report" or step == verb else ORDER[: ORDER.index(verb)]
    world.lay_out(done)
    path = world.run / place
    if not path.exists():
        return "not there when its reader begins"
    data = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    ended = world.end(world.start(verb), within=300)
    codes = set(ended.codes)
    if codes == {0}:
        steps = () if verb == "report" else (verb,)
        if verb == "report":
            return "no result depends on it"
        want = {name: value for name, value in whole.items() if name.split("/")[0] in steps}
        difference = first_difference(want, outputs(world.run, steps))
        if difference and step != verb:
            return f"SILENT DIFFERENCE: {verb} made {difference}"
        return f"no result of {verb} depends on it" if step != verb else "no step reads it"
    named = str(place) in ended.said or place.parts[-1] in ended.said
    if not codes <= {2, 3, 4, 5, 6}:
        return f"BAD END: {ended.codes}: {last_line(ended)}"
    if codes == {5} and (named or step == "train" or "checkpoint" in place.parts):
        return "refused by name"
    return f"refused with {min(codes)}: {last_line(ended)}"


def wait(children: list, seconds: float, until: Callable[[], bool] | None = None) -> None:
    """Waits, but not once all have ended or `until` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(child.poll() is None for child in children):
        if until is not None and until():
            return
        time.sleep(0.01)


def is_newer(path: Path, than: float) -> bool:
    """Tells whether a file was written after a time; a killed run leaves an old one."""
    try:
        return path.stat().st_mtime > than
    except FileNotFoundError:
        return False


def last_line(ended: Ended) -> str:
    """Returns the last line that was said, cut."""
    lines = [line for line in ended.said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "(nothing said)"


def last_lines(ended: Ended, count: int = 12) -> str:
    """Returns the last lines that each process said, under its number and its exit code."""
    parts = []
    for i, (code, said) in enumerate(zip(ended.codes, ended.each, strict=True)):
        lines = [line[:300] for line in said.splitlines() if line.strip()][-count:]
        parts.append("\n  ".join([f"process {i} ended with {code}", *lines]))
    return "\n" + "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
