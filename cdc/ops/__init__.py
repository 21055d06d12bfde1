"""Operations: what happened, for those who were not there.

    audit.py   every command that changes something leaves a record: who, when, why, before, after

What may be changed here: a new mutating command runs through `audited`; nothing else writes cdc.audit.
"""
