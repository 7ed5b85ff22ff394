"use strict";
(() => {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  // Sorting: numbers by data-sort, texts by what is shown; rows without a figure stay last.
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent;
  };
  const sortBy = (column) => {
    const head = heads[column];
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...body.rows].map((row, index) => ({ row, index, key: keyOf(row, column) }));
    rows.sort((a, b) => {
      if ((a.key === "") !== (b.key === "")) return a.key === "" ? 1 : -1;
      const x = Number(a.key), y = Number(b.key);
      const order = Number.isNaN(x) || Number.isNaN(y)
        ? a.key.localeCompare(b.key, undefined, { numeric: true }) : x - y;
      return order === 0 ? a.index - b.index : rising ? order : -order;
    });
    body.append(...rows.map((entry) => entry.row));
  };
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => sortBy(column)));

  // Filter: every word must occur in the row.
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const applyFilter = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = words.length ? `${count} of ${body.rows.length}` : "";
  };
  filter.addEventListener("input", applyFilter);

  // Tiles.
  const applyView = () => {
    document.body.dataset.view = document.querySelector("input[name=view]:checked").value;
  };
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", applyView);
  applyView();
  document.addEventListener("input", (event) => {
    const tile = event.target.type === "range" && event.target.closest(".tile");
    if (tile) tile.style.setProperty("--split", `${event.target.value}%`);
  });

  // Decisions are kept by the browser, for this page, until cleared.
  const store = `defocus-ds review ${document.body.dataset.dataset} ${location.pathname}`;
  const boxes = [...document.querySelectorAll("input[data-pair]")];
  const panel = document.querySelector(".decisions");
  const quote = (text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const showDecisions = () => {
    const out = boxes.filter((box) => box.checked).map((box) => box.dataset.pair);
    for (const box of boxes) box.closest("tr").classList.toggle("out", box.checked);
    panel.hidden = out.length === 0;
    document.getElementById("decided").textContent = `${out.length} pair${out.length === 1 ? "" : "s"}`;
    document.getElementById("command").value =
      `defocus-ds build SHOOT -o ${quote(document.body.dataset.dataset)} ` +
      out.map((pair) => `--skip ${quote(pair)}`).join(" ");
    try { localStorage.setItem(store, JSON.stringify(out)); } catch { /* private mode */ }
  };
  try {
    const kept = localStorage.getItem(store);
    const out = new Set(JSON.parse(kept ?? "[]"));
    // what was skipped before stays skipped until a person says otherwise
    for (const box of boxes) box.checked = kept === null ? "skipped" in box.dataset : out.has(box.dataset.pair);
  } catch { /* nothing kept */ }
  for (const box of boxes) box.addEventListener("change", showDecisions);
  document.getElementById("clear").addEventListener("click", () => {
    for (const box of boxes) box.checked = false;
    showDecisions();
  });
  document.getElementById("copy").addEventListener("click", async () => {
    const command = document.getElementById("command");
    command.select();
    try { await navigator.clipboard.writeText(command.value); } catch { document.execCommand("copy"); }
  });
  showDecisions();
})();
