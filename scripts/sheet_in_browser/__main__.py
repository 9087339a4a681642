"""Gives one set of answers through the page in a real browser, as CSV and from Label Studio.

    npm install puppeteer-core
    CHROMIUM=/usr/bin/chromium python scripts/sheet_in_browser --out sheets_in_browser

Sheets in Korean and in Persian, which is read from the right. All three ways must give the same
tables and results. The saved files and pictures of the pages stay in the folder, to be looked at.
"""

import argparse
import csv
import io
import json
from pathlib import Path
import subprocess
import sys

NAMES = ("kim", "lee")
DRIVER = Path(__file__).with_name("drive.js")


def main() -> None:
    """Makes sheets, answers them in three ways, and compares what is read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="sheets_in_browser", type=Path)
    out = parser.parse_args().out.resolve()
    for line in Path(__file__).with_name("answers.jsonl").read_text(encoding="utf-8").splitlines():
        texts = json.loads(line)
        compare(out / texts["language"], **texts)


def compare(folder: Path, language: str, question: str, answers: list[str]) -> None:
    """Answers the sheets of one language in three ways."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, answer in zip("ab", answers, strict=True):
        rows = ({"id": i, "prompt": f"{question} ({i})", "output": answer} for i in range(30))
        content = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(content, encoding="utf-8")
    lrl("sheet", "make", f"{folder}/a.jsonl", f"{folder}/b.jsonl", "--names", *NAMES,
        "--language", language, "--out", str(folder))  # fmt: skip
    hand_out = folder / "hand_out"
    for name in NAMES:
        subprocess.run(["node", str(DRIVER), f"{hand_out}/{name}.html", str(folder)], check=True)
        saved = json.loads((folder / f"{name}.answers.json").read_text(encoding="utf-8"))
        choices = {row: answer["choice"] for row, answer in saved["answers"].items()}
        (folder / f"{name}.csv").write_bytes(as_csv(hand_out / f"{name}.csv", choices))
        tasks = json.loads((hand_out / f"{name}.tasks.json").read_text(encoding="utf-8"))
        (folder / f"{name}.export.json").write_text(json.dumps(exported(tasks, choices)))
    read = [result(folder, suffix) for suffix in ("answers.json", "csv", "export.json")]
    if any(got != read[0] for got in read):
        sys.exit(f"{folder}: the three ways differ")
    print(f"{language}: page, CSV and Label Studio give the same table\n{read[0][0]}")


def as_csv(path: Path, choices: dict[str, str]) -> bytes:
    """Returns a sheet with its choices filled in."""
    rows = [*csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))]
    for row in rows[1:]:
        row[4] = choices.get(row[8], "")
    content = io.StringIO(newline="")
    csv.writer(content).writerows(rows)
    return content.getvalue().encode("utf-8-sig")


def exported(tasks: list[dict], choices: dict[str, str]) -> list[dict]:
    """Returns tasks as Label Studio exports them."""
    for task in tasks:
        choice = choices.get(task["data"]["row"])
        value = {"from_name": "choice", "to_name": "prompt", "type": "choices",
                 "value": {"choices": [choice]}}  # fmt: skip
        task["annotations"] = [{"completed_by": 1, "result": [value]}] if choice else []
    return tasks


def result(folder: Path, suffix: str) -> tuple[str, dict]:
    """Returns the tables and the results of the files that end in a suffix."""
    files = [f"{folder}/{name}.{suffix}" for name in NAMES]
    table = lrl("sheet", "read", *files, "--key", f"{folder}/key.json")
    results = json.loads((folder / "human.json").read_text(encoding="utf-8"))
    results.pop("sources")
    return table, results


def lrl(*words: str) -> str:
    """Runs a verb, and returns what it prints."""
    command = [sys.executable, "-m", "lrl_jax.cli", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
