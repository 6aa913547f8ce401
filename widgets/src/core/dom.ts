/** A little help to build pages from values. */

import { type Icon, icon } from "./icons";

type Attributes = Record<string, string | number | boolean | undefined>;

/** An element; attributes that are false or undefined are left out, true ones are empty. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

/** A labelled drop-down; `options` are values and their words. */
export function choice(
  label: string,
  options: [string, string][],
  changed: (value: string) => void,
): { element: HTMLElement; select: HTMLSelectElement } {
  const select = h("select", {});
  for (const [value, words] of options) select.append(h("option", { value }, words));
  select.addEventListener("change", () => changed(select.value));
  return { element: h("label", { class: "fml-field" }, label, select), select };
}

/**
 * A button that says what it does to those who see it and to those who hear it. Where it has a
 * picture too, the style may leave its words to those who hear it (.fml-edits in base.css).
 */
export function button(
  text: string,
  title: string,
  pressed: () => void,
  picture?: Icon,
): HTMLButtonElement {
  const element = h("button", { type: "button", title, class: "fml-button" });
  if (picture) element.append(icon(picture), h("span", {}, text));
  else element.append(text);
  element.addEventListener("click", pressed);
  return element;
}

/** Buttons that belong together, side by side. */
export function group(label: string, ...buttons: HTMLButtonElement[]): HTMLElement {
  return h("div", { class: "fml-group", role: "group", "aria-label": label }, ...buttons);
}
