"""Says what the licence of a base asks of whoever passes on a model that was made from it.

A summary to act on, not the licence: the table names the paragraph of each, which decides.
"""

import dataclasses
import re

# Licence ids that the hub lists; another one is written as `other` with its name beside it.
LICENSES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gfdl", "gpl-3.0", "odbl",
    "odc-by", "openrail", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4",
    "gemma", "unknown", "other",
)  # fmt: skip
FILES = ("LICENSE*", "USE_POLICY*", "NOTICE*")  # of a base, which go with what is made from it
NOTICE = "NOTICE"


@dataclasses.dataclass(frozen=True)
class Duties:
    """Says what a licence asks of a model that is passed on.

    Attributes:
      called: the licence in words.
      begins: what the name of such a model begins with; "" where it may have any.
      shows: a sentence that its page shows; "" where none is asked for.
      notice: the text of a file NOTICE that goes with it.
      passes_on: what else whoever passes it on does.
      source: the paragraph of the licence.
    """

    called: str
    begins: str
    shows: str
    notice: str
    passes_on: tuple[str, ...]
    source: str

    def refuses(self, name: str) -> str:
        """Returns why a repository may not have a name, as the licence asks; "" where it may.

        >>> DUTIES["llama3.1"].refuses("org/Llama-3.1-korean"), DUTIES["llama2"].refuses("org/a")
        ('', '')
        >>> DUTIES["llama3"].refuses("org/korean-llama")
        "the Llama 3 Community License (1.b.i) asks that the name begin with 'Llama 3'"
        """
        own = _letters(name.rpartition("/")[2])
        if own.startswith(_letters(self.begins)):
            return ""
        return f"the {self.called} ({self.source}) asks that the name begin with {self.begins!r}"


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _llama(version: str, begins: str, shows: str, meta: str = "") -> Duties:
    called = f"{meta}Llama {version} Community License"
    return Duties(
        called=f"Llama {version} Community License",
        begins=begins,
        shows=shows,
        notice=f"{meta}Llama {version} is licensed under the {called}, Copyright (c) Meta "
        "Platforms, Inc. All Rights Reserved.",
        passes_on=(
            "a copy of the licence goes with the model (its file is called LICENSE)",
            "its use follows Meta's acceptable use policy",
        ),
        source="1.b.i" if begins else "1.b",
    )


DUTIES = {
    "llama2": dataclasses.replace(
        _llama("2", "", ""),
        notice="Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta "
        "Platforms, Inc. All Rights Reserved.",
    ),
    "llama3": _llama("3", "Llama 3", "Built with Meta Llama 3", "Meta "),
    "llama3.1": _llama("3.1", "Llama", "Built with Llama"),
    "llama3.2": _llama("3.2", "Llama", "Built with Llama"),
    "llama3.3": _llama("3.3", "Llama", "Built with Llama"),
    "llama4": _llama("4", "Llama", "Built with Llama"),
    "gemma": Duties(
        called="Gemma Terms of Use",
        begins="",
        shows="",
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms",
        passes_on=(
            "a copy of the terms goes with the model, and its use restrictions (section 3.2) bind "
            "whoever gets it",
            "what was changed is said: these weights are no longer Google's",
        ),
        source="3.1",
    ),
}


def duties(license: str) -> Duties | None:
    """Returns what a licence of the hub's list asks; None where it asks nothing of this kind."""
    return DUTIES.get(license)


def passed_on(license: str, base_license: str) -> str:
    """Returns the licence of a model: its own, or where it says none, one that its base imposes.

    >>> passed_on("other", "llama3.1"), passed_on("mit", "llama3.1"), passed_on("other", "mit")
    ('llama3.1', 'mit', 'other')
    """
    return base_license if license == "other" and base_license in DUTIES else license


def front(license: str) -> dict[str, str | list[str] | None]:
    """Returns the licence as the hub reads it in a card: ids, or `other` and a name of its own.

    >>> front("cc-by-sa-3.0, gfdl")["license"]
    ['cc-by-sa-3.0', 'gfdl']
    >>> front("My own: licence")
    {'license': 'other', 'license_name': 'my-own-licence'}
    """
    ids = license.split(", ")
    if {*ids} <= {*LICENSES}:
        return {"license": license if len(ids) == 1 else ids, "license_name": None}
    name = re.sub("[^a-z0-9.]+", "-", license.lower()).strip("-.")
    return {"license": "other", "license_name": name or None}
