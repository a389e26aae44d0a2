// The ward: a row for each patient. Only rows in view are drawn, and none moves while somebody is at work with the page.
import { ICONS, RANKS, STALE_MS, act, age, arrow, clock, glucose, liveShown, set, stateOf, trendText, words } from "./common.js";
import { follow } from "./stream.js";

const HOLD_MS = 8000, ORDER_EVERY_MS = 2000, SHOWN_ALARMS = 4, RING_AGAIN_MS = 60_000;
const byId = (id) => document.getElementById(id);
const body = byId("rows"), devices = byId("devices"), devicesHeading = byId("devices-heading"), rowTemplate = byId("row"), alarmTemplate = byId("alarm");
const find = byId("find"), group = byId("group"), onlyAlarms = byId("only-alarms"), resort = byId("resort");

let people = {};
const data = new Map(), shown = new Map(), failed = new Map();
let order = [], touched = -Infinity, orderedAt = -Infinity, live = "waiting";

// ------------------------------------------------------------------ rows

const inView = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = shown.get(entry.target.dataset.key);
    if (row === undefined) continue;
    row.isInView = entry.isIntersecting;
    if (row.isInView) draw(row);
  }
}, { rootMargin: "200px" });

const nameOf = (key) => (people[key] ? people[key][0] : key.startsWith("d") ? `Device ${key.slice(1)}` : `Patient ${key}`);

// A device that nobody wears has a row of its own, apart from patients.
const isDevice = (key) => key.startsWith("d");

function drop(key) {
  const { tr } = shown.get(key);
  inView.unobserve(tr);
  tr.remove();
  shown.delete(key);
}

function rowOf(key) {
  let row = shown.get(key);
  if (row !== undefined) return row;
  const tr = rowTemplate.content.firstElementChild.cloneNode(true);
  tr.dataset.key = key;
  const part = (cell) => {
    const td = tr.querySelector(`.${cell}`);
    return { td, value: td.querySelector(".value"), age: td.querySelector(".age") };
  };
  row = {
    key, tr, isInView: false, link: tr.querySelector(".name"), team: tr.querySelector(".team"),
    glucose: part("glucose"), trend: tr.querySelector(".trend"), heartRate: part("heart-rate"), spo2: part("spo2"),
    news2: part("news2"), risk: tr.querySelector(".risk"), battery: part("battery"),
    list: tr.querySelector(".alarm-list"), alarms: new Map(),
  };
  shown.set(key, row);
  (isDevice(key) ? devices : body).append(tr);
  inView.observe(tr);
  return row;
}

function drawValue(part, reading, staleMs, write, now) {
  if (!reading) {
    set(part.value, "–");
    if (part.age) set(part.age, "no reading");
    part.td.classList.remove("stale");
    return;
  }
  const old = now - reading.at;
  set(part.value, write(reading));
  if (part.age) set(part.age, old > staleMs ? `stale, ${age(old)}` : age(old));
  part.td.classList.toggle("stale", old > staleMs);
}

function draw(row) {
  const at = data.get(row.key) ?? { alarms: [] }, now = stream.now();
  set(row.link, nameOf(row.key));
  if (!isDevice(row.key)) row.link.href = `/patients/${row.key}`;
  set(row.team, people[row.key] ? [`#${row.key}`, ...people[row.key][1], people[row.key][2]].filter(Boolean).join(" · ") : "");
  const [value, when, flag, trend] = at.glucose ?? [];
  drawValue(row.glucose, at.glucose && { at: when }, STALE_MS.glucose,
    () => (flag ? `${flag === "below" ? "below" : "above"} range` : glucose(value)), now);
  const isOld = !at.glucose || now - when > STALE_MS.glucose;
  set(row.trend, isOld ? "" : arrow(trend));
  row.trend.title = isOld ? "" : trendText(trend);
  row.trend.setAttribute("aria-label", row.trend.title);
  row.trend.setAttribute("role", "img");
  row.trend.hidden = !row.trend.textContent;
  drawValue(row.heartRate, at.heart_rate && { at: at.heart_rate[1] }, STALE_MS.vitals, () => at.heart_rate[0].toFixed(0), now);
  drawValue(row.spo2, at.spo2 && { at: at.spo2[1] }, STALE_MS.vitals, () => at.spo2[0].toFixed(0), now);
  drawValue(row.news2, at.news2 && { at: at.news2[2] }, STALE_MS.vitals, () => String(at.news2[0]), now);
  set(row.risk, at.news2 ? at.news2[1] : "");
  drawValue(row.battery, at.battery && { at: at.battery[1] }, STALE_MS.battery, () => at.battery[0].toFixed(0), now);
  drawAlarms(row, at.alarms, now);
}

