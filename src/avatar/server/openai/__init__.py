"""OpenAI's HTTP API, as its clients use it: everything below `/v1` but the Realtime protocol."""
