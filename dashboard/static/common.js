// What the pages that follow the board share: how values are written, and what is done to alarms.

export const UNIT = document.body.dataset.unit, ZONE = document.body.dataset.zone;
// Devices tell of their batteries each hour or so.
export const STALE_MS = { glucose: 15 * 60_000, vitals: 5 * 60_000, battery: 6 * 3_600_000 };
export const ICONS = { urgent: "▲", warning: "◆", info: "●" };
export const RANKS = { urgent: 3, warning: 2, info: 1 };
const ARROWS = { "-3": "⇊", "-2": "↓", "-1": "↘", 0: "→", 1: "↗", 2: "↑", 3: "⇈" };
const TRENDS = { "-3": "falls very fast", "-2": "falls fast", "-1": "falls", 0: "steady", 1: "rises", 2: "rises fast", 3: "rises very fast" };
const ANSWER_MS = 60_000;
const MG_DL_PER_MMOL_L = 18.0182;
const TIME = new Intl.DateTimeFormat("en-GB", { timeZone: ZONE, hour: "2-digit", minute: "2-digit" });
const DAY_TIME = new Intl.DateTimeFormat("en-GB", { timeZone: ZONE, day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });

export const glucose = (mgDl) => (UNIT === "mg/dL" ? mgDl.toFixed(0) : (mgDl / MG_DL_PER_MMOL_L).toFixed(1));
export const arrow = (trend) => (trend === null ? "" : ARROWS[trend]);
export const trendText = (trend) => (trend === null ? "" : TRENDS[trend]);
const SPELLED = { spo2: "SpO2", news2: "NEWS2" }, CAUSES = { silence: "no readings", refused: "readings refused" };
export const words = (name) => CAUSES[name] ?? name.split("_").map((word) => SPELLED[word] ?? word).join(" ");

export function clock(at, now) {
  return (Math.abs(now - at) < 18 * 3_600_000 ? TIME : DAY_TIME).format(at);
}

export function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return minutes < 2880 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} d`;
}

/** Sets a text only where it is another one, so that a screen reader and the layout are left alone. */
export function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * What an alarm's state is, in words.
 * @param isOffered whether a button to acknowledge it stands beside, which says that nobody did.
 */
export function stateOf(alarm, now, isOffered = false) {
  if (alarm.pending) return `${alarm.pending[0]} by ${alarm.pending[1] || "somebody"}: being taken up`;
  const by = alarm.by ? ` by ${alarm.by}` : "";
  const said = [];
  if (alarm.state === "acknowledged") said.push(`acknowledged${by}`);
  else if (alarm.state === "snoozed") said.push(`snoozed${by} until ${clock(alarm.until, now)}`);
  else if (!isOffered) said.push("not acknowledged");
  if (alarm.stale) said.push("no readings");
  if (alarm.tier && alarm.state === "unacknowledged") said.push(`escalated ${alarm.tier}×`);
  return said.join(", ");
}

/**
 * Does something to alarms.
 * @returns {Promise<string>} why it was not done; empty where it is sent.
 */
export async function act(action, alarms, more = {}) {
  const form = new URLSearchParams({ action, ...more });
  for (const alarm of alarms) form.append("alarm", `${alarm.id}:${alarm.index}`);
  try {
    const answer = await fetch("/alarms/act", {
      method: "POST",
      body: form,
      headers: { "x-csrf-token": document.body.dataset.csrf },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (answer.ok) return "";
    const said = await answer.json().catch(() => ({}));
    return said.error || `The server answered ${answer.status}; nothing was done.`;
  } catch {
    return "The server did not answer, so it may not have been done. Look at the alarm, and repeat it if need be.";
  }
}

/** Shows how live the page is, everywhere alike: a word, a colour, and values that look old. */
export function liveShown(onChange = () => {}) {
  const box = document.getElementById("live"), text = document.getElementById("live-text");
  return (state, said) => {
    box.dataset.state = state;
    document.body.dataset.live = state;
    set(text, said);
    onChange(state);
  };
}
