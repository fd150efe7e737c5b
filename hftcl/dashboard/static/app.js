// What changed on the server is fetched again, part by part. Without this script the page reloads by itself.
"use strict";
(() => {
  const SILENT_MS = 20000; // the server says every five seconds that it is there
  let version = document.documentElement.dataset.version;
  let newest = version;
  let busy = false;
  let silence = 0;

  async function refresh() {
    if (busy || document.hidden || newest === version) return;
    busy = true;
    const wanted = newest;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of page.querySelectorAll("[data-part]")) replace(part);
      version = wanted;
    } catch (_) {
      lose();
    } finally {
      busy = false;
    }
    if (newest !== version) setTimeout(refresh, 1000);
  }

  function replace(part) {
    const old = document.getElementById(part.id);
    if (!old || old.dataset.digest === part.dataset.digest) return;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((one) => one.id));
    const places = [...old.querySelectorAll(".tall")].map((one) => one.scrollTop);
    const focused = old.contains(document.activeElement) ? document.activeElement.closest("[id]").id : "";
    const next = document.importNode(part, true);
    next.querySelectorAll("details[id]").forEach((one) => { one.open = one.open || open.has(one.id); });
    old.replaceWith(next);
    next.querySelectorAll(".tall").forEach((one, place) => { one.scrollTop = places[place] || 0; });
    next.dispatchEvent(new Event("part", { bubbles: true })); // to charts.js
    if (focused && focused !== next.id) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  function lose() {
    const shown = document.getElementById("contact");
    if (!shown.classList.contains("lost")) shown.append(", no contact since");
    shown.classList.add("lost");
  }

  function hear(text) {
    const said = JSON.parse(text);
    const shown = document.getElementById("contact");
    const time = document.createElement("time");
    time.textContent = said.at;
    shown.replaceChildren("as of ", time, " UTC");
    shown.classList.remove("lost");
    clearTimeout(silence);
    silence = setTimeout(lose, SILENT_MS);
    newest = said.version;
    refresh();
  }

  function listen(wait) {
    const source = new EventSource("/events");
    source.onmessage = (event) => { wait = 1000; hear(event.data); };
    source.onerror = () => { // as in worker.js
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, wait, Math.min(2 * wait, 30000));
    };
  }

  document.addEventListener("visibilitychange", refresh);
  silence = setTimeout(lose, SILENT_MS);
  if (window.SharedWorker) {
    const worker = new SharedWorker("/static/worker.js");
    worker.port.onmessage = (event) => hear(event.data);
    addEventListener("pagehide", () => worker.port.postMessage("bye"));
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  } else {
    listen(1000);
  }
})();
