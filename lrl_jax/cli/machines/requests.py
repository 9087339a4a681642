"""Makes, waits for, and deletes TPUs as queued resources, so that none is left behind.

A request (queued resource) has a name, and slices (nodes) that Google makes for it. A request that
FAILED or was SUSPENDED keeps its name until it is deleted, and a new one cannot be made before.
"""

import json
from typing import Any

from lrl_jax.cli.machines.gcloud import (
    TRIES,
    CapacityError,
    Gcloud,
    MachineError,
    PersonError,
    refusal,
    say,
)
from lrl_jax.cli.machines.names import Tpu

READY, ACTIVE, NONE = "READY", "ACTIVE", ""
STALE = ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING")  # of requests
PASSING = (
    READY,
    "CREATING",
    "STARTING",
    "RESTARTING",
    "REPAIRING",
)  # of slices that come by themselves
REQUESTS, NODES = ("compute", "tpus", "queued-resources"), ("compute", "tpus", "tpu-vm")


def where(tpu: Tpu) -> tuple[str, str]:
    """Returns the arguments that say where a TPU is."""
    return f"--project={tpu.project}", f"--zone={tpu.zone}"


def describe(gcloud: Gcloud, tpu: Tpu) -> dict[str, Any]:
    """Returns what Google says of the request; empty where there is none."""
    words = (*REQUESTS, "describe", tpu.name, *where(tpu), "--format=json")
    return _json(gcloud.ask(f"the request {tpu.name}", *words).out)


def state(gcloud: Gcloud, tpu: Tpu) -> str:
    """Returns the state of the request; NONE where there is none."""
    return str(describe(gcloud, tpu).get("state", {}).get("state", NONE))


def node(gcloud: Gcloud, tpu: Tpu, name: str) -> dict[str, Any]:
    """Returns what Google says of a slice; empty where there is none."""
    words = (*NODES, "describe", name, *where(tpu), "--format=json")
    return _json(gcloud.ask(f"the slice {name}", *words).out)


def node_states(gcloud: Gcloud, tpu: Tpu) -> list[str]:
    """Returns the state of each slice; NONE for one that is not there."""
    return [str(node(gcloud, tpu, name).get("state", NONE)) for name in tpu.nodes]


def is_ready(gcloud: Gcloud, tpu: Tpu) -> bool:
    """Tells whether every slice is there and can be used."""
    return all(state == READY for state in node_states(gcloud, tpu))


def refuse_other_type(gcloud: Gcloud, tpu: Tpu) -> None:
    """Raises ValueError where the name belongs to a TPU of another type that is there or asked for.

    It would be taken up as if it were the one that is wanted.
    """
    if gcloud.dry:
        return
    request = describe(gcloud, tpu)
    stale = request.get("state", {}).get("state") in STALE  # and deleted before a new one is made
    specs = [] if stale else request.get("tpu", {}).get("nodeSpec", [])
    slices = [node(gcloud, tpu, name) for name in tpu.nodes]
    there = [said for said in slices if said.get("state") in PASSING]
    for said in (*(spec.get("node", {}) for spec in specs), *there):
        if (type := said.get("acceleratorType", tpu.type)) != tpu.type:
            raise ValueError(
                f"--type {tpu.type}: {tpu.name} is there already, as a {type}; say --type {type}, "
                "another --name, or delete it first: tpu/delete.sh"
            )


def create(gcloud: Gcloud, tpu: Tpu) -> None:
    """Asks for the TPU and waits until it is ready; one that is there or asked for is taken up.

    What is left of an earlier one is deleted first, and so is a request that fails.

    Raises:
      CapacityError: there is no room for it now, or it was taken away as it was made.
      PersonError: no rights, no quota.
    """
    if not tpu.type:
        raise ValueError("--type: want the type of the TPU to make, such as v5litepod-64")
    if gcloud.dry:
        gcloud.call(*_creation(tpu))
        _show_wait(gcloud, tpu)
        return
    request = state(gcloud, tpu)
    if request == ACTIVE and is_ready(gcloud, tpu):
        say(f"{tpu.name} is there already")
        return
    slices = node_states(gcloud, tpu) if request == ACTIVE else []
    if request in (*STALE, NONE) or not all(state in PASSING for state in slices):
        _delete_leftovers(gcloud, tpu, request)
        answer = gcloud.call(*_creation(tpu), shown=True)
        if not answer.ok and not answer.exists:
            error = answer.error(f"asking for {tpu.name}")
            if not isinstance(error, PersonError):
                delete(gcloud, tpu)  # it may have been made before the call failed
            raise error
    _wait(gcloud, tpu)


