// Light or dark: as the system has it, unless chosen here.
import { effect, signal } from "@preact/signals";

const THEME = "firmplan.theme";
export type Theme = "auto" | "light" | "dark";

export const theme = signal<Theme>((localStorage.getItem(THEME) as Theme | null) ?? "auto");

effect(() => {
  if (theme.value === "auto") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(THEME);
  } else {
    document.documentElement.dataset.theme = theme.value;
    localStorage.setItem(THEME, theme.value);
  }
});

export function nextTheme(): void {
  theme.value = ({ auto: "light", light: "dark", dark: "auto" } as const)[theme.value];
}
