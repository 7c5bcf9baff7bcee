// Language and colours: the browser's, until the user chooses others.

import { useEffect } from "react";

import { type Language, LANGUAGES, type Strings } from "../strings";
import { useStored } from "./useStored";

const THEMES = ["system", "light", "dark"] as const;

export interface Appearance {
  strings: Strings;
  dark: boolean;
  switchLanguage: () => void;
  switchTheme: () => void;
}

export function useAppearance(): Appearance {
  const browser: Language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
  const [language, setLanguage] = useStored<Language>("avatar.language", browser === "zh" ? ["zh", "en"] : ["en", "zh"]);
  const [theme, setTheme] = useStored("avatar.theme", THEMES);
  const dark = theme === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : theme === "dark";

  useEffect(() => {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    document.documentElement.dataset.theme = theme;
  }, [language, theme]);

  return {
    strings: LANGUAGES[language],
    dark,
    switchLanguage: () => setLanguage(language === "zh" ? "en" : "zh"),
    switchTheme: () => setTheme(dark ? "light" : "dark"),
  };
}
