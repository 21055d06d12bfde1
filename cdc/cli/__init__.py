"""The command line: one thin module a command group, mounted in main.py. No logic lives here.

A command reads its options, calls one function of a room below, and shows what came back: as a table for people, with
`-o json` for programs. main.py turns errors into exit codes: 0 done, 1 findings or refused, 2 usage. common.py and
shown.py hold the options and the ways of showing that several commands share.

What may be changed here: names, help texts, layout. A command that changes something rehearses by default, takes
`--execute` and `--reason`, and runs through `cdc.ops.audit`; a decision or a query belongs into the room that it is
about, where it can be tested without a terminal.
"""