function drawAlarms(row, alarms, now) {
  const wanted = alarms.slice(0, SHOWN_ALARMS);
  const ids = new Set(wanted.map((alarm) => alarm.id));
  for (const [id, item] of row.alarms) {
    if (!ids.has(id)) { item.li.remove(); row.alarms.delete(id); }
  }
  for (const alarm of wanted) {
    let item = row.alarms.get(alarm.id);
    if (item === undefined) {
      const li = alarmTemplate.content.firstElementChild.cloneNode(true);
      const part = (name) => li.querySelector(`.${name}`);
      item = { li, alarm, badge: part("badge"), icon: part("icon"), severity: part("severity"), cause: part("cause"),
        since: part("since"), state: part("state"), button: part("acknowledge") };
      if (item.button) item.button.addEventListener("click", () => acknowledge(row, item));
      row.alarms.set(alarm.id, item);
      row.list.append(li);
    }
    item.alarm = alarm;
    item.badge.className = `badge ${alarm.severity}`;
    set(item.icon, ICONS[alarm.severity]);
    set(item.severity, alarm.severity);
    set(item.cause, words(alarm.cause));
    set(item.since, `since ${clock(alarm.since, now)}`);
    set(item.state, failed.get(alarm.id) ?? stateOf(alarm, now, item.button !== null));
    if (item.button) {
      item.button.hidden = alarm.state === "acknowledged";
      item.button.disabled = live !== "live" || alarm.pending !== null;
      item.button.setAttribute("aria-label", `Acknowledge ${words(alarm.cause)} of ${nameOf(row.key)}`);
    }
  }
  const more = alarms.length - wanted.length;
  if (more > 0 && row.more === undefined) { row.more = document.createElement("li"); row.list.append(row.more); }
  if (row.more !== undefined) { set(row.more, more > 0 ? `and ${more} more` : ""); row.more.hidden = more <= 0; }
}

async function acknowledge(row, item) {
  item.button.disabled = true;
  failed.delete(item.alarm.id);
  set(item.state, "being sent …");
  const problem = await act("acknowledge", [item.alarm]);
  if (problem) { failed.set(item.alarm.id, problem); byId("said").textContent = problem; }
  draw(row);
}

// ------------------------------------------------------------------ order

function rank(key) {
  let most = 0, since = Infinity;
  for (const alarm of data.get(key)?.alarms ?? []) {
    const of = RANKS[alarm.severity] + (alarm.state === "unacknowledged" ? 3 : 0);
    if (of > most) { most = of; since = alarm.since; } else if (of === most) since = Math.min(since, alarm.since);
  }
  return [most, since];
}

const isAtWork = (part) => part.contains(document.activeElement) && document.activeElement !== part;
const isHeld = () => performance.now() - touched < HOLD_MS || isAtWork(body) || isAtWork(devices);

function arrange(isForced) {
  if (isForced || !isHeld()) {
    for (const key of [...shown.keys()]) {
      if (isDevice(key) && !data.get(key)?.alarms.length) { drop(key); data.delete(key); }
    }
  }
  const ranks = new Map([...shown.keys()].map((key) => [key, rank(key)]));
  const names = new Map([...shown.keys()].map((key) => [key, nameOf(key)]));
  const next = [...shown.keys()].sort((a, b) => {
    if (isDevice(a) !== isDevice(b)) return isDevice(a) ? 1 : -1;
    const [x, since] = ranks.get(a), [y, other] = ranks.get(b);
    return y - x || (since === other ? 0 : since - other) || names.get(a).localeCompare(names.get(b), undefined, { numeric: true });
  });
  orderedAt = performance.now();
  const isSame = next.length === order.length && next.every((key, place) => key === order[place]);
  if (!isSame && !isForced && isHeld()) { resort.hidden = false; return; }
  resort.hidden = true;
  if (isSame) return;
  order = next;
  const trs = (wanted) => order.filter((key) => isDevice(key) === wanted).map((key) => shown.get(key).tr);
  body.append(...trs(false));
  devices.append(...trs(true));
}

function choose() {
  const text = find.value.trim().toLowerCase();
  let count = 0, countOfDevices = 0;
  for (const [key, row] of shown) {
    const person = people[key];
    const words_ = [nameOf(key), key, ...(person ? [...person[1], person[2]] : [])].join(" ").toLowerCase();
    const isChosen = words_.includes(text) && (!group.value || person?.[1].includes(group.value)) &&
      (!onlyAlarms.checked || (data.get(key)?.alarms.length ?? 0) > 0);
    row.tr.hidden = !isChosen;
    count += isChosen;
    countOfDevices += isChosen && isDevice(key);
  }
  devicesHeading.hidden = countOfDevices === 0;
  byId("nothing").hidden = count > 0;
  byId("nothing-fits").hidden = shown.size === 0;
  byId("nothing-there").hidden = shown.size > 0;
  return count;
}

function countAlarms() {
  const counts = { urgent: 0, warning: 0, info: 0 };
  let waiting = 0;
  for (const { alarms } of data.values()) {
    for (const alarm of alarms) { counts[alarm.severity] += 1; waiting += alarm.state === "unacknowledged"; }
  }
  const patients = [...shown.keys()].filter((key) => !isDevice(key)).length;
  set(byId("counts"), `${patients} patients · ${counts.urgent} urgent, ${counts.warning} warning, ${counts.info} info · ${waiting} not acknowledged`);
  document.title = (counts.urgent ? `(${counts.urgent}) ` : "") + "Ward · Pulselake";
}

