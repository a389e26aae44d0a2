// The stream of the board: one connection a browser, shared by its tabs, and the truth about whether it is live.
//
// One tab holds the stream and passes messages on to the others: a browser opens six connections to a host at most, so
// the seventh tab would hang. Silence is measured by a clock that no one sets; ages are measured by the server's.

const SILENT_MS = 3000, BROKEN_MS = 8000, TICK_MS = 500, SLEPT_MS = 5000, LONGEST_WAIT_MS = 4000;
const ASK_AGAIN_MS = 2000, ANSWER_MS = 10_000;

/**
 * Follows the board.
 * @param {(kind: "snapshot" | "changes", data: object) => void} onMessage gets a snapshot first, then what changes.
 * @param {(state: "waiting" | "live" | "trouble" | "silent" | "out", text: string) => void} onState gets how live it is.
 * @returns {{now: () => number, isLive: () => boolean}} the server's time in milliseconds, and whether values are live.
 */
export function follow(onMessage, onState) {
  // Another session in this browser may see other patients: it has another name.
  const name = `pulselake ${document.body.dataset.csrf}`;
  const channel = new BroadcastChannel(name);
  let heard = -Infinity, first = performance.now(), serverNow = 0, trouble = "", state = "", step = -1, early = [];
  let source = null, wait = 500, isOut = false, ticked = Date.now(), asked = -Infinity, opened = -Infinity;

  const now = () => serverNow + (performance.now() - heard);

  function show() {
    const silent = performance.now() - Math.max(heard, first) > SILENT_MS;
    const next = isOut ? "out" : silent ? "silent" : step < 0 ? "waiting" : trouble ? "trouble" : "live";
    if (next === state && next !== "silent" && next !== "trouble") return;
    const since = Math.round((performance.now() - Math.max(heard, first)) / 1000);
    state = next;
    onState(next, {
      out: "Signed out: nothing here is live. Sign in again.",
      silent: `Not live: nothing was heard for ${since} s. Values are old.`,
      waiting: "Connecting …",
      trouble: `Not live: ${trouble}. Values are old.`,
      live: "Live",
    }[next]);
  }

  /** Whether nothing ran for a while: what is known is old then, and what waits to be read may be, so a snapshot follows. */
  function hasSlept() {
    const gone = Date.now() - ticked;
    ticked = Date.now();
    if (gone <= SLEPT_MS || isOut) return false;
    // A machine that slept may have a clock that slept too.
    heard -= gone;
    first -= gone;
    if (source !== null) open();
    else { step = -1; early = []; snapshot(); }
    show();
    return true;
  }

  function take(kind, data) {
    if (kind !== "snapshot" && kind !== "out" && hasSlept()) return;
    if (kind === "out") {
      isOut = true;
      close();
    } else {
      heard = performance.now();
      wait = 500;
      serverNow = data.now;
      trouble = data.trouble;
      if (kind === "snapshot") {
        const missed = early;
        early = [];
        if (data.step < step) return show();
        step = data.step;
        onMessage(kind, data);
        for (const each of missed) if (each.step >= step) onMessage("changes", each);
      } else if (step < 0) {
        early.push(data);
      } else if (data.step >= step) {
        step = data.step;
        onMessage(kind, data);
      }
    }
    show();
  }

  function close() {
    if (source !== null) source.close();
    source = null;
  }

  function open() {
    close();
    if (isOut) return;
    step = -1;
    early = [];
    opened = performance.now();
    source = new EventSource("/live");
    for (const kind of ["snapshot", "changes", "out"]) {
      source.addEventListener(kind, (event) => {
        const data = JSON.parse(event.data);
        // The holder's stream begins with a snapshot; whatever step it has, it is what holds. Later ones bring names.
        if (kind === "snapshot") step = -1;
        channel.postMessage([kind, data]);
        take(kind, data);
      });
    }
    source.onerror = () => {
      close();
      setTimeout(async () => {
        try {
          if ((await fetch("/session", { signal: AbortSignal.timeout(ANSWER_MS) })).status === 401) {
            channel.postMessage(["out", {}]);
            return take("out", {});
          }
        } catch { /* the server is away */ }
        if (source === null) open();
      }, wait * (0.75 + Math.random() / 2));
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    };
  }

  async function snapshot() {
    asked = performance.now();
    try {
      const answer = await fetch("/live/snapshot", { signal: AbortSignal.timeout(ANSWER_MS) });
      if (answer.status === 401) return take("out", {});
      if (answer.ok) take("snapshot", await answer.json());
    } catch { /* the next message tells */ }
  }

  channel.onmessage = (event) => {
    const [kind, data] = event.data;
    if (kind === "snapshot") step = -1;
    take(kind, data);
  };
  if (navigator.locks) {
    const hold = () => { open(); return new Promise(() => {}); };
    navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (lock !== null) return hold();
      // Another tab holds the stream; this one takes it over when that one is closed.
      navigator.locks.request(name, hold);
      return snapshot();
    });
  } else {
    open();
  }
  setInterval(() => {
    if (hasSlept()) return;
    // Without a snapshot nothing is shown, so one that failed is asked for again.
    if (source === null && step < 0 && !isOut && performance.now() - asked > ASK_AGAIN_MS) snapshot();
    // It goes on to be silent until something is heard.
    if (source !== null && performance.now() - Math.max(heard, opened) > BROKEN_MS) open();
    show();
  }, TICK_MS);
  for (const kind of ["visibilitychange", "pageshow", "online", "offline"]) addEventListener(kind, show);
  show();
  return { now, isLive: () => state === "live" };
}
