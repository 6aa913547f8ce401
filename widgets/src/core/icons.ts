/** Small pictures for buttons, drawn in the colour of their words. */

const SVG = "http://www.w3.org/2000/svg";

/** Paths in a square of 16, stroked. */
const PATHS = {
  pin: "M5 2h6M6 2v5l-2.5 3h9L10 7V2M8 10v4.5",
  waves: "M2 5c2-2 4-2 6 0s4 2 6 0M2 11c2-2 4-2 6 0s4 2 6 0",
  left: "M14 8H3M7 4 3 8l4 4",
  right: "M2 8h11M9 4l4 4-4 4",
  fromHere: "M3 2v12M6 8h8M11 5l3 3-3 3",
  upToHere: "M13 2v12M10 8H2M5 5 2 8l3 3",
  open: "M3.5 7.5h9v6.5h-9zM5.5 7.5V5A2.5 2.5 0 0 1 10.3 4",
  undo: "M6 3 3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6",
  redo: "M10 3l3 3-3 3M13 6H6.5a3.5 3.5 0 0 0 0 7H10",
  bin: "M2.5 4.5h11M6 4.5V2.5h4v2M4 4.5l.7 9.5h6.6l.7-9.5M6.7 7v4.5M9.3 7v4.5",
};

export type Icon = keyof typeof PATHS;

/** A picture that says nothing to those who hear the page: words stand beside it. */
export function icon(name: Icon): SVGElement {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  picture.append(path);
  return picture;
}
