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

/** What went wrong, and what to do about it. */
export class RouteError extends Error {
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

async function get(route: string, query: Record<string, string>): Promise<Response> {
  const settings = ServerConnection.makeSettings();
  const url = URLExt.join(settings.baseUrl, "flashmem-lab", route);
  const full = url + URLExt.objectToQueryString(query);
  const response = await ServerConnection.makeRequest(full, {}, settings);
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new RouteError(said.message ?? `the server answered ${response.status}`, said.hint ?? "");
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
