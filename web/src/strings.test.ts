import { expect, it } from "vitest";

import { explain, LANGUAGES, type Strings } from "./strings";

const paths = (value: object, under = ""): string[] =>
  Object.entries(value).flatMap(([key, inner]: [string, unknown]) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner) ? paths(inner, `${under}${key}.`) : [under + key],
  );

it.each(Object.entries(LANGUAGES))("%s has every text, none empty, and each problem says what to do", (_, strings: Strings) => {
  expect(paths(strings)).toEqual(paths(LANGUAGES.en));
  for (const code of Object.keys(strings.problems)) {
    const [what, todo] = explain(strings, code);
    expect(what).not.toBe("");
    expect(todo).not.toBe("");
  }
});

it("has words for a code it never heard of", () => {
  expect(explain(LANGUAGES.en, "FROM_THE_FUTURE")).toEqual(explain(LANGUAGES.en, "UNKNOWN"));
});
