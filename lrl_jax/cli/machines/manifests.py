"""Writes manifests that run a recipe on machines that others manage: GKE and SkyPilot.

Exit codes decide there what `lrl launch` decides on TPUs of its own: 75, 76 and 6 (stopped, a host
gone, in use) begin the run again, those that a person has to set right end it.
"""

import argparse
import io
import shlex
from typing import Any

from lrl_jax.cli.machines import bundle
from lrl_jax.cli.machines.names import FAMILIES, NAME, Tpu, near_name, region
from lrl_jax.cli.machines.watch import PERSON

RESTARTS = 100  # far more preemptions than a grant of thirty days has seen
# Kubernetes gives pods of spot machines 15 s (GKE's page on spot VMs), others what they ask for.
SAVING = 300
AGAIN = (6, 75, 76, 137)


def render(args: argparse.Namespace) -> str:
    """Returns the manifest that the arguments ask for, as YAML.

    Raises:
      ValueError: the recipe's folder is on no bucket, or a name, a type or the image is missing.
    """
    name = args.name or near_name(args.recipe.rpartition("/")[2].removesuffix(".yaml"))
    zone = args.zone or next((f.zones[0] for f in FAMILIES.values() if _is_of(args.type, f)), "")
    if not args.type:
        raise ValueError("--type: want the type of the TPU, such as v5litepod-64")
    project = args.project or "no-project"  # neither manifest names one
    tpu = Tpu(name, zone, project, args.type, args.node_count, args.spot, unlisted=args.unlisted)
    folder = bundle.place(args.recipe, args.overrides)
    if not folder.startswith("gs://"):
        raise ValueError(
            f"folder {folder!r}: these machines come and go, so the run folder has to be in a "
            "bucket: add folder=gs://BUCKET/runs"
        )
    words = ["lrl", "run", args.recipe, *args.overrides]
    if args.manifest == "gke":
        return _yaml(jobset(tpu, words, args.image, args.compiled))
    return _yaml(task(tpu, words, args.compiled, bool(args.zone)))


def jobset(tpu: Tpu, words: list[str], image: str, compiled: str = "") -> dict[str, Any]:
    """Returns a JobSet of GKE: a job a slice, a pod a host."""
    if not image:
        raise ValueError(
            "--image: want a container image with the package and the recipe; "
            "docs/machines/docker.md builds one"
        )
    if not NAME.fullmatch(tpu.name) or len(tpu.name) > 40:
        raise ValueError(f"--name {tpu.name}: want 40 characters at most; pods get longer names")
    selector = {
        "cloud.google.com/gke-tpu-accelerator": tpu.family.gke,
        "cloud.google.com/gke-tpu-topology": tpu.topology,
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": SAVING,
        "nodeSelector": selector,
        "containers": [
            {
                "name": "lrl",
                "image": image,
                "command": words,
                "env": _environment(compiled),
                "resources": {"limits": {"google.com/tpu": tpu.chips // tpu.hosts}},
            }
        ],
    }
    if tpu.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        pod["tolerations"] = [
            {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true",
             "effect": "NoSchedule"}
        ]  # fmt: skip
    ends = {"containerName": "lrl", "operator": "In", "values": sorted(PERSON)}
    job = {
        "parallelism": tpu.hosts,
        "completions": tpu.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": ends}]},
        "template": {"spec": pod},
    }
    person = {"name": "person", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    placed = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": tpu.name, "annotations": placed},
        "spec": {
            "failurePolicy": {"maxRestarts": RESTARTS, "rules": [person]},
            "replicatedJobs": [
                {"name": "slice", "replicas": tpu.slices, "template": {"spec": job}}
            ],
        },
    }


def task(tpu: Tpu, words: list[str], compiled: str = "", pinned: bool = True) -> dict[str, Any]:
    """Returns a task of SkyPilot, for `sky jobs launch`: one slice, resumed after preemptions."""
    if tpu.slices > 1:
        raise ValueError(
            "--node-count: SkyPilot makes no TPUs of several slices (0.14.1); take one slice, gke, "
            "or tpu/watch.sh"
        )
    exports = [f"export {e['name']}={shlex.quote(e['value'])}" for e in _environment(compiled)]
    lines = ["cd ~/lrl_jax", *exports, shlex.join([".venv/bin/lrl", *words[1:]])]
    return {
        "name": tpu.name,
        "workdir": ".",
        "resources": {
            "infra": f"gcp/{region(tpu.zone)}/{tpu.zone}" if pinned else "gcp",
            "accelerators": {f"tpu-{tpu.type}": 1},
            "accelerator_args": {"runtime_version": tpu.family.software},
            "use_spot": tpu.spot,
            "job_recovery": {"max_restarts_on_errors": 3, "recover_on_exit_codes": [*AGAIN]},
        },
        "setup": "bash tpu/host/setup.sh tpu,hub\n",
        "run": "\n".join(lines) + "\n",
    }


def _environment(compiled: str) -> list[dict[str, str]]:
    return [{"name": "JAX_COMPILATION_CACHE_DIR", "value": compiled}] if compiled else []


def _is_of(type: str, family) -> bool:
    return type.rpartition("-")[0] == family.prefix


def _yaml(tree: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 4096  # a command stays on its line
    yaml.dump(tree, text)
    return text.getvalue()
