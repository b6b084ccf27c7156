"""Packing with Python's integers of any length."""


def pack_bits(digits: list[int], bits: int) -> bytes:
    """Digit i at bits i*bits ... of one long integer, written from its least significant byte."""
    number = sum(digit << (i * bits) for i, digit in enumerate(digits))
    return number.to_bytes((len(digits) * bits + 7) // 8, "little")


def pack_trits(digits: list[int]) -> bytes:
    """Five digits of base 3 to a byte, the first counting for most little."""
    fives = [digits[i : i + 5] for i in range(0, len(digits), 5)]
    return bytes(sum(digit * 3**k for k, digit in enumerate(five)) for five in fives)
