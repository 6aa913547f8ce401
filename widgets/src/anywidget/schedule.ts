/** The schedule as a widget of any notebook; its Python face is flashmem_lab/views/schedule.py. */

import { decodePlan } from "../core/model";
import { type Notes, ScheduleView } from "../core/schedule";
import { isEmpty } from "../core/wire";
import type { AnyModel } from "./model";

interface State {
  plan: DataView;
  notes: Partial<Notes>;
  height: number;
}

function render({ model, el }: { model: AnyModel<State, never>; el: HTMLElement }): () => void {
  const view = new ScheduleView(el, {
    edit: (action, weight, first, last) =>
      model.send({ kind: "edit", action, weight, first, last }),
    move: (by) => model.send({ kind: "move", by }),
  });
  const onPlan = (): void => {
    const bytes = model.get("plan");
    view.setPlan(isEmpty(bytes) ? undefined : decodePlan(bytes));
  };
  const onNotes = (): void => {
    view.setNotes({ diff: [], refused: null, undo: false, redo: false, ...model.get("notes") });
  };
  const onHeight = (): void => {
    view.element.style.height = `${model.get("height")}px`;
  };
  model.on("change:plan", onPlan);
  model.on("change:notes", onNotes);
  model.on("change:height", onHeight);
  onHeight();
  onPlan();
  onNotes();
  Object.assign(view.element, { view });
  return () => {
    model.off("change:plan", onPlan);
    model.off("change:notes", onNotes);
    model.off("change:height", onHeight);
    view.dispose();
  };
}

export default { render };
