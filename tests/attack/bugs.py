"""Bugs."""

BUGS: dict = {}
