// Open alarms: one row each, chosen ones are acted on together. No row moves while somebody is at work with the page.
import { ICONS, RANKS, act, clock, glucose, liveShown, set, stateOf, words } from "./common.js";
import { follow } from "./stream.js";

const HOLD_MS = 8000;
const byId = (id) => document.getElementById(id);
const body = byId("rows"), template = byId("row");
const find = byId("find"), severity = byId("severity"), state = byId("state"), all = byId("all");
const buttons = { acknowledge: byId("acknowledge"), snooze: byId("snooze"), comment: byId("comment") };
const alarms = new Map(), shown = new Map();
let people = {}, live = "waiting", touched = -Infinity, isBusy = false;

const nameOf = (key) => (people[key] ? people[key][0] : key.startsWith("d") ? `Device ${key.slice(1)}` : `Patient ${key}`);
const chosen = () => [...shown.values()].filter((row) => row.choose?.checked && !row.tr.hidden);

function rowOf(id) {
  let row = shown.get(id);
  if (row !== undefined) return row;
  const tr = template.content.firstElementChild.cloneNode(true), part = (name) => tr.querySelector(`.${name}`);
  row = { tr, choose: part("choose"), badge: part("badge"), icon: part("icon"), severity: part("severity"), link: part("name"),
    cause: part("cause"), since: part("since"), worst: part("worst"), state: part("state") };
  row.choose?.addEventListener("change", enable);
  shown.set(id, row);
  body.append(tr);
  return row;
}

function draw(id) {
  const { key, alarm } = alarms.get(id), row = rowOf(id), now = stream.now();
  row.badge.className = `badge ${alarm.severity}`;
  set(row.icon, ICONS[alarm.severity]);
  set(row.severity, alarm.severity);
  set(row.link, nameOf(key));
  if (!key.startsWith("d")) row.link.href = `/patients/${key}`;
  set(row.cause, words(alarm.cause));
  set(row.since, clock(alarm.since, now));
  set(row.worst, alarm.worst === null ? "" : /^(vitals_)?glucose/.test(alarm.cause) ? glucose(alarm.worst) : String(Math.round(alarm.worst * 10) / 10));
  set(row.state, stateOf(alarm, now));
  row.choose?.setAttribute("aria-label", `Choose ${words(alarm.cause)} of ${nameOf(key)}`);
}

function choose() {
  const text = find.value.trim().toLowerCase();
  let count = 0;
  for (const [id, row] of shown) {
    const { key, alarm } = alarms.get(id);
    const said = `${nameOf(key)} ${key} ${words(alarm.cause)}`.toLowerCase();
    const isShown = said.includes(text) && (!severity.value || alarm.severity === severity.value) && (!state.value || alarm.state === state.value);
    row.tr.hidden = !isShown;
    count += isShown;
  }
  set(byId("open-count"), `(${count})`);
  byId("nothing").hidden = count > 0;
  byId("nothing-fits").hidden = shown.size === 0;
  byId("nothing-there").hidden = shown.size > 0;
  enable();
}

function arrange() {
  if (performance.now() - touched < HOLD_MS || body.contains(document.activeElement)) return;
  const rank = ({ alarm }) => RANKS[alarm.severity] + (alarm.state === "unacknowledged" ? 3 : 0);
  const ids = [...shown.keys()].sort((a, b) => {
    const x = alarms.get(a), y = alarms.get(b);
    return rank(y) - rank(x) || x.alarm.since - y.alarm.since || a.localeCompare(b);
  });
  if (ids.some((id, place) => body.children[place] !== shown.get(id).tr)) body.append(...ids.map((id) => shown.get(id).tr));
}

function enable() {
  const count = chosen().length;
  for (const button of Object.values(buttons)) if (button) button.disabled = live !== "live" || isBusy || count === 0;
}

async function doTo(action, more = {}) {
  const ids = [...shown].filter(([, row]) => row.choose.checked && !row.tr.hidden).map(([id]) => id);
  isBusy = true;
  enable();
  const problem = await act(action, ids.map((id) => alarms.get(id)?.alarm).filter(Boolean), more);
  isBusy = false;
  const done = byId("done");
  done.hidden = !problem;
  set(done, problem);
  if (!problem) for (const id of ids) { const row = shown.get(id); if (row) row.choose.checked = false; }
  if (all) all.checked = false;
  enable();
}

function take(kind, message) {
  const keys = new Set(message.rows.map((row) => row.key));
  if (kind === "snapshot") people = message.people;
  const kept = new Set(message.rows.flatMap((row) => row.alarms.map((alarm) => alarm.id)));
  for (const [id, { key }] of alarms) {
    if ((kind === "snapshot" || keys.has(key)) && !kept.has(id)) { shown.get(id)?.tr.remove(); shown.delete(id); alarms.delete(id); }
  }
  for (const row of message.rows) {
    for (const alarm of row.alarms) { alarms.set(alarm.id, { key: row.key, alarm }); draw(alarm.id); }
  }
  if (message.rows.length || kind === "snapshot") { arrange(); choose(); }
}

const stream = follow(take, liveShown((next) => { live = next; enable(); }));

setInterval(arrange, 2000);
for (const kind of ["pointerdown", "pointermove", "keydown", "touchstart", "wheel"]) {
  addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
}
for (const node of [find, severity, state]) node.addEventListener("input", choose);
all?.addEventListener("change", () => { for (const row of shown.values()) if (!row.tr.hidden) row.choose.checked = all.checked; enable(); });
buttons.acknowledge?.addEventListener("click", () => doTo("acknowledge", { note: byId("note").value }));
buttons.snooze?.addEventListener("click", () => doTo("snooze", { minutes: byId("minutes").value, note: byId("note").value }));
buttons.comment?.addEventListener("click", () => doTo("comment", { note: byId("note").value }));
