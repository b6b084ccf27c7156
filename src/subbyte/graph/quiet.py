"""Silence around torch.export and torch.onnx."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def silence() -> Iterator[None]:
    """torch.export and torch.onnx print, log and warn about things that are no concern of the
    user's.
    """
    loggers = [
        logging.getLogger(name)
        for name in (
            *("torch", "torch.onnx", "torch.export", "torch._guards", "torch._dynamo"),
            *("onnxscript", "onnx_ir"),
        )
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
