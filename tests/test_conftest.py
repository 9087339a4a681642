"""The test data is found, the suite says what it skipped, and it reaches no other machine."""

from pathlib import Path
import re
import shutil
import socket
import subprocess
import sys
import urllib.request

from conftest import CONNECTIONS, data_folder, skipped_lines
import pytest

NO_TORCH = "Skipped: could not import 'torch': No module named 'torch'"


def test_the_environment_names_the_folder_of_the_test_data(tmp_path, monkeypatch):
    monkeypatch.setenv("LRL_TEST_DATA", str(tmp_path / "elsewhere"))
    (tmp_path / "checkout" / "test_data").mkdir(parents=True)
    assert data_folder(tmp_path / "checkout") == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("folders", "want"),
    [
        ([], "checkout/test_data"),
        (["shared/data"], "shared/data"),
        (["shared/data", "checkout/test_data"], "checkout/test_data"),
    ],
)
def test_the_checkout_comes_before_a_folder_beside_it(folders, want, tmp_path, monkeypatch):
    monkeypatch.delenv("LRL_TEST_DATA", raising=False)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert data_folder(tmp_path / "checkout") == tmp_path / want


def test_skipped_tests_are_counted_by_what_they_want():
    got = skipped_lines(
        [
            ("tests/test_a.py::test_one", "Skipped: needs the public test data"),
            ("tests/test_a.py::test_two", "Skipped: needs the public test data: udhr"),
            ("tests/test_b.py", NO_TORCH),
            ("tests/test_c.py::test_three", NO_TORCH),
            ("tests/test_c.py::test_four", "Skipped: no libtpu"),
        ]
    )
    assert got[0].startswith("skipped for want of public test data (`python scripts/get_data.py`")
    assert got[0].endswith(": 2 tests and 0 whole files")
    assert got[1].startswith("skipped for want of torch or peft (")
    assert got[1].endswith(": 1 tests and 1 whole files")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_suite_says_at_its_end_what_it_skipped(workers, tmp_path, monkeypatch):
    monkeypatch.setenv("LRL_TEST_DATA", str(tmp_path / "none"))
    test = Path(__file__).with_name("test_donor.py")
    command = [sys.executable, "-m", "pytest", "-n", workers, "-q", str(test), "-k", "published"]
    got = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert got.returncode == 0, got.stdout
    assert "skipped for want of public test data (" in got.stdout
    assert "): 3 tests and 0 whole files\n" in got.stdout


def test_the_settings_of_the_suite_are_read_once():
    """Under a second name they would be made anew, with another file for what was tried."""
    again = re.compile(r"^(from|import) tests\b", re.MULTILINE)
    files = Path(__file__).parent.rglob("*.py")
    assert [file.name for file in files if again.search(file.read_text())] == []


# ---------------------------------------------------------------------------- no network
REACHES = (
    "import contextlib, socket\n"
    "with contextlib.suppress(OSError):\n"
    "    socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
)


@pytest.fixture
def attempts():
    """A function that returns what was tried since it was last called, for tests that try."""

    def take():
        text = CONNECTIONS.read_text(encoding="utf-8") if CONNECTIONS.exists() else ""
        CONNECTIONS.unlink(missing_ok=True)
        return text

    yield take
    take()


@pytest.mark.parametrize(
    "reach",
    [
        lambda s: s.connect(("192.0.2.1", 80)),
        lambda s: s.connect_ex(("192.0.2.1", 80)),
        lambda s: s.sendto(b"x", ("192.0.2.1", 53)),
        lambda s: socket.create_connection(("example.org", 80), timeout=1),
        lambda s: socket.gethostbyname("example.org"),
        lambda s: urllib.request.urlopen("http://192.0.2.1/", timeout=1),
    ],
    ids=["connect", "connect_ex", "sendto", "name", "gethostbyname", "http"],
)
def test_another_machine_is_never_reached(reach, attempts):
    with socket.socket() as s:
        s.settimeout(1)
        with pytest.raises(OSError, match="the tests run without a network"):
            reach(s)
    assert "192.0.2.1" in (tried := attempts()) or "example.org" in tried


def test_this_machine_is_reached(attempts):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        for host in ("localhost", "127.0.0.1"):
            socket.create_connection((host, port), timeout=9).close()
    left, right = socket.socketpair()
    left.close()
    right.close()
    assert socket.getaddrinfo(socket.gethostname(), 80)
    assert attempts() == ""


@pytest.mark.parametrize("flags", [[], ["-P"]], ids=["plain", "without its own folder"])
def test_a_child_process_reaches_no_other_machine_either(flags, attempts):
    subprocess.run([sys.executable, *flags, "-c", REACHES], check=True, timeout=60)
    assert "'192.0.2.1' by -c" in attempts()


def test_a_test_that_tries_in_secret_fails(tmp_path):
    for name in ("conftest.py", "xla_flags.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    shutil.copytree(Path(__file__).with_name("offline"), tmp_path / "offline")
    lines = "".join(f"    {line}\n" for line in REACHES.splitlines())
    (tmp_path / "test_secret.py").write_text(f"def test_secret():\n{lines}")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", str(tmp_path)]
    got = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert got.returncode == 1, got.stdout
    assert "tests have no network, and this one tried:\nsocket.getaddrinfo '192.0.2.1' by" in (
        got.stdout
    )
