/** Memory as a widget of any notebook; its Python face is flashmem_lab/views/memory.py. */

import { MemoryView, type Mode } from "../core/memory";
import { decodeAddresses, decodeMemory } from "../core/memory_data";
import { decodePlan } from "../core/model";
import { decodeSweep } from "../core/sweep";
import { isEmpty } from "../core/wire";
import { type AnyModel, type BrushState, brushed, brushHost, listen } from "./model";

interface State extends BrushState {
  memory: DataView;
  plan: DataView;
  sweep: DataView;
  addresses: DataView;
  percent: number;
  mode: Mode;
  height: number;
}

function render({ model, el }: { model: AnyModel<State, never>; el: HTMLElement }): () => void {
  const view = new MemoryView(el, {
    ...brushHost(model),
    mode: (mode) => {
      model.set("mode", mode);
      model.save_changes();
    },
  });
  const maybe = <T>(bytes: DataView, decode: (bytes: DataView) => T): T | undefined =>
    isEmpty(bytes) ? undefined : decode(bytes);
  const stop = listen(model, {
    height: (height) => {
      view.element.style.height = `${height}px`;
    },
    mode: (mode) => view.setMode(mode),
    plan: (bytes) => view.setPlan(maybe(bytes, decodePlan)),
    memory: (bytes) => view.setMemory(maybe(bytes, decodeMemory)),
    sweep: (bytes) => view.setSweep(maybe(bytes, decodeSweep)),
    addresses: (bytes) => view.setAddresses(maybe(bytes, decodeAddresses)),
    percent: (percent) => view.setPercent(percent),
    ...brushed(view),
  });
  Object.assign(view.element, { view });
  return () => {
    stop();
    view.dispose();
  };
}

export default { render };
