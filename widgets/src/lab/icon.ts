import { LabIcon } from "@jupyterlab/ui-components";

/** Weights on their way into a texture: blocks that fall into a row. */
export const icon = new LabIcon({
  name: "flashmem-lab:icon",
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
  <g class="jp-icon3" fill="#616161"><path d="M1 11h14v4H1zM2 6h3v4H2zM6.5 3h3v7h-3zM11 1h3v3h-3z"/>
  </g></svg>`,
});
