"""Enrolled voices over HTTP, under the paths that clients of earlier systems call; all of them over one library."""
