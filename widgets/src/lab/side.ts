/** The side panel: devices, each tried, and the models that are open in kernels. */

import type { Session } from "@jupyterlab/services";
import { Widget } from "@lumino/widgets";
import { button, h } from "../core/dom";
import { type Device, fetchDevices } from "./api";
import { icon } from "./icon";

export class SidePanel extends Widget {
  private readonly devices = h("ul", { class: "fml-list" });
  private readonly open = h("ul", { class: "fml-list" });

  /** `found` is called with the devices of each look; `reveal` opens a path. */
  constructor(
    private readonly sessions: Session.IManager,
    private readonly found: (devices: Device[]) => void,
    private readonly reveal: (path: string) => void,
  ) {
    super();
    this.id = "flashmem-lab-side";
    this.addClass("fml-document");
    this.addClass("fml-side");
    this.title.icon = icon;
    this.title.caption = "FlashMem Lab: devices and open models";
    const again = button("Look again", "Try every device again", () => void this.look());
    this.node.append(
      h("h3", {}, "Devices"),
      this.devices,
      again,
      h("h3", {}, "Open models"),
      this.open,
    );
    this.sessions.runningChanged.connect(this.list, this);
    this.list();
    void this.look();
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.sessions.runningChanged.disconnect(this.list, this);
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

function state(session: Session.IModel): string {
  return session.kernel?.execution_state ?? "no kernel";
}
