"""Sets hosts up, runs a recipe on them, and keeps it going over preemptions until it is done."""

from collections.abc import Sequence
import concurrent.futures
import dataclasses
from pathlib import Path
import re
import shlex
import sys
import time

from lrl_jax.cli.machines import bundle, hosts, requests
from lrl_jax.cli.machines.gcloud import Gcloud, MachineError, PersonError, say
from lrl_jax.cli.machines.hosts import End, TpuHost, WaitLimits
from lrl_jax.cli.machines.names import Tpu

ARCHIVE = "lrl_jax.tar.gz"
SETUP = 1800.0  # seconds for the packages; some three minutes is usual
PERSON = (2, 3, 4, 5, 7, 8, 9)  # exit codes of what a person has to set right
IN_USE, STOPPED, DISK_FULL = 6, 75, 9
BUSY = 15  # minutes after which a run in use is somebody's: a dead owner's lease ends after three
LEAST = 100  # MiB below which a failure is one of the disk, as in tpu/host/setup.sh
# Unpacks beside what is there, as a run may be under way. Where that fails on a disk with room, the
# archive is damaged, as where two set-ups bring one at once: it is brought anew.
UNPACK = (
    f'echo "lrl-host clock $(date +%s)"; rm -rf {hosts.HOME}.new; mkdir {hosts.HOME}.new && '
    f"tar xzf {ARCHIVE} -C {hosts.HOME}.new || {{ code=1; "
    f'[ "$(df --output=avail -m . | tail -n 1)" -ge {LEAST} ] || code={DISK_FULL}; '
    f'rm -rf {hosts.HOME}.new; echo "lrl-host code $code"; exit $code; }}; '
    f"bash {hosts.HOME}.new/tpu/host/setup.sh "
)


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """Says what runs on a TPU and how it is looked after.

    Attributes:
      recipe: a file, or the name of one that ships; "" where only the package is installed.
      overrides: of the recipe.
      extras: optional parts of the package that hosts get.
      compiled: a folder on gs:// for compiled steps; "" for none.
      logs: a folder here for what the hosts print.
      failures: equal failures in a row after which a watch ends.
      far_bucket: whether the run folder may be in another region.
      delete: whether the TPU is deleted when a watch ends.
    """

    recipe: str = ""
    overrides: tuple[str, ...] = ()
    extras: str = "tpu,hub"
    compiled: str = ""
    logs: Path = Path("logs")
    limits: WaitLimits = dataclasses.field(default_factory=WaitLimits)
    failures: int = 3
    far_bucket: bool = False
    delete: bool = False

    def words(self) -> list[str]:
        """Returns the command that every host runs."""
        cache = ["env", f"JAX_COMPILATION_CACHE_DIR={self.compiled}"] if self.compiled else []
        return [*cache, ".venv/bin/lrl", "run", self.recipe, *self.overrides]


# ---------------------------------------------------------------------------- set-up
def setup(gcloud: Gcloud, tpu: Tpu, work: LaunchPlan) -> int:
    """Brings the checkout, the recipe and its texts to every host, and installs them there.

    A host on which a run is under way is left as it is. At the end each host says in a line what
    it has (`lrl doctor`). Returns the worst exit code of all hosts.

    """
    every, logs = hosts.of(gcloud, tpu), work.logs / tpu.name
    archive = pack(gcloud, tpu, work)
    ends = _copy(gcloud, tpu, every, archive, work.limits)
    if hosts.code_of(ends) == 0:
        limits = dataclasses.replace(work.limits, whole=SETUP)
        command = UNPACK + shlex.quote(work.extras)
        ends = hosts.run_on_all(gcloud, tpu, every, command, logs, limits)
    if hosts.code_of(ends) == 0:
        ends = _doctor(gcloud, tpu, every, work)
    hosts.tell(ends, logs)
    return hosts.code_of(ends)


def pack(gcloud: Gcloud, tpu: Tpu, work: LaunchPlan) -> Path:
    """Writes the archive for the hosts; says what will not be there."""
    archive = work.logs / tpu.name / ARCHIVE
    archive.parent.mkdir(parents=True, exist_ok=True)
    if gcloud.dry:
        words = [sys.executable, "-m", "lrl_jax.cli", "launch", "pack", str(archive)]
        recipe = [work.recipe, *work.overrides] if work.recipe else []
        path = shlex.quote(str(bundle.CHECKOUT))
        gcloud.show(f"PYTHONPATH={path} {shlex.join([*words, *recipe])}")
    else:
        for sentence in bundle.write(archive, work.recipe, work.overrides):
            say(f"left here: {sentence}")
    return archive


