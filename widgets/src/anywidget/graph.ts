/** The graph as a widget of any notebook; its Python face is flashmem_lab/views/graph.py. */

import { GraphView } from "../core/graphview";
import { decodeGraph, decodePlan, type Section } from "../core/model";
import { isEmpty } from "../core/wire";
import { type AnyModel, type BrushState, brushed, brushHost, listen } from "./model";

interface State extends BrushState {
  graph: DataView;
  plan: DataView;
  selected: number;
  height: number;
}

interface Reply {
  kind: "details";
  node: number;
  sections: Section[];
}

function render({ model, el }: { model: AnyModel<State, Reply>; el: HTMLElement }): () => void {
  const waiting = new Map<number, (sections: Section[]) => void>();
  const view = new GraphView(el, {
    ...brushHost(model),
    details: (node) =>
      new Promise((resolve) => {
        waiting.set(node, resolve);
        model.send({ kind: "details", node });
      }),
    selected: (node) => {
      model.set("selected", node);
      model.save_changes();
    },
  });
  const onReply = (reply: Reply): void => {
    if (reply.kind !== "details") return;
    waiting.get(reply.node)?.(reply.sections);
    waiting.delete(reply.node);
  };
  model.on("msg:custom", onReply);
  const stop = listen(model, {
    height: (height) => {
      view.element.style.height = `${height}px`;
    },
    graph: (bytes) => {
      if (!isEmpty(bytes)) view.setGraph(decodeGraph(bytes));
    },
    plan: (bytes) => view.setPlan(isEmpty(bytes) ? undefined : decodePlan(bytes)),
    selected: (node) => view.select(node),
    ...brushed(view),
  });
  // The element is the handle by which tests, and the curious, reach the view.
  Object.assign(view.element, { view });
  return () => {
    stop();
    model.off("msg:custom", onReply);
    view.dispose();
  };
}

export default { render };
