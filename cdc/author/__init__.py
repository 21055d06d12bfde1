"""The mapping author's loop: scaffold, test, preview, plan, apply.

Empty so far: `cdc mapping lint` (cdc/cli/mapping.py) calls the language in cdc/mapping directly.

What will live here: making a first mapping from a source's catalog, running a mapping on events that were recorded,
showing what a changed mapping would do to real data before it does it, and rolling it out. As every command that
changes something (decision 16 of the design) these rehearse by default, take `--execute` and `--reason`, and leave an
audit record. The language itself stays in cdc/mapping, the applying of rows in cdc/engine: this room only arranges
them for a person.
"""
