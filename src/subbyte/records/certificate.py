"""Contents of a certificate: the proof of an exported file, which lies beside it where no
result.json tells of it.
"""

from typing import ClassVar

from pydantic import Field

from subbyte.records.base import Count, Document
from subbyte.records.parity import Parity

SUFFIX = ".certificate.json"
"""The end of a certificate's name, in place of the ending of the file that it is about."""


class Certificate(Document):
    """The proof of an exported file.

    exporter: its name; runtime: that proved the file; files: all that were written, in the folder
    of the certificate, with the sha256 in hexadecimal of each; bytes: of all of them; opset: None
    where the format has none; notes: by layer or activation, how the file holds it; source, digest:
    the packed file that was exported and its sha256; versions: of the software.
    """

    VERSION: ClassVar[int] = 1
    WRITER: ClassVar[str] = "subbyte export"

    exporter: str
    runtime: str
    files: dict[str, str] = Field(min_length=1)
    bytes: Count
    opset: int | None = None
    parity: Parity
    notes: dict[str, str] = Field(default_factory=dict)
    source: str
    digest: str
    versions: dict[str, str] = Field(default_factory=dict)
