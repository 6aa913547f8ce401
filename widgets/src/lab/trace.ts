/** The tab of a trace, a plan or a bundle: drawn without a kernel. */

import { ABCWidgetFactory, type DocumentRegistry, DocumentWidget } from "@jupyterlab/docregistry";
import { Widget } from "@lumino/widgets";
import { h } from "../core/dom";
import { decodeTimeline, TimelineView } from "../core/timeline";
import { fetchBuffer, RouteError } from "./api";
import { icon } from "./icon";

export class TracePanel extends Widget {
  private view: TimelineView | undefined;

  constructor(private readonly context: DocumentRegistry.Context) {
    super();
    this.addClass("fml-document");
    void this.context.ready.then(() => this.load());
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.view?.dispose();
    super.dispose();
  }

  private async load(): Promise<void> {
    try {
      const trace = decodeTimeline(await fetchBuffer("timeline", this.context.localPath));
      if (!this.isDisposed) this.view = new TimelineView(this.node, trace);
    } catch (error) {
      if (this.isDisposed) return;
      const hint = error instanceof RouteError ? error.hint : "";
      this.node.replaceChildren(
        h("div", { class: "fml-error", role: "alert" }, `${(error as Error).message} ${hint}`),
      );
    }
  }
}

export class TraceFactory extends ABCWidgetFactory<DocumentWidget<TracePanel>> {
  protected createNewWidget(context: DocumentRegistry.Context): DocumentWidget<TracePanel> {
    const widget = new DocumentWidget({ content: new TracePanel(context), context });
    widget.title.icon = icon;
    return widget;
  }
}
