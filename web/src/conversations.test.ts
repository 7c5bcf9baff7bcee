import { expect, it } from "vitest";

import { asTurn, once, type SavedTurn } from "./conversations";

const saved: SavedTurn = {
  id: "turn_1",
  status: "interrupted",
  superseded: false,
  user_text: "A story, please.",
  generated_text: "Once upon a time",
  heard_text: "Once upon",
  error_code: null,
  has_reply_audio: true,
  calls: [{ id: "c1", name: "look", arguments: "{}", result: "rain" }],
};

it("shows a saved turn as one that is over, with its recording", () => {
  const turn = asTurn("conv_1", saved);
  expect(turn).toMatchObject({ said: "A story, please.", saidFinal: true, reply: "Once upon a time", heard: "Once upon", state: "interrupted" });
  expect(turn.recording).toBe("/api/conversations/conv_1/turns/turn_1/audio/reply");
  expect(turn.calls).toMatchObject([{ id: "c1", state: "done", result: "rain" }]);
  expect(asTurn("conv_1", { ...saved, has_reply_audio: false, error_code: "ENGINE_FAILED" })).toMatchObject({ recording: null, problem: { code: "ENGINE_FAILED" } });
});

it("lists a conversation once, however often the words were said in it", () => {
  const hit = (conversation_id: string, excerpt: string) => ({ conversation_id, excerpt, at: "", title: "" });
  expect(once([hit("a", "new"), hit("b", "x"), hit("a", "old")]).map(({ id, excerpt }) => [id, excerpt])).toEqual([["a", "new"], ["b", "x"]]);
});
