/** The budget's slider as a widget; its Python face is flashmem_lab/views/budget.py. */

import { BudgetView } from "../core/budget";
import { decodeSweep } from "../core/sweep";
import { isEmpty } from "../core/wire";
import { type AnyModel, listen } from "./model";

interface State {
  value: number;
  moving: boolean;
  ends: [number, number];
  sweep: DataView;
}

function render({ model, el }: { model: AnyModel<State, never>; el: HTMLElement }): () => void {
  const view = new BudgetView(el, {
    moves: () => {
      model.set("moving", true);
      model.save_changes();
    },
    at: (percent) => model.set("value", percent), // heard by what is linked with it in the browser
    rests: () => {
      model.set("moving", false);
      model.save_changes();
    },
  });
  const stop = listen(model, {
    ends: (ends) => view.setEnds(ends),
    value: (value) => view.setPercent(value),
    sweep: (bytes) => view.setSweep(isEmpty(bytes) ? undefined : decodeSweep(bytes)),
  });
  Object.assign(view.element, { view });
  return () => {
    stop();
    view.dispose();
  };
}

export default { render };
