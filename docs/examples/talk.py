"""Ask AVATAR something, typed or as a recording, and keep the spoken answer. Needs `pip install websockets`.

python docs/examples/talk.py "What is the capital of France?"
python docs/examples/talk.py question.wav                        # or WebM, Ogg, MP3, FLAC, MP4
"""

import json
import sys
import wave
from pathlib import Path

from websockets.sync.client import connect


def ask(question: str, answer: str = "answer.wav", url: str = "ws://127.0.0.1:8000/ws/chat") -> str:
    """Return the written answer and put the spoken one into `answer`; `question` is a text, or a recording's path."""
    pcm, rate_hz, text = b"", 0, ""
    with connect(url) as socket:
        socket.send(json.dumps({"type": "session.start"}))
        if Path(question).is_file():
            recording = Path(question).read_bytes()
            for start in range(0, len(recording), 64_000):
                socket.send(recording[start : start + 64_000])
            socket.send(json.dumps({"type": "audio.end"}))
        else:
            socket.send(json.dumps({"type": "text", "text": question}))
        for frame in socket:
            if isinstance(frame, bytes):
                pcm += frame
                continue
            message = json.loads(frame)
            match message["type"]:
                case "session.ready":
                    rate_hz = message["output"]["sample_rate"]
                case "error":
                    sys.exit(message["message"])
                case "reply.done":
                    text = message["heard_text"]
                    break
    with wave.open(answer, "wb") as wav:
        wav.setparams((1, 2, rate_hz, 0, "NONE", "not compressed"))
        wav.writeframes(pcm)
    return text


if __name__ == "__main__":
    sys.stdout.write(ask(sys.argv[1]) + "\n")
