"""Makes the documents of the in-context-learning probe that ships with the package.

    python scripts/in_context_probe.py

English alone tells whether a model still learns from examples in its prompt: continued pretraining
on one language can lose that while bits per byte stay the same (arXiv 2506.00288). Two tasks ask
for a label that nothing but the examples gives away:

    in_context_copy      the word stood among the examples: its label is to be found again
    in_context_classes   a new word: the examples of one label are animals, say, of the other foods

Guessing is right in exactly half of the documents, however one guesses: each label is right equally
often, and equally often where the last example has it, and every prompt has four examples of each.
"""

from collections.abc import Iterator
import json
from pathlib import Path
import random

FOLDER = Path(__file__).parents[1] / "lrl_jax/evaluate/tasks"
LABELS = ("dax", "wug")  # words that mean nothing
DOCUMENTS = 200  # a multiple of 4: two labels that are right, two labels of the last example
EXAMPLES = 8
CLASSES = (
    ("cat", "dog", "cow", "pig", "horse", "sheep", "bird", "fish", "mouse", "bear"),
    ("bread", "milk", "cake", "apple", "egg", "rice", "soup", "cheese", "honey", "butter"),
    ("red", "blue", "green", "yellow", "black", "white", "brown", "pink", "gray", "orange"),
    ("hand", "foot", "head", "nose", "eye", "ear", "arm", "leg", "mouth", "knee"),
    ("chair", "table", "bed", "lamp", "door", "window", "shelf", "desk", "mirror", "sofa"),
)


def documents(task: str, seed: int) -> Iterator[dict]:
    """Yields the documents of a task: examples, the word that is asked, and its label."""
    dice = random.Random(seed)
    for number in range(DOCUMENTS):
        target, last = number % 2, number // 2 % 2
        words = [dice.sample(words, EXAMPLES // 2 + 1) for words in dice.sample(CLASSES, 2)]
        if task == "copy":  # words of both classes have either label
            mixed = dice.sample([word for group in words for word in group], EXAMPLES + 2)
            words = [mixed[::2], mixed[1::2]]
        asked = words[target].pop()
        examples = [(word, label) for label in (0, 1) for word in words[label][: EXAMPLES // 2]]
        dice.shuffle(examples)
        at = dice.choice([i for i, (_, label) in enumerate(examples) if label == last])
        examples.append(examples.pop(at))
        if task == "copy":
            asked = dice.choice([word for word, label in examples[:-1] if label == target])
        named = [[word, LABELS[label]] for word, label in examples]
        yield {"examples": named, "word": asked, "label": target}


def text(task: str) -> str:
    """Returns the file of a task, a document a line."""
    seed = {"copy": 1, "classes": 2}[task]
    return "".join(json.dumps(document) + "\n" for document in documents(task, seed))


if __name__ == "__main__":
    for name in ("copy", "classes"):
        (FOLDER / f"in_context_{name}.jsonl").write_text(text(name))
