"""Change-data-capture synchronization: Debezium's change streams in, mapped and guarded rows out.

Rooms (packages) and who may import whom, left to right only; tests/unit/test_architecture.py holds it:

    model, errors, settings, retry, yamlfile  <-  db  <-  source | mapping | conflict | target  <-  engine
        <-  author | reconcile | control  <-  demo | ops  <-  cli

Rooms with a bar between them never import one another. `stack` stands alone: only cli, demo and the tests use it.
"""
