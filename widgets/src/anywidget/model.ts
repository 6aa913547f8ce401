/** The part of anywidget's model that the faces use, with the types of their state. */

export interface AnyModel<State, Reply> {
  get<K extends keyof State>(name: K): State[K];
  set<K extends keyof State>(name: K, value: State[K]): void;
  save_changes(): void;
  send(content: unknown): void;
  on(name: "msg:custom", callback: (content: Reply) => void): void;
  on(name: `change:${keyof State & string}`, callback: () => void): void;
  off(name: "msg:custom", callback: (content: Reply) => void): void;
  off(name: `change:${keyof State & string}`, callback: () => void): void;
}
