/** The side panel: devices, each tried, runs under way, and models that are open in kernels. */

import type { ServiceManager, Session } from "@jupyterlab/services";
import { Widget } from "@lumino/widgets";
import { button, h } from "../core/dom";
import { type Device, type Job, stopJob } from "./api";
import type { DeviceWatch, Found } from "./devices";
import { icon } from "./icon";
import type { JobWatch } from "./jobs";
import { held } from "./status";

export class SidePanel extends Widget {
  private readonly list = h("ul", { class: "fml-list", "aria-live": "polite" });
  private readonly running = h("ul", { class: "fml-list" });
  private rows = new Map<string, Row>();
  private readonly open = h("ul", { class: "fml-list" });

  /** `reveal` opens a path. */
  constructor(
    private readonly services: ServiceManager.IManager,
    private readonly jobs: JobWatch,
    private readonly devices: DeviceWatch,
    private readonly reveal: (path: string) => void,
  ) {
    super();
    this.id = "flashmem-lab-side";
    this.addClass("fml-document");
    this.addClass("fml-side");
    this.title.icon = icon;
    this.title.caption = "FlashMem Lab: devices, runs and open models";
    const again = button("Look again", "Try every device again", () => void this.devices.look());
    this.node.append(
      h("h3", {}, "Devices"),
      this.list,
      again,
      h("h3", {}, "Running"),
      this.running,
      h("h3", {}, "Open models"),
      this.open,
    );
    this.services.sessions.runningChanged.connect(this.showOpen, this);
    this.services.kernels.runningChanged.connect(this.showOpen, this);
    this.jobs.changed.connect(this.showJobs, this);
    this.devices.changed.connect(this.showDevices, this);
    this.showOpen();
    this.showJobs(this.jobs, []);
    this.showDevices(this.devices, null);
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.services.sessions.runningChanged.disconnect(this.showOpen, this);
    this.services.kernels.runningChanged.disconnect(this.showOpen, this);
    this.jobs.changed.disconnect(this.showJobs, this);
    this.devices.changed.disconnect(this.showDevices, this);
    super.dispose();
  }

  /** What kernels do is asked only now and then; who opens the panel sees it as it is. */
  protected override onAfterShow(): void {
    void this.services.kernels.refreshRunning();
  }

  private showDevices(_: DeviceWatch, found: Found): void {
    if (found === null) {
      this.list.replaceChildren(h("li", { class: "fml-soft" }, "trying each device …"));
    } else if ("error" in found) {
      this.list.replaceChildren(h("li", { class: "fml-error" }, found.error));
    } else {
      this.list.replaceChildren(...found.devices.map(entry));
      if (!found.devices.some((device) => device.id.startsWith("ocl:"))) {
        this.list.prepend(
          h("li", {}, "No OpenCL device: install pocl-opencl-icd, then look again."),
        );
      }
    }
  }

  /** In place: a button that is replaced while it is pressed was never pressed. */
  private showJobs(_: JobWatch, jobs: Job[]): void {
    const rows = jobs.map((job) => {
      const row = this.rows.get(job.id) ?? new Row(job);
      row.show(job);
      return row;
    });
    this.rows = new Map(rows.map((row) => [row.id, row]));
    const items = rows.map((row) => row.item);
    if (items.length === 0) items.push(h("li", { class: "fml-soft" }, "No run is under way."));
    const same = items.every((item, at) => item === this.running.children[at]);
    if (!same || items.length !== this.running.children.length) {
      this.running.replaceChildren(...items);
    }
  }

  private showOpen(): void {
    const models = [...this.services.sessions.running()].filter((one) =>
      one.path.endsWith(".onnx"),
    );
    const entries = models.map((one) => {
      const link = button(one.path, `Show ${one.path}`, () => this.reveal(one.path));
      return h("li", {}, link, " ", h("span", { class: "fml-soft" }, this.state(one)));
    });
    const none = h("li", { class: "fml-soft" }, "None: double click an .onnx file to open it.");
    this.open.replaceChildren(...(entries.length ? entries : [none]));
  }

  /** What the kernel of a model does; the session itself only knows what it did at first. */
  private state(session: Session.IModel): string {
    const kernel = [...this.services.kernels.running()].find(({ id }) => id === session.kernel?.id);
    return kernel?.execution_state ?? "no kernel";
  }
}

function entry(device: Device): HTMLLIElement {
  const mark = device.problem ? "✗" : "✓";
  const item = h("li", {}, `${mark} `, h("strong", {}, device.id), ` ${device.name}`);
  if (device.problem) item.append(h("div", { class: "fml-error" }, device.problem));
  return item;
}

/** A run: what it is, how far, what it holds, and a way to stop it. */
class Row {
  readonly id: string;
  readonly item: HTMLLIElement;
  private readonly words = h("div", { class: "fml-soft" });
  private readonly bar: HTMLProgressElement;

  constructor(job: Job) {
    this.id = job.id;
    this.bar = h("progress", { "aria-label": `progress of ${job.model}` });
    const name = h("strong", {}, job.model);
    const stop = button("Stop", `Stop the run of ${job.model}`, () => void stopJob(job.id));
    this.item = h("li", {}, name, ` on ${job.device}`, this.words, this.bar, " ", stop);
  }

  show(job: Job): void {
    this.words.textContent = `${job.what} · holds ${held(job)}`;
    if (job.total > 0) {
      this.bar.max = job.total;
      this.bar.value = job.done;
    }
  }
}
