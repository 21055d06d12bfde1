"""A test of a mapping with conflict rules, as an author writes it: played in memory and on databases."""

OURS_AND_THEIRS = """
tests:
  - name: ours and theirs
    given: {hub.ruled: [{id: 1, name: ours}]}
    foreign: {hub.ruled: [{id: 2, name: theirs}]}
    events:
      - {table: public.ruled, op: create, after: {id: 2, name: new}, decision: "insert_exists:target_wins"}
      - {table: public.ruled, op: update, after: {id: 1, name: changed}, decision: applied}
      - {table: public.ruled, op: update, after: {id: 3, name: gone}, decision: "update_missing:skip"}
    rows: {hub.ruled: [{id: 1, name: changed}, {id: 2, name: theirs}]}
"""
"""Of hub.ruled, from public.ruled: `insert_exists: target_wins`, `update_missing: skip`."""
