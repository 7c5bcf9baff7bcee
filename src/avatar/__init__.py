"""AVATAR: a self-hosted voice assistant you talk to in real time. Start reading at `avatar.app`."""

__version__ = "0.1.0"
