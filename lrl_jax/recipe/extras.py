"""Says how to install an optional part of the package, an extra of pyproject.toml."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def how_to_install(extra: str, checkout: Path = CHECKOUT) -> str:
    """Returns the command that adds an extra to this installation.

    The package is on no public index. The command names the checkout that the package runs from, or
    where there is none, the wheel file that it was installed from.
    """
    if (checkout / "pyproject.toml").exists():
        return f'pip install -e "{checkout}[{extra}]"'
    return f'pip install "PATH_OF_WHEEL[{extra}]", with the wheel file of lrl_jax'
