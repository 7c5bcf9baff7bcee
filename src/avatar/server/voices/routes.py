"""The paths of voices, those of earlier systems among them.

Thin: the library enrols, `conversation/voices.py` chooses who speaks, and whoever includes the router keeps the doors.
"""

from fastapi import APIRouter

from avatar.conversation.voices import default_voice
from avatar.server import problems
from avatar.server.provenance import Provenance
from avatar.server.voices.bodies import SpeakerList, SpeakerOut, VoiceOut
from avatar.server.voices.needs import LibraryNow, Speaker
from avatar.server.voices.once import once
from avatar.server.voices.profiles import profiles, upload

UPLOADS = ("/api/voice-profile", "/api/tts/qwen3/voices", "/api/v1/")
"""Prefixes of the paths that take a recording."""


def router(library: LibraryNow, speaker: Speaker, provenance: Provenance) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["voices"], responses=problems.RESPONSES)
    for path in ("/api/voice-profile", "/api/voice-profiles", "/api/tts/qwen3/voices/upload"):
        routes.add_api_route(path, upload(library), methods=["POST"], response_model=VoiceOut, status_code=202)
    for prefix in ("/api/voice-profiles", "/api/tts/qwen3/voices"):
        routes.include_router(profiles(library, speaker, provenance), prefix=prefix)
    routes.include_router(once(library, speaker, provenance), prefix="/api/v1")

    @routes.get("/v1/voices")
    async def speakers() -> SpeakerList:
        enrolled = [profile for profile in library().all() if profile.status == "ready"]
        with speaker() as tts:
            known, default = tts.voices, default_voice(library(), tts)
        own = [voice for voice in known if not voice.startswith("voice_")]
        return SpeakerList(
            data=[
                SpeakerOut(
                    id=p.id,
                    name=p.name,
                    kind="enrolled",
                    language=p.language,
                    is_default=p is default,
                    available=p.id in known,
                )
                for p in enrolled
            ]
            + [SpeakerOut(id=v, name=v, kind="builtin", is_default=default is None and v == own[0]) for v in own]
        )

    return routes
