"""Packing with Python's integers of any length."""

from fractions import Fraction


def pack_bits(digits: list[int], bits: int) -> bytes:
    """Digit i at bits i*bits ... of one long integer, written from its least significant byte."""
    number = sum(digit << (i * bits) for i, digit in enumerate(digits))
    return number.to_bytes((len(digits) * bits + 7) // 8, "little")


def word_of(base: int) -> tuple[int, int] | None:
    """(digits, bytes) of the word of 1 to 8 bytes with the fewest bits a digit, the shortest such;
    None where digits of whole bits are as small.
    """
    best = None
    for size in range(1, 9):
        digits = max(n for n in range(65) if base**n <= 256**size)
        if digits and (best is None or Fraction(size, digits) < Fraction(best[1], best[0])):
            best = digits, size
    whole_bits = len(bin(base - 1)) - 2
    return best if best and Fraction(8 * best[1], best[0]) < whole_bits else None


def pack_words(digits: list[int], base: int) -> bytes:
    """Each word is one integer, the first digit counting for least; the last has the bytes that its
    digits need.
    """
    count, size = word_of(base) or (0, 0)
    packed = b""
    for start in range(0, len(digits), count):
        word = digits[start : start + count]
        number = sum(digit * base**k for k, digit in enumerate(word))
        needed = min(n for n in range(9) if base ** len(word) <= 256**n)
        packed += number.to_bytes(size if len(word) == count else needed, "little")
    return packed


def pack_digits(digits: list[int], base: int) -> bytes:
    """In words where they are smaller than digits of whole bits, as few as the base needs."""
    return pack_words(digits, base) if word_of(base) else pack_bits(digits, len(bin(base - 1)) - 2)
