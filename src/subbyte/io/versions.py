"""Versions of packages, also where one runs from its source."""

from importlib.metadata import PackageNotFoundError, version


def installed(package: str) -> str:
    """The version of a package; empty where it is not installed, but runs from a folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