def check_folder(gcloud: Gcloud, tpu: Tpu, work: LaunchPlan) -> None:
    """Refuses a run folder that hosts of this TPU cannot write, or that is far from them.

    Raises:
      ValueError: several hosts and a local folder, a bucket in another region, or a recipe that
        lies where hosts would not find it.
      PersonError: no such bucket, or no rights to it.
    """
    if not work.recipe:
        return
    bundle.refuse_outside(work.recipe)
    folder = bundle.place(work.recipe, work.overrides)
    if not folder.startswith("gs://"):
        if tpu.slices > 1 or (tpu.type and tpu.hosts > 1):
            raise ValueError(
                f"folder {folder!r}: several hosts write one run folder, so it has to be in a "
                f"bucket; make one with `gcloud storage buckets create gs://NAME "
                f"--location={tpu.region}` and add folder=gs://NAME/runs"
            )
        say(
            f"{folder} is on the TPU's own disk: it goes when the TPU goes; name a bucket in folder"
        )
        return
    bucket = "/".join(folder.split("/")[:3])
    words = ("storage", "buckets", "describe", bucket, f"--project={tpu.project}")
    answer = gcloud.ask(f"the bucket {bucket}", *words, "--format=value(location)")
    if answer.is_gone:
        raise PersonError(
            f"{bucket}: there is no such bucket; make it where the TPU is: "
            f"gcloud storage buckets create {bucket} --location={tpu.region}"
        )
    if reason := far(answer.out.strip(), tpu.zone):
        if not work.far_bucket:
            raise ValueError(
                f"{bucket}: {reason}; every save would cross, slowly and for money. Make one there "
                f"(gcloud storage buckets create gs://NAME --location={tpu.region}) and copy what "
                "you have, or add --far-bucket"
            )
        say(f"{bucket}: {reason}")


def far(location: str, zone: str) -> str:
    """Returns why a bucket is far from a zone; "" if it is near, or where it is is not known.

    >>> far("EUROPE-WEST4", "europe-west4-b"), far("EU", "europe-west4-b"), far("", "us-east1-d")
    ('', '', '')
    >>> far("US-EAST1", "europe-west4-b")
    'is in us-east1, and the TPU in europe-west4-b'
    """
    place = location.lower()
    around = {"eu": "europe-", "us": "us-", "asia": "asia-"}.get(place, f"{place}-")
    return "" if not place or zone.startswith(around) else f"is in {place}, and the TPU in {zone}"


def _copy(
    gcloud: Gcloud, tpu: Tpu, every: Sequence[TpuHost], archive: Path, limits: WaitLimits
) -> list[End]:
    """Copies the archive to every host: first to one, as gcloud then makes its key for ssh."""

    def copy(host: TpuHost) -> End:
        said = ""
        for tries in range(hosts.TRIES):
            answer = gcloud.call(*hosts.scp(tpu, host, str(archive), ARCHIVE), limit=limits.answer)
            if answer.ok:
                return End(host, 0)
            said = " ".join(answer.err.split())[-300:]
            if "No space left" in said:
                return End(host, DISK_FULL, tail=[f"{host}: its disk is full"])
            if tries < hosts.TRIES - 1:
                gcloud.pauses.back_off(tries)
        return End(host, why=f"does not answer ({said})")

    with concurrent.futures.ThreadPoolExecutor(1 if gcloud.dry else len(every)) as pool:
        return [copy(every[0]), *pool.map(copy, every[1:])]


def _doctor(gcloud: Gcloud, tpu: Tpu, every: Sequence[TpuHost], work: LaunchPlan) -> list[End]:
    """Lets each host say what it has; prints a line a host."""
    words = [".venv/bin/lrl", "doctor", "--zone", tpu.zone]
    words += ["--far-bucket"] * work.far_bucket
    words += [work.recipe, *work.overrides] if work.recipe else []
    command = f"{hosts.JOB} ask {shlex.join(words)}"
    limits = dataclasses.replace(work.limits, whole=SETUP)
    ends = hosts.run_on_all(gcloud, tpu, every, command, work.logs / tpu.name, limits)
    for end in ends[1:] if not gcloud.dry else ():  # the first was shown as it came
        for line in end.tail:  # none of a host on which a run is under way
            if line.startswith("doctor "):
                print(line, flush=True)
    for sentence in unlike(ends):
        say(sentence)
    return ends


def unlike(ends: Sequence[End]) -> list[str]:
    """Returns a sentence for each version that is not the same on every host."""
    values: dict[str, dict[str, str]] = {}
    for end in ends:
        for line in end.tail:
            for key, value in re.findall(r"\b(lrl|python|jax|libtpu)=(\S+)", line):
                values.setdefault(key, {})[str(end.host)] = value
    return [
        f"{key} is not the same on every host: "
        + ", ".join(f"{host} {value}" for host, value in by_host.items())
        for key, by_host in values.items()
        if len(set(by_host.values())) > 1
    ]


# ---------------------------------------------------------------------------- run
def run(gcloud: Gcloud, tpu: Tpu, work: LaunchPlan) -> list[End]:
    """Runs the recipe on every host, or attaches to it; returns how each host ended."""
    every, logs = hosts.of(gcloud, tpu), work.logs / tpu.name
    attempt, words = str(time.time_ns()), shlex.join(work.words())

    def command(lines: int) -> str:
        return f"{hosts.JOB} run {attempt} {lines} {words}"

    stop = f"{hosts.JOB} end"
    ends = hosts.run_on_all(gcloud, tpu, every, command, logs, work.limits, stop)
    hosts.tell(ends, logs)
    return ends


