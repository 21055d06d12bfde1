"""The benchmark: the same prefilled topics for every contender, in one run, on one machine, in interleaved rounds.

    make bench-quick    snapshot into empty tables and onto existing rows, latency; under five minutes
    make bench          all workloads; writes results.json, RESULTS.md and results.svg beside this file

    world.py        stack, source database, connectors: fills topics once
    workloads.py    the tables, what is written to them, and how a run is known to be complete
    contenders.py   this applier, the Debezium JDBC sink, the hand-written limit, reading alone
    targets.py      target databases; rates from the commit time of every row
    usage.py        CPU seconds and memory from /proc
    latency.py      commit to visible, row by row
    profile.py      where the applier's time goes, both threads
    report.py       table and plot

How things are measured. PostgreSQL keeps the commit time of every transaction (`track_commit_timestamp`), so rates and
latencies are read from the rows' own xmin when a run is over: nobody polls a contender while it runs but for the few
key look-ups that tell the end. First to last visible row: the first commit's rows are not counted, its time is the
start. CPU is what the kernel counted for the processes. CDC_BENCH_STACK=<home> uses a stack that is there.
"""
