"""The folder of the test data is found, and the suite says what it skipped."""

from pathlib import Path
import subprocess
import sys

from conftest import data_folder, skipped_lines
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
