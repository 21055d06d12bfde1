"""Change-data-capture synchronization: Debezium's change streams in, mapped and guarded rows out.

Rooms (packages) and who may import whom, left to right only:

    model, errors, settings, retry  <-  db  <-  source | mapping | conflict | target  <-  engine
        <-  author | reconcile | control  <-  ops  <-  cli          (stack stands alone; cli and tests use it)
"""
