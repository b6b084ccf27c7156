"""Pages about results: figures and tables to look at, made of what `records` reads alone.

Contracts: `parts.Part`, a piece of a page; `figure.Figure`, one that draws; `subject.Subject`, a
kind of folder that a page is about.
"""
