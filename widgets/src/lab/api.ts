/** The server's routes below /flashmem-lab; see flashmem_lab/server/handlers.py. */

import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";
import type { Section } from "../core/model";

export interface Device {
  id: string;
  name: string;
  problem: string;
  transport: string;
}

/** A run under way, of any kernel; see flashmem_lab/worker/board.py. */
export interface Job {
  id: string;
  model: string;
  path: string;
  device: string;
  budget_bytes: number;
  what: string;
  done: number;
  total: number;
  held_bytes: number;
  host_bytes: number;
}

/** What went wrong, and what to do about it. */
export class RouteError extends Error {
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

async function ask(route: string, init: RequestInit, query = ""): Promise<Response> {
  const settings = ServerConnection.makeSettings();
  const url = URLExt.join(settings.baseUrl, "flashmem-lab", route);
  const response = await ServerConnection.makeRequest(url + query, init, settings);
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new RouteError(said.message ?? `the server answered ${response.status}`, said.hint ?? "");
}

function get(route: string, query: Record<string, string>): Promise<Response> {
  return ask(route, {}, URLExt.objectToQueryString(query));
}

/** A buffer for `decode`: the graph of a model, or the timeline of a trace, a plan or a bundle. */
export async function fetchBuffer(what: "graph" | "timeline", path: string): Promise<DataView> {
  return new DataView(await (await get(what, { path })).arrayBuffer());
}

export async function fetchDetails(path: string, node: number): Promise<Section[]> {
  return (await get("node", { path, node: String(node) })).json();
}

export async function fetchDevices(): Promise<Device[]> {
  return (await get("devices", {})).json();
}

/** Those of the devices that come and go; asks no driver. */
export async function fetchPhones(): Promise<Device[]> {
  return (await get("phones", {})).json();
}

export async function fetchJobs(): Promise<Job[]> {
  return (await get("jobs", {})).json();
}

export async function stopJob(id: string): Promise<void> {
  await ask(`jobs/${id}/stop`, { method: "POST" });
}