// ------------------------------------------------------------------ sound and notifications

let audio = null, known = null, rangAt = -Infinity;
const soundButton = byId("sound"), notifyButton = byId("notify");

function tone(times) {
  for (let n = 0; n < times; n += 1) {
    const from = audio.currentTime + 0.25 * n, swing = audio.createOscillator(), loud = audio.createGain();
    swing.frequency.value = 880;
    loud.gain.setValueAtTime(0.0001, from);
    loud.gain.exponentialRampToValueAtTime(0.3, from + 0.02);
    loud.gain.exponentialRampToValueAtTime(0.0001, from + 0.18);
    swing.connect(loud).connect(audio.destination);
    swing.start(from);
    swing.stop(from + 0.2);
  }
}

function showSound() {
  const isOn = audio !== null && audio.state === "running";
  set(soundButton, isOn ? "Sound: on" : audio === null || audio.isOff ? "Sound: off" : "Sound: blocked by the browser");
  soundButton.setAttribute("aria-pressed", String(isOn));
}

soundButton.addEventListener("click", async () => {
  if (audio === null) { audio = new AudioContext(); audio.onstatechange = showSound; }
  if (audio.state === "running" && soundButton.getAttribute("aria-pressed") === "true") {
    audio.isOff = true;
    await audio.suspend();
  } else {
    audio.isOff = false;
    await audio.resume();
    tone(1); // what an urgent alarm will sound like
  }
  showSound();
});

const canNotify = () => "Notification" in window && Notification.permission === "granted" && notifyButton.getAttribute("aria-pressed") === "true";

notifyButton.addEventListener("click", async () => {
  const isOn = notifyButton.getAttribute("aria-pressed") === "true";
  const isAllowed = !isOn && "Notification" in window && (await Notification.requestPermission()) === "granted";
  notifyButton.setAttribute("aria-pressed", String(isAllowed));
  set(notifyButton, isAllowed ? "Notifications: on" : isOn ? "Notifications: off" : "Notifications: not allowed by the browser");
});

function ring() {
  const urgent = new Map();
  for (const [key, { alarms }] of data) {
    for (const alarm of alarms) if (alarm.severity === "urgent" && alarm.state === "unacknowledged") urgent.set(alarm.id, [key, alarm]);
  }
  const fresh = known === null ? [] : [...urgent].filter(([id]) => !known.has(id));
  known = new Set(urgent.keys());
  for (const [id, [key, alarm]] of fresh) {
    byId("said").textContent = `Urgent: ${words(alarm.cause)}, ${nameOf(key)}`;
    if (canNotify()) {
      const text = `Urgent: ${words(alarm.cause)}`, more = { body: nameOf(key), tag: id };
      navigator.serviceWorker.ready.then((worker) => worker.showNotification(text, more), () => {});
    }
  }
  const isDue = fresh.length > 0 || (urgent.size > 0 && performance.now() - rangAt > RING_AGAIN_MS);
  if (isDue && audio !== null && audio.state === "running") { rangAt = performance.now(); tone(3); }
}

// ------------------------------------------------------------------ messages

function take(kind, message) {
  if (kind === "snapshot") {
    people = message.people;
    data.clear();
    const keys = new Set([...Object.keys(people), ...message.rows.map((row) => row.key)]);
    for (const key of [...shown.keys()]) if (!keys.has(key)) drop(key);
    for (const key of keys) rowOf(key);
    const brought = new Set(message.rows.map((row) => row.key));
    for (const key of keys) if (!brought.has(key)) draw(rowOf(key));
    const groups = [...new Set(Object.values(people).flatMap((person) => person[1]))].sort();
    const chosen = group.value;
    group.replaceChildren(new Option("all", ""), ...groups.map((each) => new Option(each, each)));
    group.value = groups.includes(chosen) ? chosen : "";
  }
  for (const row of message.rows) {
    data.set(row.key, row);
    for (const alarm of row.alarms) if (alarm.pending || alarm.state !== "unacknowledged") failed.delete(alarm.id);
    const own = rowOf(row.key);
    if (own.isInView || kind === "snapshot") draw(own);
  }
  // A device comes and goes with its alarms.
  if (kind !== "snapshot" && message.rows.some((row) => isDevice(row.key))) choose();
  if (kind === "snapshot") { arrange(order.length === 0); choose(); countAlarms(); ring(); } else if (message.rows.length) { countAlarms(); ring(); }
}

const stream = follow(take, liveShown((state) => {
  live = state;
  for (const row of shown.values()) if (row.isInView) draw(row);
}));

setInterval(() => {
  for (const row of shown.values()) if (row.isInView) draw(row);
  if (performance.now() - orderedAt > ORDER_EVERY_MS) { arrange(false); if ((onlyAlarms.checked || !devicesHeading.hidden) && !isHeld()) choose(); ring(); }
}, 1000);

for (const kind of ["pointerdown", "pointermove", "keydown", "touchstart", "wheel"]) {
  addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
}
for (const node of [find, group, onlyAlarms]) node.addEventListener("input", choose);
resort.addEventListener("click", () => { touched = -Infinity; resort.blur(); arrange(true); choose(); });
