"""`/v1/models`, and what Open WebUI asks for: what is here to be named. Whatever is named, the same engines answer."""

import re
import time
from typing import Any

from fastapi import APIRouter

from avatar.conversation.opening import House
from avatar.server.openai.errors import NoModel
from avatar.server.openai.service import Service

STAGES = ("llm", "stt", "tts")


def router(service: Service) -> APIRouter:
    """The routes. `/audio/models` and `/audio/voices` are what Open WebUI asks for."""
    routes = APIRouter()
    started = int(time.time())

    def entry(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": started, "owned_by": "avatar"}

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [entry(name) for name in model_names(service.house())]}

    @routes.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name not in model_names(service.house()):
            raise NoModel("There is no such model here; /v1/models lists those that are.")
        return entry(name)

    @routes.get("/audio/voices")
    async def audio_voices() -> dict[str, Any]:
        house = service.house()
        enrolled = [{"id": voice.id, "name": voice.name} for voice in house.voices.all() if voice.status == "ready"]
        own = [voice for voice in house.engines.tts.voices if house.voices.find(voice) is None]
        return {"voices": enrolled + [{"id": voice, "name": voice} for voice in own]}

    @routes.get("/audio/models")
    async def audio_models() -> dict[str, Any]:
        return {"models": [{"id": model_name(service.house().engines.names()["tts"])}]}

    return routes


def model_names(house: House) -> tuple[str, ...]:
    """The language model first: it is the one that clients take if they take any."""
    names = house.engines.names()
    return tuple(dict.fromkeys(model_name(names[stage]) for stage in STAGES))


def model_name(engine: str) -> str:
    """`engine` is what people are told, "llama.cpp (SmolLM2)"; of a model within, the first word."""
    found = re.fullmatch(r"[^(]*\((\S+).*\)", engine)
    return found[1] if found else engine
