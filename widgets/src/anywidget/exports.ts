/** Buttons that download or copy what a workbench shows; flashmem_lab/views/exports.py. */

import { button, h } from "../core/dom";
import type { AnyModel } from "./model";
import { listen } from "./model";

interface State {
  command: string;
  python: string;
  measured: boolean;
}

type Reply = { kind: "made"; name: string; words: string } | { kind: "failed"; words: string };

const FILES: [what: string, text: string, title: string][] = [
  ["plan", "Plan", "Download the plan, for run --plan"],
  ["trace", "Trace", "Download the timeline as JSON; Lab opens it without a kernel"],
  ["perfetto", "Perfetto", "Download the timeline for ui.perfetto.dev"],
  ["report", "Report", "Download a page with figures and pictures of the last run"],
  ["bundle", "Bundle", "Write program and weights beside the model; runs without ONNX"],
];

function render({ model, el }: { model: AnyModel<State, Reply>; el: HTMLElement }): () => void {
  const words = h("span", { class: "fml-soft", role: "status" });
  const text = h("pre", { class: "fml-text", tabindex: 0, hidden: true });
  const ask = (what: string): void => {
    text.hidden = true;
    words.textContent = "making it …";
    model.send({ kind: "export", what });
  };
  const files = FILES.map(([what, label, title]) => button(label, title, () => ask(what)));
  const report = files[FILES.findIndex(([what]) => what === "report")]!;
  const copy = (name: "command" | "python") => async () => {
    const copied = model.get(name);
    text.textContent = copied;
    text.hidden = false;
    try {
      await navigator.clipboard.writeText(copied);
      words.textContent = "copied";
    } catch {
      getSelection()?.selectAllChildren(text);
      words.textContent = "this page may not copy: press Ctrl-C";
    }
  };
  const copies = [
    button("Copy as Python", "Copy lines that open, plan and run the same", copy("python")),
    button("Copy as CLI", "Copy a command that opens, plans and runs the same", copy("command")),
  ];
  const bar = h("div", { class: "fml-bar" }, "Export", ...files, ...copies, words);
  const root = h("div", { class: "fml-exports" }, bar, text);
  el.append(root);

  const onReply = (reply: Reply, buffers: DataView[]): void => {
    words.textContent = reply.words;
    if (reply.kind === "made" && reply.name) download(reply.name, buffers[0]!);
  };
  model.on("msg:custom", onReply);
  const stop = listen(model, {
    command: (command) => {
      for (const one of [...files, ...copies]) one.disabled = command === "";
      report.disabled ||= !model.get("measured");
      text.hidden = true;
      words.textContent = "";
    },
    measured: (measured) => {
      report.disabled = !measured;
    },
  });
  return () => {
    model.off("msg:custom", onReply);
    stop();
    root.remove();
  };
}

/** Gives a file to the browser's downloads. */
function download(name: string, content: DataView): void {
  const bytes = new Uint8Array(
    content.buffer as ArrayBuffer,
    content.byteOffset,
    content.byteLength,
  );
  const url = URL.createObjectURL(new Blob([bytes]));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url));
}

export default { render };
