"""End of turn: has the speaker finished, or only paused?"""
