/** The runs under way, asked for while somebody looks. */

import type { IDisposable } from "@lumino/disposable";
import { Signal } from "@lumino/signaling";
import { fetchJobs, type Job } from "./api";

const BUSY_MS = 700;
const IDLE_MS = 2500;

export class JobWatch implements IDisposable {
  readonly changed = new Signal<this, Job[]>(this);
  isDisposed = false;
  private jobs: Job[] = [];
  private timer = 0;

  constructor() {
    document.addEventListener("visibilitychange", this.look);
    this.look();
  }

  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    document.removeEventListener("visibilitychange", this.look);
    clearTimeout(this.timer);
    Signal.clearData(this);
  }

  /** Looks now and again later; not at all while the page is hidden. */
  readonly look = (): void => {
    clearTimeout(this.timer);
    if (this.isDisposed || document.hidden) return;
    void this.ask().finally(() => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(this.look, this.jobs.length ? BUSY_MS : IDLE_MS);
    });
  };

  private async ask(): Promise<void> {
    // A server that is away is told of by Lab itself; to us it has no runs.
    const jobs = await fetchJobs().catch(() => []);
    const idle = jobs.length === 0 && this.jobs.length === 0;
    this.jobs = jobs;
    if (!this.isDisposed && !idle) this.changed.emit(jobs);
  }
}
