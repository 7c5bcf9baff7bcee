"""OpenAI's Realtime protocol: events in and out, the session, the conversation, a response's course.

Pure but for `talk`, `hearing` and `answers` (which drive a live session), `connection` and `socket`.
"""
