// Keeps the session while somebody is there, and registers the notice for when there is no connection.
if ("serviceWorker" in navigator) navigator.serviceWorker.register("/sw.js");

let told = performance.now();
for (const kind of ["pointerdown", "keydown"]) {
  addEventListener(kind, () => {
    if (performance.now() - told < 60_000) return;
    told = performance.now();
    fetch("/session", { method: "POST", headers: { "x-csrf-token": document.body.dataset.csrf } }).then((answer) => {
      if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    }, () => {});
  }, { passive: true });
}

// What was shown to somebody who has signed out must not come back with the Back button.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
