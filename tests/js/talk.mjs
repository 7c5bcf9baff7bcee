// A session of `@openai/agents` in Node at the server whose WebSocket URL and key are the arguments: it speaks, has its
// tool called, speaks again and over the reply. Prints a JSON object a line for all that happens.
import { RealtimeAgent, RealtimeSession, tool } from "@openai/agents/realtime";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

const [url, apiKey] = process.argv.slice(2);
const RATE_HZ = 24_000;
const CHUNK_MS = 40;

const tell = (what, about) => console.log(JSON.stringify({ what, about }));

const weather = tool({
  name: "weather",
  description: "The weather in a city.",
  parameters: z.object({ city: z.string() }),
  execute: ({ city }) => {
    tell("tool called", city);
    return "sunny";
  },
});

const session = new RealtimeSession(new RealtimeAgent({ name: "Guide", instructions: "Be brief.", tools: [weather] }), {
  transport: "websocket",
  config: { audio: { input: { turnDetection: { type: "server_vad", silenceDurationMs: 400, interruptResponse: true } } } },
});
const broken = new Promise((_, reject) => session.on("error", ({ error }) => reject(new Error(JSON.stringify(error)))));
session.on("transport_event", (event) => tell("event", event));
session.on("audio", ({ data }) => tell("audio", data.byteLength));
session.on("audio_interrupted", () => tell("interrupted"));

// Noise that the ear of the tests takes for speech, or silence, in real time.
async function say(ms, amplitude) {
  const samples = (RATE_HZ * CHUNK_MS) / 1000;
  const chunk = Int16Array.from({ length: samples }, (_, at) => (at % 40 < 20 ? 1 : -1) * amplitude * 32767);
  for (let said = 0; said < ms; said += CHUNK_MS) {
    session.sendAudio(chunk.buffer);
    await sleep(CHUNK_MS);
  }
}
const speak = () => say(800, 0.3);
const rest = () => say(900, 0);
const next = (event) => Promise.race([broken, new Promise((resolve) => session.once(event, resolve))]);

await session.connect({ url, apiKey });

let over = next("audio_stopped");
await speak();
await rest();
await over;

let sounds = next("audio");
await speak();
await rest();
await sounds;
await say(600, 0); // some words of the reply are heard
const interrupted = next("audio_interrupted");
await speak();
await interrupted;
over = next("audio_stopped");
await rest();
await over;

tell("history", session.history);
session.close();
