"""What the routes of voices are given, each asked for anew at every request."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from avatar.engines.base import TextToSpeech
from avatar.voices.library import VoiceLibrary

LibraryNow = Callable[[], VoiceLibrary]
"""Raises `StoreError` while the server starts."""
Speaker = Callable[[], AbstractContextManager[TextToSpeech]]
"""The speech engine that serves, kept for as long as the context lasts. Raises `Overloaded`."""
