import { expect, it } from "vitest";

import { MAX_BYTES, MAX_TURNS, Recordings } from "./recordings";

it("keeps the last turns and forgets the oldest", () => {
  const recordings = new Recordings();
  for (let n = 0; n <= MAX_TURNS; n++) {
    recordings.begin(`t${n}`, 22050);
    recordings.add(`t${n}`, new ArrayBuffer(4));
  }
  expect(recordings.get("t0")).toBeUndefined();
  expect(recordings.get("t1")).toMatchObject({ rateHz: 22050, bytes: 4 });
});

it("stays within its bytes", () => {
  const recordings = new Recordings();
  recordings.begin("old", 22050);
  recordings.add("old", new ArrayBuffer(MAX_BYTES - 10));
  recordings.begin("new", 22050);
  recordings.add("new", new ArrayBuffer(20));
  expect(recordings.get("old")).toBeUndefined();
  expect(recordings.get("new")?.bytes).toBe(20);
});

it("has nothing to replay of a reply without sound", () => {
  const recordings = new Recordings();
  recordings.begin("t", 22050);
  recordings.add("other", new ArrayBuffer(4));
  expect(recordings.get("t")).toBeUndefined();
  expect(recordings.get("other")).toBeUndefined();
});
