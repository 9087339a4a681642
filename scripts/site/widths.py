"""Opens every page of the site in a browser, and names those that scroll sideways.

    CHROMIUM=/usr/bin/chromium python -m scripts.site.widths build/docs 400 1400

Ends with 1 where a page is wider than its window. Pages are opened from their files, without a
server, in one browser that shows each in a frame of the width.
"""

import argparse
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile

SECONDS = 600  # for all pages
SCRIPT = """
<script>
const pages = PAGES, widths = WIDTHS, wide = [];
const frame = document.createElement("iframe");
document.body.append(frame);
frame.style.height = "1000px";
async function look() {
  for (const page of pages) for (const width of widths) {
    frame.style.width = width + "px";
    await new Promise(loaded => { frame.onload = loaded; frame.src = page; });
    const root = frame.contentDocument.documentElement;
    if (root.scrollWidth > root.clientWidth || !frame.contentDocument.querySelector("article"))
      wide.push([page.slice(BEGIN), width, root.scrollWidth]);
  }
  document.title = "done";
  const said = document.createElement("pre");
  said.textContent = JSON.stringify({looked: pages.length * widths.length, wide});
  document.body.replaceChildren(said);
}
look();
</script>
"""


def main() -> int:
    """Measures the pages of a folder at some widths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("widths", nargs="+", type=int)
    args = parser.parse_args()
    result = measure(args.folder.resolve(), args.widths)
    for page, width, got in result["wide"]:
        print(f"{page}: {got} px wide in a window of {width}")
    print(f"{result['looked']} looks, {len(result['wide'])} too wide")
    return int(bool(result["wide"]))


def measure(folder: Path, widths: list[int]) -> dict:
    """Returns how many looks were taken, and (page, width, its own width) of those too wide."""
    pages = [path.as_uri() for path in sorted(folder.rglob("*.html"))]
    given = {"PAGES": pages, "WIDTHS": widths, "BEGIN": len(folder.as_uri()) + 1}
    script = SCRIPT
    for name, value in given.items():
        script = script.replace(name, json.dumps(value))
    with tempfile.TemporaryDirectory() as scratch:
        opener = Path(scratch) / "look.html"
        opener.write_text(f"<!doctype html><body>{script}", encoding="utf-8")
        command = [
            os.environ.get("CHROMIUM", "chromium"), "--headless=new", "--no-sandbox",
            "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
            f"--user-data-dir={scratch}/profile", f"--timeout={1000 * SECONDS}",
            f"--virtual-time-budget={1000 * SECONDS}", opener.as_uri(),
        ]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"<pre>(\{.*?\})</pre>", shown, re.DOTALL)
    if found is None:
        sys.exit("the browser did not come to the end of the pages")
    return json.loads(found[1].replace("&amp;", "&"))


if __name__ == "__main__":
    sys.exit(main())
