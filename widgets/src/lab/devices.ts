/** The devices: phones as they come and go, the others when somebody looks for them. */

import type { IDisposable } from "@lumino/disposable";
import { Signal } from "@lumino/signaling";
import { type Device, fetchDevices, fetchPhones } from "./api";

const PHONES_MS = 3000;

/** What is known: nothing while each device is tried, then a list or why there is none. */
export type Found = { devices: Device[] } | { error: string } | null;

export class DeviceWatch implements IDisposable {
  readonly changed = new Signal<this, Found>(this);
  isDisposed = false;
  private found: Found = null;
  private timer = 0;

  constructor() {
    document.addEventListener("visibilitychange", this.follow);
  }

  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    document.removeEventListener("visibilitychange", this.follow);
    clearTimeout(this.timer);
    Signal.clearData(this);
  }

  /** Tries every device again: on an OpenCL device that takes a process and a kernel. */
  async look(): Promise<void> {
    clearTimeout(this.timer);
    this.tell(null);
    try {
      this.tell({ devices: await fetchDevices() });
    } catch (error) {
      this.tell({ error: (error as Error).message });
    }
    this.follow();
  }

  /** Asks for phones now and again later; not at all while the page is hidden. */
  private readonly follow = (): void => {
    clearTimeout(this.timer);
    if (this.isDisposed || document.hidden) return;
    void this.ask().finally(() => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(this.follow, PHONES_MS);
    });
  };

  private async ask(): Promise<void> {
    const before = this.found;
    // A server that is away is told of by Lab itself; devices are then as they were.
    const phones = await fetchPhones().catch(() => null);
    if (phones === null || before !== this.found || before === null || "error" in before) return;
    const devices = [...before.devices];
    const others = devices.filter((device) => !device.id.startsWith("adb:"));
    const real = others.filter((device) => !device.id.startsWith("sim:"));
    const next = [...real, ...phones, ...others.slice(real.length)];
    if (JSON.stringify(next) !== JSON.stringify(devices)) this.tell({ devices: next });
  }

  private tell(found: Found): void {
    this.found = found;
    if (!this.isDisposed) this.changed.emit(found);
  }
}
