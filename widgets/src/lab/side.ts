/** The side panel: devices, each tried, runs under way, and models that are open in kernels. */

import type { Session } from "@jupyterlab/services";
import { Widget } from "@lumino/widgets";
import { button, h } from "../core/dom";
import { type Device, fetchDevices, type Job, stopJob } from "./api";
import { icon } from "./icon";
import type { JobWatch } from "./jobs";
import { held } from "./status";

export class SidePanel extends Widget {
  private readonly devices = h("ul", { class: "fml-list" });
  private readonly running = h("ul", { class: "fml-list" });
  private rows = new Map<string, Row>();
  private readonly open = h("ul", { class: "fml-list" });

  /** `found` is called with the devices of each look; `reveal` opens a path. */
  constructor(
    private readonly sessions: Session.IManager,
    private readonly jobs: JobWatch,
    private readonly found: (devices: Device[]) => void,
    private readonly reveal: (path: string) => void,
  ) {
    super();
    this.id = "flashmem-lab-side";
    this.addClass("fml-document");
    this.addClass("fml-side");
    this.title.icon = icon;
    this.title.caption = "FlashMem Lab: devices, runs and open models";
    const again = button("Look again", "Try every device again", () => void this.look());
    this.node.append(
      h("h3", {}, "Devices"),
      this.devices,
      again,
      h("h3", {}, "Running"),
      this.running,
      h("h3", {}, "Open models"),
      this.open,
    );
    this.sessions.runningChanged.connect(this.list, this);
    this.jobs.changed.connect(this.showJobs, this);
    this.list();
    this.showJobs(this.jobs, []);
    void this.look();
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.sessions.runningChanged.disconnect(this.list, this);
    this.jobs.changed.disconnect(this.showJobs, this);
    super.dispose();
  }

  async look(): Promise<void> {
    this.devices.replaceChildren(h("li", { class: "fml-soft" }, "trying each device …"));
    try {
      const devices = await fetchDevices();
      if (this.isDisposed) return;
      this.devices.replaceChildren(...devices.map(entry));
      if (devices.every((device) => device.id.startsWith("sim:"))) {
        this.devices.prepend(
          h("li", {}, "No OpenCL device: install pocl-opencl-icd, then look again."),
        );
      }
      this.found(devices);
    } catch (error) {
      if (this.isDisposed) return;
      this.devices.replaceChildren(h("li", { class: "fml-error" }, (error as Error).message));
      this.found([]);
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

  private list(): void {
    const models = [...this.sessions.running()].filter((one) => one.path.endsWith(".onnx"));
    const entries = models.map((one) => {
      const link = button(one.path, `Show ${one.path}`, () => this.reveal(one.path));
      return h("li", {}, link, " ", h("span", { class: "fml-soft" }, state(one)));
    });
    const none = h("li", { class: "fml-soft" }, "None: double click an .onnx file to open it.");
    this.open.replaceChildren(...(entries.length ? entries : [none]));
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

function state(session: Session.IModel): string {
  return session.kernel?.execution_state ?? "no kernel";
}
