"""The messages of `/ws/chat`, as types: what a client may send (`client`) and what it may get (`server`).

Owns names, fields and bounds. Knows no socket and no session. `web/src/wire.ts` and the tables of `docs/PROTOCOL.md`
are generated from these files.
"""
