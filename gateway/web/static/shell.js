// What pages do by themselves: refresh, say that the gateway is silent, hide when nobody is there any more.
// Without this script every page still works; it then shows what was true when it was asked for.
"use strict";

const EVERY_MS = 5000;
const WARNED_MS = 60000;
const body = document.body;

function isBusy() {
  const filters = document.getElementById("filters");
  const chosen = document.getSelection();
  return (
    document.hidden ||
    (chosen !== null && !chosen.isCollapsed) || // somebody copies a StudyInstanceUID
    (filters !== null && filters.contains(document.activeElement))
  );
}

let follows = true;

function showFollow() {
  const button = document.getElementById("follow");
  if (button) {
    button.hidden = document.querySelector("[data-live]") === null;
    button.setAttribute("aria-pressed", String(follows));
  }
}

function refresh() {
  const region = document.querySelector("[data-live]");
  if (region && follows && !isBusy()) {
    htmx.trigger(region, "tick");
  }
}

function setStale(silent) {
  const note = document.getElementById("stale");
  if (note) {
    note.hidden = !silent;
  }
}

document.addEventListener("click", (event) => {
  if (event.target instanceof Element && event.target.closest("#follow")) {
    follows = !follows;
    showFollow();
    refresh();
  }
});
// Copies the masked text of an exchange; the button is there when the browser lets us.
for (const button of document.querySelectorAll("[data-copy]")) {
  const text = document.getElementById(button.dataset.copy);
  button.hidden = text === null || navigator.clipboard === undefined;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = button.dataset.copied;
  });
}
document.addEventListener("visibilitychange", refresh);
// A table scrolled sideways stays where it was.
let scrolled = [];
body.addEventListener("htmx:beforeSwap", () => {
  scrolled = [...document.querySelectorAll(".scroll[id]")].map((table) => [table.id, table.scrollLeft]);
});
body.addEventListener("htmx:afterSwap", () => {
  for (const [id, left] of scrolled) {
    const table = document.getElementById(id);
    if (table) {
      table.scrollLeft = left;
    }
  }
});
body.addEventListener("htmx:sendError", () => setStale(true));
body.addEventListener("htmx:timeout", () => setStale(true));
body.addEventListener("htmx:responseError", () => setStale(true));
body.addEventListener("htmx:afterOnLoad", () => setStale(false));
setInterval(refresh, EVERY_MS);
showFollow();

// Focus goes to what went wrong, so that it is read first.
(document.getElementById("errors") || document.getElementById("refused"))?.focus();

// The session: one minute's notice, then the login page takes the place of what is shown.
let endsAt = 0;

function stay() {
  endsAt = Date.now() + Number(body.dataset.idleS) * 1000;
  document.getElementById("ending").hidden = true;
}

function watch() {
  const left = endsAt - Date.now();
  if (left <= 0) {
    location.assign(body.dataset.login);
  } else if (left <= WARNED_MS) {
    document.getElementById("ending").hidden = false;
  }
}

if (body.dataset.idleS) {
  stay();
  setInterval(watch, 1000);
  document.addEventListener("visibilitychange", watch);
  document.getElementById("ending").addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) {
      stay();
    }
  });
  // A page taken back from the browser's memory may be older than its session.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      location.reload();
    }
  });
}
