"""Holds the scripts of the repository; a package so that tests can import them by name."""
