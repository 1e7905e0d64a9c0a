(() => {
  "use strict";
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const paint = (dark) => root.setAttribute("data-theme", dark ? "dark" : "light");
  if (!root.hasAttribute("data-theme")) paint(prefersDark.matches);
  prefersDark.addEventListener("change", (event) => paint(event.matches));
  document.getElementById("theme").addEventListener("click", () => paint(root.getAttribute("data-theme") !== "dark"));

  // What a mark says is shown beside the pointer, and stays inside the window.
  const tip = document.getElementById("tip");
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest("[data-t]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("data-t");
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const y = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below;
    tip.style.left = `${Math.max(x, 8)}px`;
    tip.style.top = `${Math.max(y, 8)}px`;
  });
  document.addEventListener("pointerleave", () => { tip.hidden = true; });

  // A key of a legend, pressed, leaves only its own marks in full colour; stages in every chart, others in their own.
  document.querySelectorAll("[data-key]").forEach((button) => {
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const key = button.dataset.key;
      const place = key.startsWith("t-") ? document : button.closest("figure");
      const on = button.getAttribute("aria-pressed") !== "true";
      place.querySelectorAll("[data-key]").forEach((other) => other.setAttribute("aria-pressed", String(on && other === button)));
      const marks = key.startsWith("t-") ? ".term" : ".line, .dot, .whisker";
      place.querySelectorAll(`svg :is(${marks})`).forEach((mark) => mark.classList.toggle("faded", on && !mark.classList.contains(key)));
    });
  });

  const copy = document.getElementById("copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById("command").textContent);
    copy.textContent = "copied";
  });
})();
