"""Operations: what happened, for those who were not there.

    audit.py        every command that changes something leaves a record: who, when, why, before, after
    metrics.py      the families of `cdc metrics`, made of what `cdc status` knows
    endpoint.py     looks with a deadline; /metrics, /healthz, /readyz
    dashboard.json  for Grafana, and alerts.yaml for Prometheus: they name only families of metrics.py

What may be changed here: a new mutating command runs through `audited`; nothing else writes cdc.audit. A
family gets a new name rather than a new meaning, because dashboards outlive releases.
"""
