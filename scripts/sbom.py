"""Writes the SBOM of an installed distribution: CycloneDX 1.6 JSON, from its metadata alone.

    python scripts/sbom.py lrl-jax [--extra hub] > sbom.cdx.json

Lists what the distribution needs here, of which version, under which licence, and what needs what.
It asks no network. The same installation gives the same bytes.
"""

import argparse
from collections.abc import Iterator
import hashlib
from importlib import metadata
import json
import re
import sys
import uuid

from packaging.markers import default_environment
from packaging.requirements import Requirement

SPEC = "1.6"
LONG = 80  # characters of a licence's name; some packages put its whole text there


def normal(name: str) -> str:
    """Returns a name as package indexes compare it (PEP 503)."""
    return re.sub("[-_.]+", "-", name).lower()


def needed(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yields what an installed distribution needs on this machine, with the extras of each."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        environments = [{**default_environment(), "extra": extra} for extra in extras or {""}]
        marker = requirement.marker
        if marker is None or any(marker.evaluate(environment) for environment in environments):
            yield normal(requirement.name), frozenset(requirement.extras)


def closure(name: str, extras: frozenset[str]) -> dict[str, set[str]]:
    """Returns what is installed of a distribution's needs: name -> names that it needs itself."""
    edges: dict[str, set[str]] = {}
    waiting = [(normal(name), extras)]
    seen = set()
    while waiting:
        here, wanted = waiting.pop()
        if (here, wanted) in seen:
            continue
        seen.add((here, wanted))
        try:
            needs = [*needed(here, wanted)]
        except metadata.PackageNotFoundError:
            continue  # optional, and not installed
        edges.setdefault(here, set()).update(other for other, _ in needs)
        waiting += needs
    return {here: {other for other in needs if other in edges} for here, needs in edges.items()}


def reference(name: str) -> str:
    """Returns the package URL of an installed distribution."""
    return f"pkg:pypi/{name}@{metadata.version(name)}"


def licences(name: str) -> list[dict]:
    """Returns the licence of a distribution as its metadata says it; [] where it says none."""
    facts = metadata.metadata(name)
    if expression := facts.get("License-Expression"):
        return [{"expression": expression}]
    said = (facts.get("License") or "").strip()
    if said and len(said) <= LONG and "\n" not in said and said.upper() != "UNKNOWN":
        return [{"license": {"name": said}}]
    classified = [
        line.rpartition(" :: ")[2]
        for line in facts.get_all("Classifier") or ()
        if line.startswith("License :: ")
    ]
    return [{"license": {"name": line}} for line in classified]


def component(name: str, kind: str) -> dict:
    """Returns what an SBOM says of a distribution."""
    facts = metadata.metadata(name)
    entry = {
        "type": kind,
        "bom-ref": reference(name),
        "name": facts["Name"],
        "version": metadata.version(name),
        "purl": reference(name),
    }
    if summary := (facts.get("Summary") or "").strip():
        entry["description"] = summary
    if listed := licences(name):
        entry["licenses"] = listed
    return entry


def sbom(name: str, extras: frozenset[str] = frozenset()) -> dict:
    """Returns the SBOM of an installed distribution, as plain data."""
    edges = closure(name, extras)
    top = normal(name)
    parts = [component(other, "library") for other in sorted(edges) if other != top]
    bom = {
        "metadata": {"component": component(top, "application")},
        "components": parts,
        "dependencies": [
            {"ref": reference(here), "dependsOn": sorted(map(reference, edges[here]))}
            for here in sorted(edges)
        ],
    }
    digest = hashlib.sha256(json.dumps(bom, sort_keys=True).encode()).digest()
    serial = uuid.UUID(bytes=digest[:16], version=4)
    head = {"bomFormat": "CycloneDX", "specVersion": SPEC, "serialNumber": f"urn:uuid:{serial}"}
    return {**head, "version": 1, **bom}


def main() -> None:
    """Prints the SBOM of the distribution that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("distribution", nargs="?", default="lrl-jax")
    parser.add_argument("--extra", action="append", default=[], help="an extra to count in")
    args = parser.parse_args()
    try:
        bom = sbom(args.distribution, frozenset(args.extra))
    except metadata.PackageNotFoundError:
        sys.exit(f"sbom: {args.distribution} is not installed here; pip install the wheel first")
    json.dump(bom, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
