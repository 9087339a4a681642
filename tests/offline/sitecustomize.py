"""Lets no process of the suite reach another machine; Python imports this file when it starts.

conftest.py puts this folder on PYTHONPATH, so that child processes are guarded too. An attempt gets
the error of a network that is down, and is noted in the file LRL_TEST_CONNECTIONS: its test fails
even if the error was caught. Libraries in C++ that have a network client of their own are not seen.
"""

import os
import sys

# Audit events of Python -> which of their arguments names the other machine.
EVENTS = {
    "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1,
    "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0,
}  # fmt: skip


def is_here(host: object) -> bool:
    """Tells whether an argument of an event names this machine: a host, or (host, port, ...)."""
    import ipaddress
    import socket

    if isinstance(host, tuple):
        host = host[0]
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not isinstance(host, str) or host.startswith(("/", "\0")):
        return True  # of this machine by its kind: a socket in the file system, or none at all
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified or is_own(str(address))


def is_own(address: str) -> bool:
    """Tells whether this machine has an address, which nobody else can then listen at."""
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as own:
            own.bind((address, 0))
    except OSError:
        return False
    return True


def refuse(event: str, arguments: tuple) -> None:
    """Raises ConnectionRefusedError for an event that would reach another machine."""
    if event not in EVENTS or is_here(arguments[EVENTS[event]]):
        return
    what = f"{event} {arguments[EVENTS[event]]!r}"
    if file := os.environ.get("LRL_TEST_CONNECTIONS"):
        with open(file, "a", encoding="utf-8") as notes:
            notes.write(f"{what} by {' '.join(sys.argv[:3])}\n")
    raise ConnectionRefusedError(f"{what}: the tests run without a network")


sys.addaudithook(refuse)
