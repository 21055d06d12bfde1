"""The mapping author's loop: scaffold, test, preview, plan, apply.

Empty so far: `cdc mapping lint` (cdc/cli/mapping.py) calls the language in cdc/mapping directly.

What will live here: making a first mapping from a source's catalog, running a mapping on events that were recorded,
showing what a changed mapping would do to real data before it does it, and rolling it out. Every command that changes
something rehearses by default, takes `--execute` and `--reason`, and leaves an audit record. The language itself stays
in cdc/mapping, the applying of rows in cdc/engine: this room only arranges them for a person.
"""
