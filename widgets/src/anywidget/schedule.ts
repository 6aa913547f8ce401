/** The schedule as a widget of any notebook; its Python face is flashmem_lab/views/schedule.py. */

import { decodePlan } from "../core/model";
import { type Notes, ScheduleView } from "../core/schedule";
import { isEmpty } from "../core/wire";
import { type AnyModel, type BrushState, brushed, brushHost, listen } from "./model";

interface State extends BrushState {
  plan: DataView;
  notes: Partial<Notes>;
  against: string;
  height: number;
}

function render({ model, el }: { model: AnyModel<State, never>; el: HTMLElement }): () => void {
  const view = new ScheduleView(el, {
    ...brushHost(model),
    edit: (action, weight, first, last) =>
      model.send({ kind: "edit", action, weight, first, last }),
    move: (by) => model.send({ kind: "move", by }),
    against: (baseline) => {
      model.set("against", baseline);
      model.save_changes();
    },
  });
  const stop = listen(model, {
    height: (height) => {
      view.element.style.height = `${height}px`;
    },
    plan: (bytes) => view.setPlan(isEmpty(bytes) ? undefined : decodePlan(bytes)),
    notes: (notes) =>
      view.setNotes({ diff: [], refused: null, undo: false, redo: false, ...notes }),
    ...brushed(view),
  });
  Object.assign(view.element, { view });
  return () => {
    stop();
    view.dispose();
  };
}

export default { render };
