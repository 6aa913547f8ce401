/** The graph as a widget of any notebook; its Python face is flashmem_lab/views/graph.py. */

import { GraphView } from "../core/graphview";
import { decodeGraph, decodePlan, type Section } from "../core/model";
import { isEmpty } from "../core/wire";
import type { AnyModel } from "./model";

interface State {
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
  const onGraph = (): void => {
    if (!isEmpty(model.get("graph"))) view.setGraph(decodeGraph(model.get("graph")));
  };
  const onPlan = (): void => {
    const bytes = model.get("plan");
    view.setPlan(isEmpty(bytes) ? undefined : decodePlan(bytes));
  };
  const onSelected = (): void => view.select(model.get("selected"));
  const onHeight = (): void => {
    view.element.style.height = `${model.get("height")}px`;
  };
  model.on("change:graph", onGraph);
  model.on("change:plan", onPlan);
  model.on("change:selected", onSelected);
  model.on("change:height", onHeight);
  model.on("msg:custom", onReply);
  onHeight();
  onGraph();
  onPlan();
  // The element is the handle by which tests, and the curious, reach the view.
  Object.assign(view.element, { view });
  return () => {
    model.off("change:graph", onGraph);
    model.off("change:plan", onPlan);
    model.off("change:selected", onSelected);
    model.off("change:height", onHeight);
    model.off("msg:custom", onReply);
    view.dispose();
  };
}

export default { render };
