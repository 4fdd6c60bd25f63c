(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const table = document.getElementById("rows");
  if (!table) return;
  const search = document.getElementById("search");
  const kind = document.getElementById("kind");
  const found = document.getElementById("found");
  const rows = Array.from(table.tBodies[0].rows, (row) => ({
    row,
    kinds: row.getAttribute("data-kinds").split(" "),
    text: row.textContent.toLowerCase(),
  }));
  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const entry of rows) {
      const fits =
        (!kind.value || entry.kinds.includes(kind.value)) && wanted.every((word) => entry.text.includes(word));
      entry.row.hidden = !fits;
      count += fits ? 1 : 0;
    }
    found.textContent = count === rows.length ? `${count} rows` : `${count} of ${rows.length} rows`;
  };
  search.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search.value = "";
      filter();
    }
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
    }
  });
  table.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const opened = button.parentNode.classList.toggle("whole");
    button.setAttribute("aria-expanded", String(opened));
    button.textContent = opened ? "Less" : "More";
  });
  const long = Array.from(table.querySelectorAll(".long:not(.whole)"), (box) => ({
    body: box.querySelector(".body"),
    button: box.querySelector("button"),
  }));
  const offerMore = () => {
    const shown = long.filter(({ body }) => body.clientHeight && !body.parentNode.classList.contains("whole"));
    const needed = shown.map(({ body }) => body.scrollHeight > body.clientHeight);
    shown.forEach(({ button }, place) => {
      button.hidden = !needed[place];
    });
  };
  addEventListener("resize", offerMore);
  offerMore();
  filter();
})();
