// Small comforts; every page works without this file.
"use strict";

// "/" goes to the search, as in the tools people already use.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const field = document.querySelector("[data-focus-key='/']");
  if (field) {
    event.preventDefault();
    field.focus();
    field.select();
  }
});

// A second click on a slow button must not look like a second attempt. The server would refuse it anyway.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) {
      button.disabled = true;
      button.textContent = "Envoi en cours…";
    }
  });
}
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});

// Warn before leaving a form with unsaved input.
for (const form of document.querySelectorAll("form[data-once]:not([enctype])")) {
  let changed = false;
  form.addEventListener("input", () => { changed = true; });
  form.addEventListener("submit", () => { changed = false; });
  window.addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
}

// Count down, then try a reading again by itself.
for (const link of document.querySelectorAll("a[data-retry]")) {
  let left = Number(link.dataset.retry);
  const label = link.textContent;
  const tick = () => {
    if (left <= 0) { window.location.reload(); return; }
    link.textContent = `${label} (${left} s)`;
    left -= 1;
    window.setTimeout(tick, 1000);
  };
  tick();
}

// j and k go through the rows of a list; Enter opens, as it does on any link.
document.addEventListener("keydown", (event) => {
  if (!["j", "k"].includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const rows = [...document.querySelectorAll("[data-rows] a[data-row]")];
  if (!rows.length) return;
  const here = rows.indexOf(document.activeElement);
  const next = here < 0 ? 0 : here + (event.key === "j" ? 1 : -1);
  rows[Math.min(Math.max(next, 0), rows.length - 1)].focus();
});
