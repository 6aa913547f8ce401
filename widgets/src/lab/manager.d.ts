/**
 * ipywidgets' own extension, which is loaded in the same page and shares its module. Only what is
 * used of it is declared; the package itself would bring in the whole notebook.
 */
declare module "@jupyter-widgets/jupyterlab-manager" {
  import type { ISessionContext } from "@jupyterlab/apputils";
  import type { IRenderMimeRegistry } from "@jupyterlab/rendermime";
  import type { IDisposable } from "@lumino/disposable";
  import type { ISignal } from "@lumino/signaling";

  interface Context {
    sessionContext: ISessionContext;
    model: { getMetadata(name: string): undefined };
    saveState: ISignal<unknown, string>;
  }

  /** Lets `rendermime` draw the widgets of the session's kernel. */
  export function registerWidgetManager(
    context: Context,
    rendermime: IRenderMimeRegistry,
    renderers: Iterable<never>,
  ): IDisposable;
}
