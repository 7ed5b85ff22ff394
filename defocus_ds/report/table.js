"use strict";
// The table: its order, its filters, and the bars that select pairs.
const table = (() => {
  const element = document.getElementById("table");
  const body = element.tBodies[0];
  const heads = [...element.tHead.rows[0].cells];
  const find = (id) => document.getElementById(id);
  const filters = { text: find("filter"), level: find("by-level"), verdict: find("by-verdict"), decision: find("by-decision") };
  const undecided = find("undecided");
  const bars = [...document.querySelectorAll(".bin")];
  const pressed = new Set();
  const listeners = [];
  let current = null;
  let held = null; // the current pair stays while it is worked on, though a filter drops it

  // Sorting: numbers by data-sort, texts by what is shown; rows without a figure stay last.
  const keyOf = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const sortBy = (column) => {
    const head = heads[column];
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const entries = [...body.rows].map((row, index) => ({ row, index, key: keyOf(row, column) }));
    entries.sort((a, b) => {
      if ((a.key === "") !== (b.key === "")) return a.key === "" ? 1 : -1;
      const x = Number(a.key), y = Number(b.key);
      const order = Number.isNaN(x) || Number.isNaN(y)
        ? a.key.localeCompare(b.key, undefined, { numeric: true }) : x - y;
      return order === 0 ? a.index - b.index : rising ? order : -order;
    });
    body.append(...entries.map((entry) => entry.row));
    show();
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column)));

  const order = () => [...body.rows];
  const visible = () => order().filter((row) => !row.hidden);

  const decisionFits = (row, wanted) => {
    const { decision, note } = review.of(row);
    if (wanted === "none") return decision === "";
    return wanted === "note" ? note.trim() !== "" : !wanted || decision === wanted;
  };
  const texts = new Map(review.rows.map((row) =>
    [row, `${row.dataset.pair} ${row.dataset.verdict} ${row.cells[row.cells.length - 1].textContent} `.toLowerCase()]));
  const textOf = (row) => texts.get(row) + review.of(row).note.toLowerCase();
  const show = () => {
    const words = filters.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const picked = pressed.size && new Set([...pressed].flatMap((bar) => bar.dataset.rows.split(" ").map((n) => review.rows[n])));
    let count = 0;
    for (const row of body.rows) {
      const fits = words.every((word) => textOf(row).includes(word))
        && (!filters.level.value || row.dataset.level === filters.level.value)
        && (!filters.verdict.value || row.dataset.verdict === filters.verdict.value)
        && decisionFits(row, filters.decision.value)
        && (!undecided.checked || row.dataset.verdict === "keep")
        && (!picked || picked.has(row));
      const hidden = !fits && row !== held;
      if (row.hidden !== hidden) row.hidden = hidden;
      count += row.hidden ? 0 : 1;
    }
    const all = count === body.rows.length && !pressed.size;
    find("unfilter").hidden = all && !Object.values(filters).some((input) => input.value);
    const names = [...pressed].map((bar) => bar.getAttribute("aria-label"));
    const chosen = names.length ? `: ${names.join("; ")}` : "";
    find("shown").textContent = all ? "" : `${count || "No pair fits; 0"} of ${body.rows.length}${chosen}`;
    listeners.forEach((listener) => listener());
  };
  const showFresh = () => {
    held = null;
    show();
  };
  for (const input of Object.values(filters)) input.addEventListener("input", showFresh);
  // "only undecided": what the build keeps and nobody has decided
  undecided.addEventListener("input", () => {
    filters.decision.value = undecided.checked ? "none" : "";
    showFresh();
  });
  filters.decision.addEventListener("input", () => {
    undecided.checked = false;
    showFresh();
  });
  const press = (bar, add) => {
    const was = pressed.has(bar);
    if (!add) pressed.clear();
    if (was) pressed.delete(bar);
    else pressed.add(bar);
    for (const other of bars) other.setAttribute("aria-pressed", String(pressed.has(other)));
    showFresh();
  };
  find("unfilter").addEventListener("click", () => {
    for (const input of Object.values(filters)) input.value = "";
    undecided.checked = false;
    pressed.clear();
    for (const bar of bars) bar.setAttribute("aria-pressed", "false");
    showFresh();
    document.querySelector("#pairs .scroll")?.focus({ preventScroll: true }); // where keys decide
  });
  filters.text.addEventListener("keydown", (event) => {
    if (["Enter", "Escape"].includes(event.key)) filters.text.blur();
  });

  // One tab stop a chart; arrows go between its bars.
  for (const chart of document.querySelectorAll(".histogram")) {
    const own = [...chart.querySelectorAll(".bin")];
    if (own.length) own[0].setAttribute("tabindex", "0");
    const focus = (bar) => {
      for (const other of own) other.setAttribute("tabindex", other === bar ? "0" : "-1");
      bar.focus();
    };
    chart.addEventListener("click", (event) => {
      const bar = event.target.closest(".bin");
      if (!bar) return;
      focus(bar);
      press(bar, event.shiftKey);
    });
    chart.addEventListener("keydown", (event) => {
      const at = own.indexOf(event.target.closest(".bin"));
      if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) focus(own[Math.min(Math.max(at + step, 0), own.length - 1)]);
      else if (event.key === "Enter" || event.key === " ") press(own[at], event.shiftKey);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  const mark = (row) => {
    current?.removeAttribute("aria-current");
    current = row;
    current?.setAttribute("aria-current", "true");
  };
  // Into view inside the table's own frame; the page does not move.
  const reveal = (row) => {
    const frame = element.parentElement;
    const head = element.tHead.offsetHeight;
    const top = row.offsetTop - head, bottom = row.offsetTop + row.offsetHeight - frame.clientHeight;
    frame.scrollTop = Math.min(Math.max(frame.scrollTop, bottom), top);
  };

  const paint = (row) => {
    const { decision, note } = review.of(row);
    const cell = row.querySelector(".decide");
    cell.dataset.sort = decision;
    row.dataset.decision = decision;
    for (const button of cell.querySelectorAll("[data-do]")) {
      button.setAttribute("aria-pressed", String(button.dataset.do === decision));
    }
    const said = cell.querySelector(".said");
    said.textContent = note;
    said.hidden = note.trim() === "";
  };
  review.rows.forEach(paint);
  review.onChange((rows) => {
    rows.forEach(paint);
    held = current;
    show();
  });

  return {
    order, visible, show, mark, reveal,
    current: () => current,
    // the pair that was held is left: it goes, if a filter dropped it
    release: (next) => {
      if (!held || held === next) return;
      held = null;
      show();
    },
    onShow: (listener) => listeners.push(listener),
  };
})();
