"""Tests compute in the order that commands do, from their first product on."""

from subbyte.io.repeatable import fix_order

fix_order()
