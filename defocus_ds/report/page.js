"use strict";
// Scenes, keys and the bar at the foot.
(() => {
  const find = (id) => document.getElementById(id);
  const say = (text) => { find("status").textContent = text; };
  const rowOf = (node) => {
    const owner = node.closest?.("[data-pair]");
    return owner ? review.byName.get(owner.dataset.pair) : null;
  };
  const articleOf = (row) => find(row.dataset.at);

  // Scenes are written out when they come near.
  const scenes = [...document.querySelectorAll(".scene")];
  const rowsIn = new Map(scenes.map((scene) => [scene, []]));
  for (const row of review.rows) rowsIn.get(find(row.dataset.at.replace(/-\w+$/, ""))).push(row);
  const draw = (scene) => {
    const template = scene.querySelector("template");
    if (!template) return;
    template.replaceWith(template.content);
    scene.querySelectorAll(".tile").forEach((tile) => tiles.fill(tile, scene.dataset.folder));
    scene.classList.add("drawn");
    for (const row of rowsIn.get(scene)) paint(row);
    showScene(scene);
  };
  const showScene = (scene) => {
    const rows = rowsIn.get(scene);
    const none = rows.every((row) => row.hidden);
    if (scene.hidden !== none) scene.hidden = none;
    if (!scene.classList.contains("drawn")) return;
    for (const row of rows) articleOf(row).hidden = row.hidden;
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "1200px 0px" });
  scenes.forEach((scene) => near.observe(scene));
  table.onShow(() => {
    scenes.forEach(showScene);
    tellPlace();
  });

  const paint = (row) => {
    const article = articleOf(row);
    if (!article) return;
    const { decision, note } = review.of(row);
    article.dataset.decision = decision;
    for (const button of article.querySelectorAll("[data-do]")) {
      button.setAttribute("aria-pressed", String(button.dataset.do === decision));
    }
    const field = article.querySelector("textarea");
    if (field !== document.activeElement) field.value = note;
    if (row === table.current()) article.setAttribute("aria-current", "true");
    else article.removeAttribute("aria-current");
  };

  // Going from pair to pair.
  const setCurrent = (row) => {
    const before = table.current();
    if (before === row) return;
    table.mark(row);
    if (before) paint(before);
    if (row) paint(row);
    tellPlace();
  };
  const goTo = (row) => {
    draw(find(row.dataset.at.replace(/-\w+$/, "")));
    setCurrent(row);
    table.release(row);
    table.reveal(row);
    const article = articleOf(row);
    article.focus({ preventScroll: true });
    article.scrollIntoView({ block: "start", behavior: "instant" });
  };
  const walk = (step) => {
    const order = table.order(), at = order.indexOf(table.current());
    for (let next = at < 0 && step < 0 ? order.length - 1 : at + step; next >= 0 && next < order.length; next += step) {
      if (!order[next].hidden) return goTo(order[next]);
    }
    say(table.visible().length ? `That was the ${step > 0 ? "last" : "first"} pair.` : "No pair is shown; change the filters.");
  };
  const inView = (node) => {
    const box = node?.getBoundingClientRect();
    return Boolean(box?.height) && box.bottom > 60 && box.top < innerHeight - 60;
  };
  const rowInView = (row) => {
    const frame = row.closest(".scroll").getBoundingClientRect(), box = row.getBoundingClientRect();
    return inView(row) && box.top >= frame.top && box.bottom <= frame.bottom + 1;
  };
  // Keys act on what is seen: a current pair that was scrolled away is not decided by surprise.
  const seen = () => {
    const row = table.current();
    if (row && !row.hidden && (inView(articleOf(row)) || rowInView(row))) return row;
    const offMiddle = (other) => {
      const { top, bottom } = articleOf(other).getBoundingClientRect();
      return Math.max(top - innerHeight / 2, innerHeight / 2 - bottom, 0);
    };
    const [shown] = table.visible().filter((other) => inView(articleOf(other)))
      .sort((one, other) => offMiddle(one) - offMiddle(other));
    if (shown) setCurrent(shown);
    say(shown ? `Now at ${shown.dataset.pair}; press again.` : "Go to a pair first: j, or a click on it.");
    return null;
  };

  // Deciding.
  const decide = (row, decision) => {
    const entry = review.of(row);
    if (decision === "accept" && !review.mayAccept(row)) {
      say(`${row.dataset.pair}: ${review.refusal(row)}.`);
      return;
    }
    const next = entry.decision === decision ? "" : decision;
    setCurrent(row);
    review.change([[row, { ...entry, decision: next }]]);
    say(`${row.dataset.pair}: ${{ accept: "accepted", reject: "rejected", "": "undecided" }[next]}.`);
  };
  const undo = () => {
    const rows = review.undo();
    say(rows.length === 1 ? `${rows[0].dataset.pair}: undone.` : rows.length ? `${rows.length} pairs: undone.` : "Nothing to undo.");
  };
  review.onChange((rows) => {
    rows.forEach(paint);
    tellCounts();
  });
  document.addEventListener("click", (event) => {
    const row = rowOf(event.target);
    if (!row) return;
    const button = event.target.closest("[data-do]");
    if (button) decide(row, button.dataset.do);
    else if (!event.target.closest("a")) setCurrent(row);
  });
  document.addEventListener("focusin", (event) => {
    const row = rowOf(event.target);
    if (row) setCurrent(row);
  });
  document.addEventListener("change", (event) => {
    if (event.target.tagName !== "TEXTAREA") return;
    const row = rowOf(event.target);
    review.change([[row, { ...review.of(row), note: event.target.value.trim() }]]);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName !== "TEXTAREA" || event.isComposing) return;
    if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) {
      event.preventDefault();
      event.target.blur();
      rowOf(event.target) && articleOf(rowOf(event.target)).focus({ preventScroll: true });
    }
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#s']");
    const row = link && rowOf(link);
    if (!row) return;
    event.preventDefault();
    goTo(row);
  });

  // The bar.
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  function tellPlace() {
    const row = table.current(), order = table.visible();
    const at = order.indexOf(row);
    find("place").textContent = row && at >= 0 ? `${at + 1} of ${order.length}: ${row.dataset.pair}` : plural(order.length, "pair");
  }
  function tellCounts() {
    const tally = { accept: 0, reject: 0, open: 0 };
    for (const row of review.rows) {
      const { decision } = review.of(row);
      if (decision) tally[decision] += 1;
      else if (row.dataset.verdict === "keep") tally.open += 1;
    }
    find("counts").textContent = `${tally.accept} accepted, ${tally.reject} rejected, ${tally.open} undecided`
      + (review.isKept() ? "" : ". This browser does not keep decisions for this page: save review.csv before you close it.");
    find("undo").disabled = !review.canUndo();
  }
  find("previous").addEventListener("click", () => walk(-1));
  find("next").addEventListener("click", () => walk(1));
  find("undo").addEventListener("click", undo);
  find("clear").addEventListener("click", () => {
    const count = review.clear();
    say(count ? `${plural(count, "decision")} cleared; Undo brings them back.` : "There are no decisions.");
  });
  find("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([review.text()], { type: "text/csv;charset=utf-8" }));
    link.download = "review.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    review.wasSaved();
    say(`review.csv: ${plural(review.count(), "row")}. Next: ${find("command").textContent}`);
  });
  find("load").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", async () => {
    const [file] = find("file").files;
    find("file").value = "";
    if (!file) return;
    let troubles = [], refused = "it was";
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      const done = review.take(text);
      troubles = done.troubles;
      refused = plural(troubles.length, "decision");
      say(`${file.name}: ${plural(done.rows, "row")} loaded`
        + (done.notes ? `, and of ${done.notes} more the note alone` : "")
        + (done.replaced ? `, ${done.replaced} in place of another decision or note` : "") + (done.changed ? "; Undo takes it back." : "."));
    } catch (error) {
      say("");
      troubles = [error instanceof TypeError ? "it is not text in UTF-8" : error.message];
    }
    const trouble = find("trouble");
    trouble.hidden = troubles.length === 0;
    const list = document.createElement("ul");
    for (const text of troubles.slice(0, 10)) list.append(Object.assign(document.createElement("li"), { textContent: text }));
    if (troubles.length > 10) list.append(Object.assign(document.createElement("li"), { textContent: `and ${troubles.length - 10} more` }));
    const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" });
    close.addEventListener("click", () => { trouble.hidden = true; });
    trouble.replaceChildren(`${file.name}: ${refused} not loaded:`, list, close);
  });
  find("copy").addEventListener("click", async () => {
    const command = find("command");
    getSelection().selectAllChildren(command);
    try {
      await navigator.clipboard.writeText(command.textContent);
    } catch {
      document.execCommand("copy");
    }
    say("Command copied.");
  });

  // What stays at the edges of the screen, to stand above and below it; at the top that is the
  // box of the views, its strip where there is no box, or nothing.
  const foot = document.querySelector(".decisions");
  const heads = [...document.querySelectorAll(".views, .strip")];
  const measure = () => {
    const { style } = document.documentElement;
    const stuck = heads.filter((bar) => getComputedStyle(bar).position === "sticky");
    const top = Math.max(0, ...stuck.map((bar) => bar.offsetHeight));
    style.setProperty("--foot", `${foot.offsetHeight}px`);
    style.setProperty("--strip", `${top}px`);
  };
  const measured = new ResizeObserver(measure);
  for (const bar of [foot, ...heads]) measured.observe(bar);
  addEventListener("resize", measure); // which box stays can change with the height alone

  // Keys.
  const keys = find("keys");
  find("help").addEventListener("click", () => keys.showModal());
  const actions = {
    j: () => walk(1), ArrowRight: () => walk(1), k: () => walk(-1), ArrowLeft: () => walk(-1),
    a: () => { const row = seen(); if (row) decide(row, "accept"); },
    r: () => { const row = seen(); if (row) decide(row, "reject"); },
    n: () => {
      const row = seen();
      if (!row) return;
      if (!inView(articleOf(row))) goTo(row);
      articleOf(row).querySelector("textarea").focus();
    },
    u: undo, b: tiles.blink, "?": () => keys.showModal(), Escape: tiles.stop,
  };
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest?.("input:not([type=radio]):not([type=checkbox]):not([type=range]), textarea, select");
    const arrows = event.key.startsWith("Arrow") && event.target.closest?.("input, .scroll, .histogram");
    if (writing || arrows || keys.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act && !tiles.views.includes(event.key)) return;
    event.preventDefault();
    if (event.repeat && !"jk".includes(event.key) && !event.key.startsWith("Arrow")) return;
    if (act) act();
    else tiles.show(event.key);
  });

  tellCounts();
  table.show();
})();
