"""The arithmetic of the original programs, errors included, to reproduce their numbers."""
