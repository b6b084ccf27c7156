"""The schema of every file that is written."""
