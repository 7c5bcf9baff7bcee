"""F5-TTS in plain PyTorch: a clause at a time, in the voice of a recording."""
