"use strict";
// What was decided of each pair: kept by the browser, undone, saved and loaded.
const review = (() => {
  const NONE = Object.freeze({ decision: "", note: "" });
  const rows = [...document.querySelectorAll("#table tbody tr")];
  const byName = new Map(rows.map((row) => [row.dataset.pair, row]));
  const dataset = document.body.dataset;
  const place = `defocus-ds review ${dataset.dataset} ${dataset.config}`;
  // A pair of the same name in another dataset, or built anew, has other pixels.
  const keyOf = (row) => `${row.dataset.pair}@${row.dataset.made}`;

  let decided = new Map(); // row -> {decision, note}
  let others = {}; // what the browser keeps of other pixels, left as it is
  let undone = []; // [[row, before], ...] of each change, the latest last
  let works = true;
  let saved = true;
  const listeners = [];

  const of = (row) => decided.get(row) ?? NONE;
  const empty = (entry) => !entry.decision && !entry.note.trim();
  const mayAccept = (row) => !row.querySelector("[data-do=accept]").disabled;
  const refusal = (row) => row.querySelector("[data-do=accept]").title;

  const load = () => {
    decided = new Map();
    others = {};
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(place) ?? "{}");
      localStorage.setItem(place, JSON.stringify(kept));
    } catch {
      works = false;
    }
    const known = new Map(rows.map((row) => [keyOf(row), row]));
    for (const [key, entry] of Object.entries(kept ?? {})) {
      const row = known.get(key);
      if (!row) others[key] = entry;
      else if (typeof entry?.note === "string" && ["accept", "reject", ""].includes(entry.decision)) {
        if (entry.decision !== "accept" || mayAccept(row)) decided.set(row, { decision: entry.decision, note: entry.note });
      }
    }
  };
  const keep = () => {
    const kept = { ...others };
    for (const [row, entry] of decided) kept[keyOf(row)] = entry;
    try {
      localStorage.setItem(place, JSON.stringify(kept));
      works = true;
    } catch {
      works = false;
    }
  };

  // Changes: [[row, {decision, note}], ...], undone together.
  const change = (changes) => {
    const real = changes.filter(([row, entry]) => of(row).decision !== entry.decision || of(row).note !== entry.note);
    if (!real.length) return 0;
    undone.push(real.map(([row]) => [row, of(row)]));
    apply(real);
    return real.length;
  };
  const apply = (changes) => {
    for (const [row, entry] of changes) {
      if (empty(entry)) decided.delete(row);
      else decided.set(row, Object.freeze({ ...entry }));
    }
    saved = false;
    keep();
    tell(changes.map(([row]) => row));
  };
  const tell = (changed) => listeners.forEach((listener) => listener(changed));

  const undo = () => {
    const before = undone.pop();
    if (before) apply(before);
    return before?.map(([row]) => row) ?? [];
  };

  const text = () => csv.format(rows.filter((row) => decided.has(row)).map((row) =>
    [row.dataset.scene, row.dataset.level, of(row).decision, of(row).note, row.dataset.made]));

  // Rows of a review.csv that are about this dataset are taken, the others are said.  What a row
  // leaves empty stays as it was; of a row about other pixels only the note is taken.
  const take = (content) => {
    const changes = [], troubles = [], seen = new Set();
    let notes = 0;
    for (const { line, cells: [scene, level, decision, note = "", made = ""] } of csv.read(content)) {
      const name = `${scene}/${level}`;
      const row = byName.get(name);
      const trouble = !row ? `${name} is not in this dataset`
        : seen.has(name) ? `${name} is there twice`
        : !["accept", "reject", ""].includes(decision) ? `${name}: decision "${decision}", need accept, reject or nothing`
        : made && made !== row.dataset.made && decision ? `${name} was decided about another image; look at it again`
        : decision === "accept" && !mayAccept(row) ? `${name} cannot be accepted: ${refusal(row)}`
        : null;
      const first = row && !seen.has(name);
      seen.add(name);
      if (trouble) troubles.push(`line ${line}: ${trouble}`);
      if (first && (!trouble || note)) {
        const now = of(row);
        if (trouble) notes += 1;
        changes.push([row, { decision: (!trouble && decision) || now.decision, note: note || now.note }]);
      }
    }
    const other = (before, after) => before && before !== after;
    const replaced = changes.filter(([row, entry]) => other(of(row).decision, entry.decision) || other(of(row).note, entry.note)).length;
    return { rows: changes.length - notes, notes, changed: change(changes), replaced, troubles };
  };

  load();
  addEventListener("storage", (event) => {
    if (event.key !== place) return;
    load();
    undone = [];
    tell(rows);
  });
  addEventListener("beforeunload", (event) => {
    if (!works && !saved) event.preventDefault();
  });
  return {
    rows, byName, of, change, undo, text, take, mayAccept, refusal,
    count: () => decided.size,
    canUndo: () => undone.length > 0,
    isKept: () => works,
    wasSaved: () => { saved = true; },
    clear: () => change([...decided.keys()].map((row) => [row, NONE])),
    onChange: (listener) => listeners.push(listener),
  };
})();
