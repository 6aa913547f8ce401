/** The tab of an .onnx file: its graph at once from the server, then the workbench of a kernel. */

import { type ISessionContext, SessionContextDialogs, Toolbar } from "@jupyterlab/apputils";
import { ABCWidgetFactory, type DocumentRegistry, DocumentWidget } from "@jupyterlab/docregistry";
import { OutputArea, OutputAreaModel } from "@jupyterlab/outputarea";
import type { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { Kernel } from "@jupyterlab/services";
import { Signal } from "@lumino/signaling";
import { Panel, Widget } from "@lumino/widgets";
import { button, h } from "../core/dom";
import { GraphView } from "../core/graphview";
import { decodeGraph } from "../core/model";
import { fetchBuffer, fetchDetails, RouteError } from "./api";
import { icon } from "./icon";

const PATIENCE = 3000; // ms for an answer of a kernel
const PAUSE = 200;
const pause = (ms: number) => new Promise<undefined>((done) => setTimeout(done, ms));

const NO_KERNEL =
  "No kernel: choose one in the toolbar to plan and run; budget and edits are kept. " +
  "The graph needs none.";

export class ModelPanel extends Panel {
  private readonly status = h("p", { class: "fml-status", role: "status" });
  private readonly graphHost = h("div", { class: "fml-graph-host" });
  private readonly output: OutputArea;
  private readonly rendermime: IRenderMimeRegistry;
  private view: GraphView | undefined;
  private shown = false; // the workbench takes the place of the graph
  private asked = 0; // times that a kernel was; only the latest answer counts
  private died = false; // and has to be told of: a kernel may be back before anybody reads that

  constructor(
    private readonly context: DocumentRegistry.Context,
    rendermime: IRenderMimeRegistry,
  ) {
    super();
    this.addClass("fml-document");
    this.rendermime = rendermime.clone();
    this.output = new OutputArea({
      model: new OutputAreaModel({ trusted: true }),
      rendermime: this.rendermime,
      contentFactory: OutputArea.defaultContentFactory,
    });
    this.addWidget(new Widget({ node: this.status }));
    this.addWidget(new Widget({ node: this.graphHost }));
    this.addWidget(this.output);
    void this.context.ready.then(() => {
      void this.showGraph();
      void this.startKernel();
    });
  }

  private get session(): ISessionContext {
    return this.context.sessionContext;
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.view?.dispose();
    Signal.clearData(this);
    super.dispose();
  }

  /** The server reads the file; its bytes never come here. */
  private async showGraph(): Promise<void> {
    const path = this.context.localPath;
    try {
      const graph = decodeGraph(await fetchBuffer("graph", path));
      if (this.isDisposed || this.shown || this.view) return;
      this.view = new GraphView(this.graphHost, {
        details: (node) => fetchDetails(path, node),
        selected: () => undefined,
        hover: () => undefined,
        choose: () => undefined,
      });
      this.view.setGraph(graph);
    } catch (error) {
      if (this.isDisposed || this.shown) return;
      const hint = error instanceof RouteError ? error.hint : "";
      this.graphHost.replaceChildren(
        h("div", { class: "fml-error", role: "alert" }, `${(error as Error).message} ${hint}`),
      );
    }
  }

  private async startKernel(): Promise<void> {
    this.say("Starting a Python kernel for the workbench …");
    await this.session.ready;
    if (this.isDisposed) return;
    if (!this.session.session?.kernel) {
      this.say(NO_KERNEL);
    }
    // ipywidgets calls its notebooks by what it uses of them: a session, and metadata to load
    // state from, of which a model file has none.
    const { registerWidgetManager } = await import("@jupyter-widgets/jupyterlab-manager");
    const saveState = new Signal<this, string>(this);
    const model = { getMetadata: () => undefined };
    if (this.session.session?.kernel) {
      registerWidgetManager(
        { sessionContext: this.session, model, saveState },
        this.rendermime,
        [],
      );
    }
    this.session.statusChanged.connect(this.onStatus, this);
    this.session.kernelChanged.connect((_, { newValue }) => {
      if (newValue) void this.showWorkbench();
      else if (!this.isDisposed) this.withoutKernel();
    });
    if (this.session.session?.kernel) await this.showWorkbench();
  }

  /** It was shut down: what its workbench showed would answer nobody. */
  private withoutKernel(): void {
    this.shown = false;
    this.output.model.clear();
    void this.showGraph();
    this.say(NO_KERNEL);
  }

  /** Runs the workbench in the kernel and shows it; after a reload, the one that is there. */
  private async showWorkbench(): Promise<void> {
    const kernel = this.session.session?.kernel;
    if (!kernel) return;
    this.say("Opening the model in the kernel …");
    const name = this.context.localPath.split("/").at(-1)!;
    const code = `from flashmem_lab.views.document import show\nshow(${JSON.stringify(name)})`;
    this.output.future = kernel.requestExecute({ code, store_history: false }) as never;
    const asked = ++this.asked;
    const reply = await this.output.future.done.catch(() => undefined);
    if (this.isDisposed || asked !== this.asked) return;
    if (reply?.content.status === "ok") this.whenOpen();
    else if (reply?.content.status === "error") this.fail(reply.content.ename);
    else void this.afterRestart(); // the kernel died or was restarted before it could answer
  }

  /** The kernel opens the model in the background; until then the server's graph is seen. */
  private whenOpen(): void {
    const open = (): boolean => {
      const { node } = this.output;
      return node.querySelector(".jupyter-widgets") !== null && !node.querySelector(".fml-opening");
    };
    const observer = new MutationObserver(() => {
      if (!this.isDisposed && !open()) return;
      observer.disconnect();
      if (!this.isDisposed) this.take();
    });
    observer.observe(this.output.node, { childList: true, subtree: true, attributes: true });
    this.disposed.connect(() => observer.disconnect());
  }

  /** The workbench has the graph too, coloured by its plan. */
  private take(): void {
    this.shown = true;
    this.view?.dispose();
    this.view = undefined;
    this.graphHost.replaceChildren();
    this.say(this.died ? "The kernel died and was started again: all is as you left it." : "");
  }

  private fail(name: string): void {
    const missing = name === "ModuleNotFoundError" || name === "ImportError";
    this.say(
      missing
        ? "This kernel has no flashmem_lab: choose another in the toolbar, or install it there " +
            "with pip install flashmem-lab and restart the kernel."
        : `The workbench could not be made (${name}; the kernel's words are below).`,
      true,
    );
  }

  private onStatus(_: ISessionContext, status: Kernel.Status): void {
    if (status === "restarting" || status === "autorestarting") {
      const died = status === "autorestarting";
      this.died = died;
      this.shown = false;
      this.output.model.clear();
      void this.showGraph();
      const kept = "budget and edits are kept and come back with it.";
      this.say(
        died ? `The kernel died and starts again; ${kept}` : `The kernel starts again; ${kept}`,
        died,
      );
      void this.afterRestart();
    } else if (status === "dead") {
      this.shown = false;
      this.output.model.clear();
      void this.showGraph();
      this.say("The kernel died. Budget and edits are kept: restart it to go on.", true);
    }
  }

  /** Asks a kernel that starts again until it answers: what it says at first may be lost. */
  private async afterRestart(): Promise<void> {
    const asked = ++this.asked;
    const mine = (): boolean => !this.isDisposed && asked === this.asked;
    while (mine()) {
      const kernel = this.session.session?.kernel;
      const answer =
        kernel?.connectionStatus === "connected" &&
        (await Promise.race([kernel.requestKernelInfo().catch(() => undefined), pause(PATIENCE)]));
      if (answer && mine()) return this.showWorkbench();
      await pause(PAUSE);
    }
  }

  private say(text: string, wrong = false): void {
    this.status.textContent = text;
    this.status.hidden = text === "";
    this.status.classList.toggle("fml-error", wrong);
    if (wrong) {
      this.status.append(
        " ",
        button("Restart the kernel", "Starts the kernel again and opens the workbench", () => {
          void this.session.restartKernel();
        }),
      );
    }
  }
}

export class ModelFactory extends ABCWidgetFactory<DocumentWidget<ModelPanel>> {
  constructor(
    options: DocumentRegistry.IWidgetFactoryOptions<DocumentWidget<ModelPanel>>,
    private readonly rendermime: IRenderMimeRegistry,
  ) {
    super(options);
  }

  protected createNewWidget(context: DocumentRegistry.Context): DocumentWidget<ModelPanel> {
    const widget = new DocumentWidget({
      content: new ModelPanel(context, this.rendermime),
      context,
    });
    const dialogs = new SessionContextDialogs();
    const session = context.sessionContext;
    widget.title.icon = icon;
    widget.toolbar.addItem("interrupt", Toolbar.createInterruptButton(session));
    widget.toolbar.addItem("restart", Toolbar.createRestartButton(session, dialogs));
    widget.toolbar.addItem("spacer", Toolbar.createSpacerItem());
    widget.toolbar.addItem("kernel", Toolbar.createKernelNameItem(session, dialogs));
    widget.toolbar.addItem("status", Toolbar.createKernelStatusItem(session));
    return widget;
  }
}
