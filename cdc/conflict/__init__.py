"""Conflict rules and their resolution: several sources, or several rows, say something about one target row.

Empty so far: today every target row has one source row, and the position guard settles which change is newer.

What will live here: pure functions without I/O, (contributions, rules) -> target row and decisions. Each source row's
latest contribution is kept (values, position, version time; losers and deletes too), and the target row is a function
of the contributions alone: any interleaving ends the same, a replay changes nothing, and deltas and aggregates come
from contributions, never from increments (decision 6 of the design). A rule goes in with its line in the oracle.
"""
