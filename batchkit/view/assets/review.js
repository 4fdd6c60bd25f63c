(() => {
  "use strict";
  const byId = (name) => document.getElementById(name);
  const review = byId("review");
  const begin = byId("begin");
  const fields = Array.from(document.querySelectorAll("fieldset[data-question]"));
  const choices = Array.from(document.querySelectorAll(".choice"));
  const token = document.body.dataset.token;
  const tab = Array.from(crypto.getRandomValues(new Uint8Array(8)), (one) => one.toString(36)).join("");
  const holdEvery = 60000;
  const skipped = new Set();
  const decided = [];
  let reviewer = "";
  let current = null;
  let busy = false;

  // Every choice has a number; first letters that only one label has choose it, too.
  const keys = new Map();
  const letters = new Map();
  choices.forEach((button) => {
    const letter = button.value.slice(0, 1).toLowerCase();
    letters.set(letter, letters.has(letter) ? null : button);
  });
  const taken = new Set(["j", "k", "s", "u", "n"]);
  letters.forEach((button, letter) => {
    if (button && /[a-z]/.test(letter) && !taken.has(letter)) keys.set(letter, button);
  });
  choices.slice(0, 9).forEach((button, place) => {
    keys.set(String(place + 1), button);
  });
  choices.forEach((button, place) => {
    const own = [...(place < 9 ? [String(place + 1)] : []), ...[...keys].filter(([key, one]) => one === button && !/\d/.test(key)).map(([key]) => key)];
    const shown = button.querySelector("kbd");
    shown.textContent = own.join(" ");
    shown.hidden = !own.length;
  });

  const call = async (what, more) => {
    const body = new URLSearchParams({
      name: review.dataset.name,
      all: review.dataset.all,
      reviewer,
      tab,
      ...more,
    });
    const answer = await fetch(`/review/${what}`, {
      method: "POST",
      headers: { "X-Batchkit-Change": token },
      body,
    });
    if (answer.headers.get("content-type")?.startsWith("application/json")) return { ok: answer.ok, ...(await answer.json()) };
    throw new Error((await answer.text()).trim());
  };
  const trouble = (text) => {
    byId("trouble").textContent = text;
  };
  // One call at a time: a key that is pressed too early waits for nothing and does nothing.
  const alone = async (task) => {
    if (busy) return;
    busy = true;
    review.setAttribute("aria-busy", "true");
    try {
      await task();
    } catch (error) {
      trouble(error.message === "Failed to fetch" ? "batchkit view does not answer; nothing was lost: try again" : error.message);
    } finally {
      busy = false;
      review.removeAttribute("aria-busy");
    }
  };
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    made.textContent = text;
    made.dir = "auto";
    if (kind) made.className = kind;
    return made;
  };
  const show = (found) => {
    trouble("");
    current = found.row;
    byId("count").textContent = `${found.done.toLocaleString("en")} decided, ${found.open.toLocaleString("en")} rows in this review`;
    review.hidden = !current;
    byId("end").hidden = Boolean(current);
    if (!current) {
      const left = skipped.size ? ` You skipped ${skipped.size}: reload the page to see them again.` : "";
      byId("ended").textContent = `${found.done.toLocaleString("en")} rows are decided. Others may have some before them.${left}`;
      byId("end").querySelector("h1").focus();
      return;
    }
    byId("row").textContent = `Row ${current.number.toLocaleString("en")}${current.reason ? `: ${current.reason}` : ""}`;
    byId("cells").replaceChildren(
      ...current.cells.flatMap(([name, text]) => [element("dt", name), element("dd", text, "text")]),
    );
    byId("votes").replaceChildren(
      ...current.answers.map(([name, values]) => {
        const line = element("p", "", "vote");
        const said = Object.entries(values).map(([column, text]) => (fields.length > 1 ? `${column}: ${text}` : text));
        line.append(element("span", name, "cut"), " ", element("b", said.join(" · ") || "no valid answer"));
        return line;
      }),
    );
    fields.forEach((field) => {
      const proposed = current.proposed[field.dataset.question];
      field.querySelectorAll(".choice").forEach((button) => {
        button.setAttribute("aria-pressed", String(button.value === proposed));
      });
      const area = field.querySelector("textarea");
      if (area) area.value = proposed || "";
    });
    byId("note").value = current.note || "";
    byId("row").focus({ preventScroll: true });
    scrollTo(0, 0);
  };
  const next = async () => show(await call("next", { skipped: [...skipped].join(",") }));
  const choose = (button) => {
    button
      .closest("fieldset")
      .querySelectorAll(".choice")
      .forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
    // With one question there is nothing more to say.
    if (fields.length === 1) save();
  };
  const save = () =>
    alone(async () => {
      const values = {};
      for (const field of fields) {
        const area = field.querySelector("textarea");
        const value = area ? area.value : field.querySelector('[aria-pressed="true"]')?.value;
        if (value) values[`value.${field.dataset.question}`] = value;
      }
      if (!Object.keys(values).length) {
        trouble("nothing is chosen yet");
        return;
      }
      const number = current.number;
      const answer = await call("decide", { number, note: byId("note").value, ...values });
      if (answer.stored) decided.push(number);
      await next();
      if (!answer.stored) trouble(`row ${number} was not stored: it was before you for too long, and somebody else has it now`);
    });
  const skip = () =>
    alone(async () => {
      skipped.add(current.number);
      await call("skip", { number: current.number });
      await next();
    });
  const undo = () =>
    alone(async () => {
      const number = decided.at(-1);
      if (number === undefined) {
        trouble("there is nothing of yours to take back");
        return;
      }
      if (current) await call("skip", { number: current.number });
      const answer = await call("undo", { number });
      decided.pop();
      if (answer.row) {
        show(answer);
      } else {
        await next();
        trouble(`row ${number} could not be taken back: somebody decided it again`);
      }
    });
  const move = (step) => {
    const at = choices.indexOf(document.activeElement);
    const to = at < 0 ? (step > 0 ? 0 : choices.length - 1) : Math.min(Math.max(at + step, 0), choices.length - 1);
    choices[to]?.focus();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".choice");
    if (button) choose(button);
  });
  byId("decision").addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  byId("skip").addEventListener("click", skip);
  byId("undo").addEventListener("click", undo);
  byId("undo-last").addEventListener("click", undo);
  document.addEventListener("keydown", (event) => {
    if (!reviewer || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (!current && event.key !== "u") return;
    const button = keys.get(event.key.toLowerCase());
    const does = {
      j: () => move(1),
      ArrowDown: () => move(1),
      ArrowRight: () => move(1),
      k: () => move(-1),
      ArrowUp: () => move(-1),
      ArrowLeft: () => move(-1),
      s: skip,
      u: undo,
      n: () => byId("note").focus(),
    }[event.key];
    if (button) {
      event.preventDefault();
      button.focus();
      choose(button);
    } else if (does) {
      event.preventDefault();
      does();
    } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
      event.preventDefault();
      save();
    }
  });
  setInterval(() => {
    if (current && !document.hidden) call("hold", { number: current.number }).catch(() => {});
  }, holdEvery);

  begin.hidden = false;
  byId("reviewer").value = localStorage.getItem("batchkit-reviewer") || "";
  byId("reviewer").focus();
  begin.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("reviewer").value.trim();
    if (!name) return;
    reviewer = name;
    localStorage.setItem("batchkit-reviewer", name);
    begin.hidden = true;
    review.hidden = false;
    alone(next);
  });
})();
