import { expect, it } from "vitest";

import { bars } from "./waterfall";

it("puts the stages on one scale that begins at the last word", () => {
  const made = bars([
    { name: "endpoint", start_ms: 0, end_ms: 250 },
    { name: "stt", start_ms: 125, end_ms: 250 },
    { name: "queue", start_ms: 400, end_ms: 500 },
    { name: "wire", start_ms: 500, end_ms: 500 },
  ]);
  expect(made).toEqual([
    { name: "endpoint", ms: 250, left: 0, width: 50 },
    { name: "stt", ms: 125, left: 25, width: 25 },
    { name: "queue", ms: 100, left: 80, width: 20 },
    { name: "wire", ms: 0, left: 100, width: 0 },
  ]);
});

it("begins earlier where work did", () => {
  const [stt, endpoint] = bars([
    { name: "stt", start_ms: -100, end_ms: 0 },
    { name: "endpoint", start_ms: 0, end_ms: 300 },
  ]);
  expect(stt).toMatchObject({ left: 0, width: 25 });
  expect(endpoint).toMatchObject({ left: 25, width: 75 });
});

it("has nothing to show of nothing", () => {
  expect(bars([])).toEqual([]);
  expect(bars([{ name: "wire", start_ms: 0, end_ms: 0 }])).toEqual([{ name: "wire", ms: 0, left: 0, width: 0 }]);
});
