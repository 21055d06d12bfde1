"""The mapping language: YAML files of pipelines -> checked, frozen models -> compiled plans (events -> mapped rows).

    diagnostics.py   errors that point at the line, the way ruff and rustc do
    model.py         what a pipeline file may say (pydantic); the editor's schema comes from it (schema_json.py)
    rules.py         ... about conflicts; rule_checks.py finds what is wrong with that, and compiles it
    load.py          files -> `Pipeline`, with every finding of all files in one error
    compile.py       (mapping, schema version) -> `Plan`; plan.py runs it
    filters.py       ... for the rows inside of `where:` only; forms.py: maps of values and defaults
    expressions.py   SQL expressions -> typed closures; functions.py holds the allow-list of what they may use,
                     change.py what they may read beside the row's columns

What may be changed here: a new key of the language is a field with its docstring in model.py, its meaning in
compile.py, a unit test, and `cdc mapping schema --write`. A new SQL function is an entry in functions.py (or its
neighbours) and a row of the differential test against PostgreSQL; without that test it does not go in.
"""
