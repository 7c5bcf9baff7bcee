"""OpenAI's Realtime protocol: events in and out, the session, the conversation, a response's course.

Pure but for `talk` (which drives a live session) and `socket`: ids are made by a function that is given.
"""
