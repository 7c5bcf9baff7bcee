"""OpenAI's Realtime protocol without a socket: events in and out, the session, the conversation, a response's course.

Pure: ids are made by a function that is given, and there is no clock and no asyncio.
"""
