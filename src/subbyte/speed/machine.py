"""The processor at hand, and which of its instructions decide how fast integers are."""

import platform
from pathlib import Path

from subbyte.io.texts import read_text

_ABOUT = Path("/proc/cpuinfo")
_NAME, _FLAGS = "model name", "flags"
_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
"""Instructions of x86: without the last three, int8 products take three instructions, or
saturate.
"""


def processor() -> str:
    """Its name and telling instructions, where Linux says them."""
    if not _ABOUT.exists():
        return platform.processor()
    found: dict[str, str] = {}
    for line in read_text(_ABOUT).splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    flags = set(found.get(_FLAGS, "").split())
    telling = " ".join(one for one in _TELLING if one in flags)
    name = found.get(_NAME, platform.machine())
    return f"{name} ({telling})" if telling else name
