(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const byId = (name) => document.getElementById(name);
  const isReview = Boolean(byId("review"));

  // Long texts: five lines and a button.
  const ownRows = byId("kind") ? byId("rows") : null;
  const offerMore = () => {
    const boxes = Array.from(document.querySelectorAll(".long:not(.whole)")).filter((box) => !ownRows?.contains(box));
    const needed = boxes.map((box) => {
      const body = box.querySelector(".body");
      return body.scrollHeight > body.clientHeight;
    });
    boxes.forEach((box, place) => {
      box.querySelector("button").hidden = !needed[place];
    });
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".long > button");
    if (!button || ownRows?.contains(button)) return;
    const opened = button.parentNode.classList.toggle("whole");
    button.setAttribute("aria-expanded", String(opened));
    button.textContent = opened ? "Less" : "More";
  });
  addEventListener("resize", offerMore);
  offerMore();

  // What changed: the server says that something did, and the page reads itself again.
  const status = byId("live");
  const shortest = 1000;
  let known = null;
  let timer = 0;
  let busy = false;
  let again = false;
  let lasted = 0;
  const keepOpen = (before, after) => {
    const opened = Array.from(before.querySelectorAll("details"), (one) => one.open);
    after.querySelectorAll("details").forEach((one, place) => {
      one.open = opened[place] || false;
    });
  };
  const placeIn = (part) => {
    const focused = document.activeElement;
    if (!focused || !part.contains(focused)) return null;
    return { tag: focused.tagName, at: Array.from(part.querySelectorAll(focused.tagName)).indexOf(focused) };
  };
  const replace = (page) => {
    document.querySelectorAll("[data-live]").forEach((part) => {
      const fresh = page.querySelector(`[data-live="${part.dataset.live}"]`);
      if (!fresh || fresh.innerHTML === part.dataset.was || fresh.isEqualNode(part)) return;
      const focus = placeIn(part);
      keepOpen(part, fresh);
      const taken = document.adoptNode(fresh);
      part.replaceWith(taken);
      if (focus) taken.querySelectorAll(focus.tag)[focus.at]?.focus({ preventScroll: true });
    });
    document.title = page.title;
    offerMore();
  };
  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    const began = performance.now();
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const wasError = Boolean(document.querySelector('[data-live="error"]'));
      const isError = Boolean(page.querySelector('[data-live="error"]'));
      if (wasError && !isError) {
        location.reload();
        return;
      }
      if (isError && !wasError) {
        say("away", "the database cannot be read now");
        schedule(2000);
      } else {
        replace(page);
        say("on", "live");
      }
    } catch {
      say("away", "batchkit view does not answer");
    }
    lasted = performance.now() - began;
    busy = false;
    if (again) {
      again = false;
      schedule(0);
    }
  };
  const say = (kind, text) => {
    if (!status || status.textContent === text) return;
    status.className = kind;
    status.textContent = text;
  };
  const schedule = (wait) => {
    clearTimeout(timer);
    // A page that is slow to make is asked for less often.
    timer = setTimeout(refresh, Math.max(wait, 4 * lasted));
  };
  let source = null;
  const connect = () => {
    if (source || document.hidden) return;
    source = new EventSource("/events");
    source.onmessage = (event) => {
      if (event.data === "away") {
        known = null;
        say("away", "the database cannot be read now");
        return;
      }
      say("on", "live");
      if (known !== null && event.data !== known) schedule(known === "" ? 0 : shortest);
      known = event.data;
    };
    source.onerror = () => {
      known = "";
      say("away", "batchkit view does not answer");
    };
  };
  // A browser has few connections to one server, and a hidden page needs none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      source?.close();
      source = null;
      known = "";
    } else {
      connect();
    }
  });
  const isLive = Boolean(document.querySelector("[data-live]"));
  if (isLive && !byId("scan")) connect();

  // A search without an index goes on by itself.
  const scan = async () => {
    let part = byId("found");
    let lines = byId("lines");
    let next = part?.dataset.scan;
    const wanted = 50;
    while (next && (lines?.rows.length || 0) < wanted) {
      const answer = await fetch(next, { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("found");
      if (!fresh) return;
      const more = fresh.querySelector("#lines");
      if (lines && more) {
        more.prepend(...lines.rows);
      } else if (lines) {
        fresh.querySelector("#none")?.replaceWith(lines.closest("table"));
      }
      part.replaceWith(document.adoptNode(fresh));
      part = byId("found");
      lines = byId("lines");
      next = part.dataset.scan;
    }
  };
  if (byId("scan")) scan().catch(() => say("away", "the search stopped: reload the page"));

  // Keys.
  const rows = () => Array.from(document.querySelectorAll("[data-rows] > tr > th a:first-of-type, [data-rows] > tr > th a"));
  const move = (step) => {
    const links = rows().filter((one, place, all) => all.indexOf(one) === place);
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + step, 0), links.length - 1)].focus();
  };
  document.addEventListener("keydown", (event) => {
    if (isReview || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const go = (name) => byId(name)?.click();
    const does = {
      "/": () => byId("search")?.focus(),
      j: () => move(1),
      k: () => move(-1),
      n: () => go("following"),
      p: () => go("previous"),
      h: () => document.querySelector(".home").click(),
    }[event.key];
    if (does) {
      event.preventDefault();
      does();
    }
  });
})();
