/** The item of the status bar: the device, and what the run under way holds. */

import { Widget } from "@lumino/widgets";
import { formatBytes } from "../core/units";
import type { Device, Job } from "./api";
import type { Found } from "./devices";

export class StatusItem extends Widget {
  private devices = inShort(null);
  private jobs: Job[] = [];

  constructor() {
    super();
    this.addClass("fml-status-item");
    this.draw();
  }

  setDevices(found: Found): void {
    this.devices = inShort(found);
    this.draw();
  }

  setJobs(jobs: Job[]): void {
    this.jobs = jobs;
    this.draw();
  }

  private draw(): void {
    const [first] = this.jobs;
    const more = this.jobs.length > 1 ? ` and ${this.jobs.length - 1} more` : "";
    this.node.textContent = first
      ? `FlashMem: ${first.device} · ${first.model}${more} · ${held(first)}`
      : `FlashMem: ${this.devices}`;
    this.node.title = first ? `${first.what}; see the side panel` : "";
  }
}

/** What a run holds, beside its budget. */
export function held(job: Job): string {
  const budget = job.budget_bytes ? ` of ${formatBytes(job.budget_bytes)}` : "";
  return `${formatBytes(job.held_bytes)}${budget}`;
}

function inShort(found: Found): string {
  if (found === null) return "looking for devices …";
  const devices: Device[] = "error" in found ? [] : found.devices;
  const real = devices.filter((device) => !device.id.startsWith("sim:"));
  const works = real.filter((device) => !device.problem);
  if (works.length === 0) return "no device works";
  return `${works[0]!.id}${works.length > 1 ? ` and ${works.length - 1} more` : ""}`;
}
