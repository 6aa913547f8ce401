/** The JupyterLab extension: file types and their tabs, launcher, palette, side panel, status. */

import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { ICommandPalette, WidgetTracker } from "@jupyterlab/apputils";
import { IDocumentManager } from "@jupyterlab/docmanager";
import {
  type ABCWidgetFactory,
  DocumentModel,
  type DocumentRegistry,
  type IDocumentWidget,
} from "@jupyterlab/docregistry";
import { FileDialog } from "@jupyterlab/filebrowser";
import { ILauncher } from "@jupyterlab/launcher";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { Contents } from "@jupyterlab/services";
import { IStatusBar } from "@jupyterlab/statusbar";
import { DeviceWatch } from "./devices";
import { icon } from "./icon";
import { JobWatch } from "./jobs";
import { ModelFactory } from "./model";
import { SidePanel } from "./side";
import { StatusItem } from "./status";
import { TraceFactory } from "./trace";

const CATEGORY = "FlashMem Lab";
const OPEN = "flashmem-lab:open";
const DEVICES = "flashmem-lab:devices";
const MODEL = { factory: "FlashMem Lab", type: "onnx" };
const TRACE = { factory: "FlashMem Lab timeline", types: ["flashmem-trace", "flashmem-bundle"] };

/** A model without content: a format of null makes Lab fetch none, however large the file is. */
class NoContentFactory implements DocumentRegistry.IModelFactory<DocumentRegistry.IModel> {
  readonly name = "flashmem-lab-no-content";
  readonly contentType: Contents.ContentType = "file";
  readonly fileFormat: Contents.FileFormat = null;
  readonly collaborative = false;
  isDisposed = false;

  dispose(): void {
    this.isDisposed = true;
  }

  preferredLanguage(): string {
    return "python";
  }

  createNew(options?: DocumentRegistry.IModelOptions): DocumentRegistry.IModel {
    const model = new DocumentModel(options as never);
    model.readOnly = true;
    model.fromString = () => undefined;
    return model;
  }
}

function addFileTypes(registry: DocumentRegistry): void {
  registry.addModelFactory(new NoContentFactory());
  registry.addFileType({
    name: MODEL.type,
    displayName: "ONNX model",
    extensions: [".onnx"],
    mimeTypes: ["application/x-onnx"],
    fileFormat: "base64",
    contentType: "file",
    icon,
  });
  registry.addFileType({
    name: TRACE.types[0]!,
    displayName: "FlashMem Lab trace or plan",
    extensions: [".trace.json", ".plan.json"],
    mimeTypes: ["application/json"],
    fileFormat: "text",
    contentType: "file",
    icon,
  });
  registry.addFileType({
    name: TRACE.types[1]!,
    displayName: "FlashMem Lab bundle",
    extensions: [".fmb"],
    mimeTypes: ["application/x-flashmem-bundle"],
    fileFormat: "base64",
    contentType: "file",
    icon,
  });
}

function activate(
  app: JupyterFrontEnd,
  rendermime: IRenderMimeRegistry,
  documents: IDocumentManager,
  restorer: ILayoutRestorer | null,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  statusBar: IStatusBar | null,
): void {
  addFileTypes(app.docRegistry);
  const models = new ModelFactory(
    {
      name: MODEL.factory,
      modelName: "flashmem-lab-no-content",
      fileTypes: [MODEL.type],
      defaultFor: [MODEL.type],
      readOnly: true,
      canStartKernel: true,
      preferKernel: true,
      autoStartDefault: true,
      shutdownOnClose: true,
    },
    rendermime,
  );
  const traces = new TraceFactory({
    name: TRACE.factory,
    modelName: "flashmem-lab-no-content",
    fileTypes: [...TRACE.types, "json"],
    defaultFor: TRACE.types,
    readOnly: true,
  });
  app.docRegistry.addWidgetFactory(models);
  app.docRegistry.addWidgetFactory(traces);
  restoreTabs(restorer, models, MODEL.factory);
  restoreTabs(restorer, traces, TRACE.factory);
  const open = (path: string): void => {
    void app.commands.execute("docmanager:open", { path });
  };
  const status = new StatusItem();
  const jobs = new JobWatch();
  const devices = new DeviceWatch();
  const side = new SidePanel(app.serviceManager, jobs, devices, open);
  devices.changed.connect((_, found) => status.setDevices(found));
  void devices.look();
  jobs.changed.connect((_, running) => status.setJobs(running));
  app.shell.add(side, "right", { rank: 900 });
  restorer?.add(side, side.id);
  statusBar?.registerStatusItem("flashmem-lab:status", { item: status, align: "right", rank: 90 });

  app.commands.addCommand(OPEN, {
    label: (args) => (args.launcher ? "FlashMem Lab" : "Open a Model in the Workbench …"),
    caption: "Open an .onnx model: its graph, budgets, schedules and runs",
    icon,
    execute: async () => {
      const chosen = await FileDialog.getOpenFiles({
        manager: documents,
        title: "Open a model (.onnx) or a bundle (.fmb)",
        filter: (file) => (/\.(onnx|fmb)$/.test(file.path) ? {} : null),
      });
      for (const file of chosen.value ?? []) open(file.path);
    },
  });
  app.commands.addCommand(DEVICES, {
    label: "Show Devices, Runs and Open Models",
    icon,
    execute: () => {
      app.shell.activateById(side.id);
      return devices.look();
    },
  });
  for (const command of [OPEN, DEVICES]) palette?.addItem({ command, category: CATEGORY });
  launcher?.add({ command: OPEN, category: "Other", rank: 0, args: { launcher: true } });
}

/** Tabs of a factory come back when the page is loaded again. */
function restoreTabs<T extends IDocumentWidget>(
  restorer: ILayoutRestorer | null,
  factory: ABCWidgetFactory<T>,
  name: string,
): void {
  const tracker = new WidgetTracker<T>({ namespace: name });
  factory.widgetCreated.connect((_, widget) => {
    void tracker.add(widget);
    widget.context.pathChanged.connect(() => void tracker.save(widget));
  });
  void restorer?.restore(tracker, {
    command: "docmanager:open",
    args: (widget) => ({ path: widget.context.path, factory: name }),
    name: (widget) => widget.context.path,
  });
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: "flashmem-lab:plugin",
  description: "Opens models, plans, traces and bundles in the FlashMem workbench.",
  autoStart: true,
  requires: [IRenderMimeRegistry, IDocumentManager],
  optional: [ILayoutRestorer, ICommandPalette, ILauncher, IStatusBar],
  activate,
};

export default plugin;
