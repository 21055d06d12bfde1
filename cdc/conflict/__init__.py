"""Conflict rules and their resolution where several sources say something about one target row.

Pure functions without I/O. `contributions` keeps what each source row last said (values, position, when each value
changed; withdrawn ones too) under the guard of the design; `resolve` makes the target row of it: a function of the
contributions and the rules alone, so that any interleaving of the sources ends the same and a replay changes nothing;
`combine` has what single rules do to a column's values. `cdc.engine.merging` brings contributions from the target and
rows to it. A rule goes in with its line in the oracle (`cdc/engine/oracle_sources.py`).

What may be changed here: rules and how they decide, never when or where something is written.
"""
