/** A press of the pointer that stays where it is, or moves. */

const STILL = 4; // px that a hand moves without meaning it

export interface Drag {
  /** From the second move on; `event` is the latest one. */
  move(event: PointerEvent): void;
  /** The button was let go: `moved` says whether that was a drag. Not told of one given up. */
  end(event: PointerEvent, moved: boolean): void;
  /** The drag was given up, by Escape or by the system. */
  cancel?(): void;
}

/** Follows each press of the first button for which `begin` answers. */
export function follow(
  canvas: HTMLElement,
  begin: (event: PointerEvent) => Drag | undefined,
): void {
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const drag = begin(event);
    if (!drag) return;
    canvas.setPointerCapture(event.pointerId);
    let way = 0; // px
    const move = (next: PointerEvent): void => {
      way += Math.abs(next.movementX) + Math.abs(next.movementY);
      if (way >= STILL) drag.move(next);
    };
    const stop = (): void => {
      canvas.removeEventListener("pointermove", move);
      canvas.removeEventListener("pointerup", up);
      canvas.removeEventListener("pointercancel", cancel);
      canvas.removeEventListener("keydown", giveUp, true);
    };
    const up = (last: PointerEvent): void => {
      stop();
      drag.end(last, way >= STILL);
    };
    const cancel = (): void => {
      stop();
      drag.cancel?.();
    };
    const giveUp = (key: KeyboardEvent): void => {
      if (key.key !== "Escape") return;
      key.stopPropagation();
      cancel();
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", cancel);
    canvas.addEventListener("keydown", giveUp, true);
  });
}
