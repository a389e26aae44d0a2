// A page that is made once says how old it is, so that nobody takes what it shows for what is now.
const STALE_S = 15 * 60, EVERY_MS = 5000;
const made = Date.now(), aged = document.getElementById("aged"), newest = document.getElementById("newest");

setInterval(() => {
  // A machine that slept may have one clock that slept too, and the other one may be set.
  const seconds = Math.max(Date.now() - made, performance.now()) / 1000, minutes = Math.floor(seconds / 60);
  if (minutes < 1) return;
  const text = `This page is ${minutes} min old, and does not change by itself. Load it again to see what is now.`;
  if (aged.textContent !== text) aged.textContent = text;
  aged.hidden = false;
  if (newest !== null && Number(newest.dataset.ageS) + seconds > STALE_S) newest.classList.add("stale");
}, EVERY_MS);
