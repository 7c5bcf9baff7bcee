"""Voices people brought: the library of profiles, their enrolment, their similarity.

Knows no engine, no store and no transport: what it needs of them comes in as plain functions and small Protocols.
"""