def watch(gcloud: Gcloud, tpu: Tpu, work: LaunchPlan) -> int:
    """Runs the recipe until it is done, and makes the TPU anew whenever it was taken away.

    Returns 0; or the exit code of what a person has to set right, of a run that somebody else has,
    or of a failure that came `work.failures` times in a row on a TPU that is there.
    """
    if gcloud.dry:
        check_folder(gcloud, tpu, work)
        requests.create(gcloud, tpu)
        setup(gcloud, tpu, work)
        run(gcloud, tpu, work)
        return 0
    check_folder(gcloud, tpu, work)  # before anything is made, so that nothing is deleted for it
    requests.refuse_other_type(gcloud, tpu)
    watching = Watch(gcloud, tpu, work)
    try:
        return watching.until_done()
    finally:
        interrupted = isinstance(sys.exception(), KeyboardInterrupt)
        if work.delete and not interrupted and not watching.is_busy:
            requests.delete(gcloud, tpu)


class Watch:
    """Counts what happens to a run, and decides what is done next.

    Attributes:
      is_busy: whether the TPU has another command, which was begun by somebody and goes on.
    """

    def __init__(self, gcloud: Gcloud, tpu: Tpu, work: LaunchPlan):
        self._gcloud, self._tpu, self._work = gcloud, tpu, work
        self.is_busy = False
        self._is_set_up = False
        self._vain = 0  # tries in a row in which nothing ran
        self._busy = 0.0  # seconds for which the run was in use
        self._before, self._times = 0, 0  # a failure on a TPU that is there, and how often

    def until_done(self) -> int:
        """Runs until nothing is left to do here; returns the exit code."""
        while True:
            try:
                code = self._once()
            except PersonError:
                raise
            except MachineError as e:
                say(str(e))
                self._pause()
                continue
            if code is not None:
                return code

    def _once(self) -> int | None:
        """Does what is next; returns the exit code of the watch if that was all."""
        if not requests.is_ready(self._gcloud, self._tpu):
            self._is_set_up = False
            requests.create(self._gcloud, self._tpu)
        if not self._is_set_up:
            return self._set_up()
        ends = run(self._gcloud, self._tpu, self._work)
        code = hosts.code_of(ends)
        if code in (0, *PERSON):
            return code
        if any(end.stopped for end in ends):
            say("it was stopped by a person; start this again to go on")
            return code
        if code == IN_USE:
            self.is_busy = any(end.busy for end in ends)
            return self._leave(code) if self.is_busy else self._wait_for_lease()
        self._vain, self._busy = 0, 0.0
        say(f"ended with code {code}; looking at the TPU")
        self._is_set_up = all(end.code is not None for end in ends)
        if not requests.is_ready(self._gcloud, self._tpu):
            self._times = 0  # the machine's doing, not the run's
            return None
        if code == STOPPED:
            self._times = 0
        elif self._is_one_too_many(code):
            return code
        self._pause()
        return None

    def _set_up(self) -> int | None:
        code = setup(self._gcloud, self._tpu, self._work)
        self._is_set_up = code == 0
        if code == 0 or not requests.is_ready(self._gcloud, self._tpu):
            return None  # a host that is taken away may first tell of devices that it has no more
        if code in PERSON:
            return code
        if self._is_one_too_many(code):
            return code
        if code == hosts.GONE:
            say("a host does not answer, and there are no single new ones: making the TPU anew")
            requests.delete(self._gcloud, self._tpu)
        self._pause()
        return None

    def _leave(self, code: int) -> int:
        """Leaves the TPU to a command that is under way on it."""
        say(
            f"another command is under way on {self._tpu.name}, which is left as it is: attach "
            "with that command, or stop it first (tpu/stop.sh)"
        )
        return code

    def _wait_for_lease(self) -> int | None:
        """Waits while the run is in use: the lease of a machine that is gone ends by itself."""
        if self._busy >= BUSY * 60:
            say(f"the run has been in use for {BUSY} minutes: another process lives, and renews it")
            return IN_USE
        seconds = 2 * self._gcloud.pauses.poll
        say(f"the run is in use; again in {seconds:.0f} s")
        self._gcloud.pauses.until_next_look(2)
        self._busy += seconds
        return None

    def _is_one_too_many(self, code: int) -> bool:
        self._times = self._times + 1 if code == self._before else 1
        self._before = code
        if self._times < self._work.failures:
            return False
        say(
            f"ended with code {code} {self._times} times in a row, on a TPU that is there; what "
            "went wrong stands above. Set it right, and start this again"
        )
        return True

    def _pause(self) -> None:
        seconds = self._gcloud.pauses.seconds(self._vain)
        say(f"trying again in {seconds:.0f} s")
        self._gcloud.pauses.sleep(seconds)
        self._vain += 1
