// What a page gains with scripts: it keeps itself up to date and counts down. Everything works without.
"use strict";
(() => {
  const body = document.body;
  const page = body.dataset.page;

  // A form is sent once: a second tap would only use up a code.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
  });
  const alert = document.querySelector("main [role=alert]");
  if (alert) {
    alert.tabIndex = -1;
    alert.focus();
  }
  if (!page) return;

  // Counted by the server's clock, whatever this machine's says.
  const ahead = Date.now() - Number(body.dataset.now || Date.now());
  const left = (ms) => {
    const s = Math.floor(ms / 1000);
    if (s <= 0) return "expired";
    if (s < 60) return `${s} s left`;
    const two = (n) => String(n).padStart(2, "0");
    if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s left`;
    return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min left`;
  };
  const count = () => {
    document.querySelectorAll("[data-until]").forEach((element) => {
      const text = left(Number(element.dataset.until) - (Date.now() - ahead));
      if (element.textContent !== text) element.textContent = text;
    });
  };

  const announce = (text) => {
    const place = document.getElementById("announce");
    if (place) place.textContent = text;
  };
  const title = document.title;
  let waiting = null;
  const seeApprovals = () => {
    if (page !== "desk") return;
    const ids = [...document.querySelectorAll("[data-request]")].map((element) => element.dataset.request);
    document.title = ids.length ? `(${ids.length}) ${title}` : title;
    const fresh = waiting && ids.filter((id) => !waiting.includes(id)).length;
    if (fresh) announce(`${fresh} new approval request${fresh === 1 ? "" : "s"}, ${ids.length} waiting`);
    waiting = ids;
  };

  const put = ({ id, html }) => {
    const place = document.getElementById(id);
    if (!place) return;
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const before = document.createElement("template");
    before.innerHTML = place.innerHTML;
    if (before.innerHTML === fresh.innerHTML) return;
    const focused = place.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && focused.dataset.key;
    const scrolled = [...place.querySelectorAll(".says")].map((element) => element.scrollTop);
    place.replaceChildren(fresh.content);
    place.querySelectorAll(".says").forEach((element, at) => { element.scrollTop = scrolled[at] || 0; });
    if (key) {
      const again = [...place.querySelectorAll("[data-key]")].find((element) => element.dataset.key === key);
      if (again) again.focus();
    }
    const status = place.querySelector("[data-status]");
    if (id === "request-state" && status) see(status.dataset.status);
    seeApprovals();
    count();
  };

  // Forms of a request that was decided elsewhere are of no use any more.
  let seen = null;
  const see = (status) => {
    if (seen && status !== seen) {
      document.querySelectorAll(".decisions button").forEach((button) => { button.disabled = true; });
      announce("This request has changed: " + status + ". Load the page again.");
    }
    seen = status;
  };
  const now = document.querySelector("#request-state [data-status]");
  if (now) see(now.dataset.status);

  const stale = document.getElementById("stale");
  let late = 0;
  const lost = (is) => {
    clearTimeout(late);
    if (!is) stale.hidden = true;
    else late = setTimeout(() => { stale.hidden = false; }, 3000);
  };
  let source = null;
  let again = 0;
  const open = () => {
    clearTimeout(again);
    const query = new URLSearchParams({ page, id: body.dataset.id || "" });
    source = new EventSource(`/events?${query}`);
    source.addEventListener("open", () => lost(false));
    source.addEventListener("part", (event) => put(JSON.parse(event.data)));
    source.addEventListener("gone", () => { source.close(); location.assign("/login"); });
    source.addEventListener("error", () => {
      lost(true);
      if (source.readyState !== EventSource.CLOSED) return;
      // Refused: the browser does not try again by itself. Maybe nobody is logged in any more.
      fetch("/stop", { redirect: "manual" })
        .then((answer) => { if (answer.type === "opaqueredirect") location.assign("/login"); })
        .catch(() => {});
      again = setTimeout(open, 3000);
    });
  };
  open();
  // A page that the browser keeps for the way back must not keep its stream: a browser opens only six connections.
  window.addEventListener("pagehide", () => {
    clearTimeout(again);
    source.close();
  });
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  seeApprovals();
  count();
  setInterval(count, 1000);
})();