def delete(gcloud: Gcloud, tpu: Tpu) -> None:
    """Deletes the request and every slice of it, so that nothing is billed; gone already is fine.

    Raises:
      MachineError: something is still there after several tries.
    """
    for tries in range(TRIES):
        words = (*REQUESTS, "delete", tpu.name, *where(tpu), "--force", "--quiet")
        answers = [gcloud.call(*words, shown=True)]
        if gcloud.dry:
            return
        for name in tpu.nodes:  # one that was made without a request, or outlived it
            if node(gcloud, tpu, name):
                words = (*NODES, "delete", name, *where(tpu), "--quiet")
                answers.append(gcloud.call(*words, shown=True))
        failed = [answer for answer in answers if not answer.ok and not answer.is_gone]
        if not failed:
            return
        error = failed[0].error(f"deleting {tpu.name}")
        if isinstance(error, PersonError):
            raise error
        say(f"{error}; trying again")
        gcloud.pauses.back_off(tries)
    raise MachineError(
        f"{tpu.name} could not be deleted and may still be billed: look at it in the console, or "
        "run tpu/delete.sh again"
    )


def _creation(tpu: Tpu) -> tuple[str, ...]:
    nodes = (f"--node-id={tpu.name}",)
    if tpu.slices > 1:
        nodes = (f"--node-count={tpu.slices}", f"--node-prefix={tpu.name}")
    kind = ("--spot",) * tpu.spot + ("--reserved",) * tpu.reserved
    software = f"--runtime-version={tpu.family.software}"
    return (
        *REQUESTS, "create", tpu.name, *nodes, *where(tpu), f"--accelerator-type={tpu.type}",
        software, *kind, "--quiet",
    )  # fmt: skip


def _delete_leftovers(gcloud: Gcloud, tpu: Tpu, request: str) -> None:
    """Deletes a request that will never be filled, and slices without a request."""
    states = node_states(gcloud, tpu)
    if request != NONE or any(states):
        say(f"{tpu.name}: {request or 'no request'}, slices {', '.join(filter(None, states))}: "
            "what is left of it is deleted")  # fmt: skip
        delete(gcloud, tpu)


def _wait(gcloud: Gcloud, tpu: Tpu) -> None:
    before = ""
    while True:
        said = describe(gcloud, tpu).get("state", {})
        request = str(said.get("state", NONE))
        if request != before:
            say(f"{tpu.name}: {request or 'gone'}")
            before = request
        if request == ACTIVE and is_ready(gcloud, tpu):
            return
        slices = node_states(gcloud, tpu) if request == ACTIVE else []
        if request in (*STALE, NONE) or not all(state in PASSING for state in slices):
            delete(gcloud, tpu)
            raise _end(tpu, request, said)
        gcloud.pauses.until_next_look()


def _end(tpu: Tpu, request: str, said: dict[str, Any]) -> MachineError:
    """Returns the error of a request that was not filled, with what Google says of it."""
    why = said.get("failedData", {}).get("error", {}).get("message", "")
    error = refusal(f"{tpu.name}: the request ended as {request or 'gone'}. {why}".strip())
    if isinstance(error, PersonError):
        return error
    return CapacityError(f"{error} It was deleted, and can be asked for again")


def _show_wait(gcloud: Gcloud, tpu: Tpu) -> None:
    """Prints the loop of a shell that waits until the request is filled."""
    words = (*REQUESTS, "describe", tpu.name, *where(tpu), "--format=value(state.state)")
    command = " ".join(f"'{word}'" if "(" in word else word for word in ("gcloud", *words))
    seconds = f"{gcloud.pauses.poll:g}"
    gcloud.show(f'until [ "$({command})" = {ACTIVE} ]; do sleep {seconds}; done')


def _json(text: str) -> dict[str, Any]:
    return json.loads(text) if text.strip() else {}
