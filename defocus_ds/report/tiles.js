"use strict";
// Tiles: what they show, the slider, and blinking.
const tiles = (() => {
  const find = (id) => document.getElementById(id);
  const page = document.body;
  const views = [...document.querySelectorAll("input[name=view]")];
  const applyView = () => { page.dataset.view = views.find((view) => view.checked).value; };
  for (const view of views) view.addEventListener("change", applyView);
  applyView();
  document.addEventListener("input", (event) => {
    const tile = event.target.type === "range" && event.target.closest(".tile");
    if (!tile) return;
    stop();
    tile.style.setProperty("--split", `${event.target.value}%`);
  });

  // Blinking: two changes a second; by hand for who wants no motion.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const BLINK_MS = 500;
  let timer = 0;
  const flip = () => { page.dataset.blink = page.dataset.blink === "sharp" ? "blurred" : "sharp"; };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    delete page.dataset.blink;
    find("blink").setAttribute("aria-pressed", "false");
  };
  const blink = () => {
    if (timer) return stop();
    find("blink").setAttribute("aria-pressed", "true");
    flip();
    if (!still.matches) timer = setInterval(flip, BLINK_MS);
    return undefined;
  };
  still.addEventListener("change", () => { if (timer) stop(); });
  find("blink").addEventListener("click", blink);

  // A tile of the page names its files; the rest is the same in all of them.
  const fill = (tile, folder) => {
    const parts = find("tile").content.cloneNode(true);
    const files = tile.dataset.files.split(" ");
    parts.querySelectorAll(".layer").forEach((layer, index) => {
      if (files[index] === "-") layer.remove();
      else layer.firstChild.src = `${folder}/${files[index]}`;
    });
    parts.querySelector("input").setAttribute("aria-label", `Slide, ${tile.dataset.label}`);
    tile.prepend(parts);
  };

  return {
    fill, blink, stop,
    views: views.map((_, index) => String(index + 1)), // their keys
    show: (key) => {
      views[Number(key) - 1].checked = true;
      applyView();
    },
  };
})();
