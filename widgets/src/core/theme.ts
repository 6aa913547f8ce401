/** Colours of the page around, light or dark, and colours that carry a meaning. */

export interface Theme {
  ground: string;
  panel: string;
  ink: string;
  soft: string;
  line: string;
  accent: string;
  font: string;
}

/** JupyterLab's variables where there are, else those of the browser's colour scheme. */
export function readTheme(element: Element): Theme {
  const style = getComputedStyle(element);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const pick = (name: string, light: string, night: string): string =>
    style.getPropertyValue(name).trim() || (dark ? night : light);
  return {
    ground: pick("--jp-layout-color1", "#ffffff", "#111418"),
    panel: pick("--jp-layout-color2", "#eef0f3", "#22272e"),
    ink: pick("--jp-ui-font-color1", "#20252b", "#e6e8eb"),
    soft: pick("--jp-ui-font-color2", "#626a73", "#a2abb5"),
    line: pick("--jp-border-color1", "#c3c9d0", "#4a525c"),
    accent: pick("--jp-brand-color1", "#1668c7", "#5aa2f5"),
    font: pick("--jp-ui-font-family", "system-ui, sans-serif", "system-ui, sans-serif"),
  };
}

/**
 * Calls `changed` when the page changes between light and dark; returns how to stop.
 *
 * JupyterLab names its theme first and has its colours a moment later, with a style sheet.
 */
export function watchTheme(changed: () => void): () => void {
  const observer = new MutationObserver(changed);
  const filter = { attributes: true, attributeFilter: ["data-jp-theme-name", "class"] };
  observer.observe(document.body, filter);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", changed);
  const loaded = ({ target }: Event): void => {
    if (target instanceof HTMLLinkElement) changed();
  };
  document.addEventListener("load", loaded, true); // it does not bubble
  return () => {
    observer.disconnect();
    scheme.removeEventListener("change", changed);
    document.removeEventListener("load", loaded, true);
  };
}

/** Fills of nodes: each reads with white text (contrast of 4.5 or more). */
export const FILL = {
  blue: "#3568b0",
  teal: "#217a6b",
  violet: "#7a52b3",
  orange: "#a8601a",
  red: "#c0392f",
  grey: "#3f4852",
  pale: "#6f7781",
} as const;

/** Of `share` in 0..1: slate, violet, red. Each reads with white text. */
export function heat(share: number): string {
  const stops = [
    [0x5f, 0x72, 0x89],
    [0x80, 0x58, 0xab],
    [0xc2, 0x36, 0x2f],
  ];
  const at = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  const mix = stops[low]!.map((value, i) =>
    Math.round(value + (at - low) * (stops[low + 1]![i]! - value)),
  );
  return `rgb(${mix.join(",")})`;
}
