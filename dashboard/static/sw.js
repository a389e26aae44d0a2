// Says that there is no connection. It keeps no data of patients, and no page but this notice.
const NOTICE = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>" +
  "<title>No connection</title><h1>No connection</h1><p>Pulselake cannot be reached, so nothing here is live. Try again.</p>";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  // A form that another site sends must not look like ours, so whatever is no GET passes by.
  if (event.request.mode !== "navigate" || event.request.method !== "GET") return;
  event.respondWith(fetch(event.request).catch(
    () => new Response(NOTICE, { status: 503, headers: { "content-type": "text/html; charset=utf-8" } })));
});
