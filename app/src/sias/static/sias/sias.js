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
  form.addEventListener("submit", (event) => {
    // Once the form is gone: the name of a disabled button would not be sent.
    window.setTimeout(() => {
      for (const button of form.querySelectorAll("button")) {
        button.disabled = true;
        if (button === event.submitter) button.textContent = "Envoi en cours…";
      }
    });
  });
}
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});

// Warn before leaving a form with unsaved input.
for (const form of document.querySelectorAll("form[data-once]:not([enctype], [data-draft])")) {
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

// Answers save themselves, one field at a time. Without this file the button saves them all.
for (const form of document.querySelectorAll("form[data-autosave]")) {
  const status = document.getElementById("sauvegarde");
  const pending = new Map(); // question -> timer, or "sending"
  const say = (text, bad) => {
    status.textContent = (bad ? "" : "✓ ") + text;
    status.classList.toggle("unsaved", bad);
  };
  const fieldOf = (element) => element.closest("[data-question]");
  const complain = (field, text) => {
    const place = field.querySelector(".error");
    place.textContent = text;
    place.hidden = !text;
    field.classList.toggle("wrong", Boolean(text));
    for (const control of field.querySelectorAll("input:not([type=hidden]), select, textarea")) {
      if (text) control.setAttribute("aria-invalid", "true"); else control.removeAttribute("aria-invalid");
    }
  };
  const offer = (field, answer) => {
    complain(field, answer.message);
    const place = field.querySelector(".error");
    const choice = document.createElement("span");
    choice.className = "choose";
    const button = (label, act) => {
      const made = document.createElement("button");
      made.type = "button";
      made.className = "secondary";
      made.textContent = label;
      made.addEventListener("click", () => { choice.remove(); act(); });
      choice.append(made);
    };
    button(`Garder la mienne : ${answer.mine}`, () => save(field));
    button(`Prendre l'autre : ${answer.theirs}`, () => {
      const wanted = [].concat(answer.theirs_value ?? []);
      for (const control of field.querySelectorAll("input:not([type=hidden]), select, textarea")) {
        if (control.type === "checkbox") control.checked = wanted.includes(control.value);
        else if (control.tagName === "SELECT") control.value = wanted[0] ?? "";
        else control.value = answer.theirs === "(vide)" ? "" : answer.theirs.replace(" €", "");
      }
      complain(field, "");
      say("Toutes les informations sont sauvegardées.", pending.size > 0);
    });
    place.append(document.createElement("br"), choice);
    choice.querySelector("button").focus();
  };
  const save = async (field) => {
    const code = field.dataset.question;
    window.clearTimeout(pending.get(code));
    pending.set(code, "sending");
    say("Enregistrement en cours…", true);
    const body = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (name === "csrfmiddlewaretoken" || name.slice(name.indexOf("-") + 1) === code) body.append(name, value);
    }
    const sent = body.getAll(`reponse-${code}`).join("\u0000");
    body.append("idempotency_key", [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join(""));
    let answer;
    let response;
    try {
      response = await fetch(form.action, { method: "POST", body, headers: { "X-Requested-With": "fetch" }, redirect: "error" });
      answer = await response.json();
    } catch {
      // No network, a failover, a session that ended: what was typed stays, and is sent again.
      say("Pas encore enregistré : le service ne répond pas. Nouvel essai dans 5 s, laissez cette page ouverte.", true);
      pending.set(code, window.setTimeout(() => save(field), 5000));
      return;
    }
    pending.delete(code);
    if (response.ok) {
      field.querySelector(`[name="base-${code}"]`).value = answer.base[code];
      complain(field, "");
      const again = new FormData(form).getAll(`reponse-${code}`).join("\u0000");
      if (again !== sent) { save(field); return; }
      if (pending.size === 0 && !form.querySelector(".wrong")) say(answer.saved, false);
      else if (form.querySelector(".wrong")) say("Une réponse n'est pas enregistrée : elle est signalée en rouge.", true);
      return;
    }
    say("Une réponse n'est pas enregistrée : elle est signalée en rouge.", true);
    if (response.status === 409 && "base" in answer) {
      field.querySelector(`[name="base-${code}"]`).value = answer.base;
      offer(field, answer);
    } else {
      complain(field, answer.message);
    }
  };
  form.addEventListener("change", (event) => {
    const field = fieldOf(event.target);
    if (field) save(field);
  });
  form.addEventListener("input", (event) => {
    const field = fieldOf(event.target);
    if (!field || !event.target.matches("textarea, input:not([type=checkbox])")) return;
    const code = field.dataset.question;
    say("Saisie en cours…", true);
    if (pending.get(code) === "sending") return; // its answer looks whether more was typed
    window.clearTimeout(pending.get(code));
    pending.set(code, window.setTimeout(() => save(field), event.target.matches("textarea") ? 1500 : 60000));
  });
  form.addEventListener("submit", () => pending.clear());
  window.addEventListener("beforeunload", (event) => {
    if (pending.size > 0 || form.querySelector(".wrong")) event.preventDefault();
  });
}

// A long text keeps itself as a draft while it is typed. Without this file only the button saves.
for (const form of document.querySelectorAll("form[data-draft]")) {
  const status = document.getElementById("sauvegarde");
  let timer = null; // something typed is not kept yet
  let sending = false;
  const say = (text, bad) => {
    status.textContent = (bad ? "" : "✓ ") + text;
    status.classList.toggle("unsaved", bad);
  };
  const later = (delay) => { window.clearTimeout(timer); timer = window.setTimeout(keep, delay); };
  const keep = async () => {
    timer = null;
    sending = true;
    const body = new URLSearchParams(new FormData(form));
    body.set("idempotency_key", [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join(""));
    try {
      const response = await fetch(form.dataset.draft, { method: "POST", body, headers: { "X-Requested-With": "fetch" }, redirect: "error" });
      const answer = await response.json();
      if (timer === null) say(response.ok ? answer.saved : answer.message, !response.ok);
    } catch {
      say("Pas encore gardé : le service ne répond pas. Nouvel essai dans 5 s, laissez cette page ouverte.", true);
      later(5000);
    }
    sending = false;
  };
  form.addEventListener("input", () => { say("Saisie en cours…", true); later(1500); });
  form.addEventListener("submit", () => { window.clearTimeout(timer); timer = null; });
  window.addEventListener("beforeunload", (event) => { if (timer !== null || sending) event.preventDefault(); });
}
