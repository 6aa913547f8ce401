/** Words beside the pointer. */

import { h } from "./dom";

const APART = 14; // px from the pointer

export class Tip {
  readonly element = h("div", { class: "fml-tip", "aria-hidden": "true", hidden: true });

  /** Shows lines at a point of a place `width` x `height` px; the first line is the title. */
  show(lines: string[], x: number, y: number, width: number, height: number): void {
    const { element } = this;
    element.hidden = false;
    element.replaceChildren(...lines.map((line) => h("div", {}, line)));
    const left = x <= width / 2;
    element.style.left = left ? `${x + APART}px` : "";
    element.style.right = left ? "" : `${width - x + APART}px`;
    element.style.top = `${Math.min(y, Math.max(0, height - element.offsetHeight - 4))}px`;
  }

  hide(): void {
    this.element.hidden = true;
  }
}
