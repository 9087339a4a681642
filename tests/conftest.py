"""Makes every test strict, finds the public test data, and says at the end what was skipped.

Strict: no silent broadcasting, no silent change of dtype, eight CPU devices, no network.
"""

import os
from pathlib import Path
import runpy
import shutil
import tempfile

import jax
import pytest
import xla_flags

os.environ["XLA_FLAGS"] = xla_flags.cheap()
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

CHECKOUT = Path(__file__).parents[1]
# The suite runs without a network, in this process and in those that it starts.
OFFLINE = Path(__file__).with_name("offline")
CONNECTIONS = Path(tempfile.mkdtemp(prefix="lrl-tests-")) / "connections"  # those that were tried
os.environ["LRL_TEST_CONNECTIONS"] = str(CONNECTIONS)
PATHS = [str(OFFLINE), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, PATHS))
collect_ignore = ["offline", "fake_cloud"]
for proxy in ("http_proxy", "https_proxy", "all_proxy"):  # one on this machine leads elsewhere
    os.environ.pop(proxy, None)
    os.environ.pop(proxy.upper(), None)
runpy.run_path(str(OFFLINE / "sitecustomize.py"))
NO_DATA = "needs the public test data"
# Words in the reason of a skipped test, and what the suite says of such tests at its end.
SKIPPED = {
    (NO_DATA,): "for want of public test data (`python scripts/get_data.py` fetches it)",
    ("torch", "peft"): 'for want of torch or peft (`pip install -e ".[parity]"` on Python 3.11, '
    "`pip install torch peft` on others)",
    ("llama_cpp is not",): "for want of llama.cpp (`pip install llama_cpp_python`)",
    ("needs ray",): 'for want of ray (`pip install -e ".[ray]"`)',
    ("openai",): 'for want of openai (`pip install -e ".[judge]"`)',
    ("needs sphinx",): 'for want of sphinx (`pip install -e ".[docs]"`)',
}


def data_folder(checkout: Path = CHECKOUT) -> Path:
    """Returns the folder of the public test data; it may be absent.

    It is LRL_TEST_DATA where that is set, else test_data in the checkout, else shared/data beside
    the checkout.
    """
    if folder := os.environ.get("LRL_TEST_DATA"):
        return Path(folder)
    beside = checkout.parent / "shared" / "data"
    own = checkout / "test_data"
    return beside if beside.exists() and not own.exists() else own


DATA = data_folder()
needs_data = pytest.mark.skipif(not DATA.exists(), reason=NO_DATA)


def data_file(path: str) -> Path:
    """Returns a file or folder of the public test data; skips the test where it is absent."""
    if not (DATA / path).exists():
        pytest.skip(f"{NO_DATA}: {path}")
    return DATA / path


@pytest.fixture(autouse=True)
def no_network():
    """Fails a test in which a process tried to reach another machine, even if it went on."""
    yield
    if CONNECTIONS.exists():
        attempts = CONNECTIONS.read_text(encoding="utf-8")
        CONNECTIONS.unlink()
        pytest.fail(f"tests have no network, and this one tried:\n{attempts}", pytrace=False)


def pytest_unconfigure():
    """Removes the folder of the attempts."""
    shutil.rmtree(CONNECTIONS.parent, ignore_errors=True)


def skipped_lines(reports: list[tuple[str, str]]) -> list[str]:
    """Returns a line for each kind of skipped tests.

    Args:
      reports: (node id, reason) of each skipped test, or of a file that was skipped whole.
    """
    lines = []
    for words, want in SKIPPED.items():
        nodes = [node for node, reason in reports if any(word in reason for word in words)]
        files = sum("::" not in node for node in nodes)
        if nodes:
            lines.append(f"skipped {want}: {len(nodes) - files} tests and {files} whole files")
    return lines


def pytest_terminal_summary(terminalreporter):
    """Says at the end what was skipped for want of data or of an optional library."""
    reports = terminalreporter.stats.get("skipped", [])
    for line in skipped_lines([(r.nodeid, str(r.longrepr)) for r in reports]):
        terminalreporter.write_line(line)
