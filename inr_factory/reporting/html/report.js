(() => {
  "use strict";
  const orbits = [...document.querySelectorAll(".orbit")];
  const turn = (orbit, by) => {
    const frames = Number(orbit.style.getPropertyValue("--frames"));
    const frame = Number(orbit.dataset.frame || 2) + by;
    orbit.dataset.frame = ((frame % frames) + frames) % frames;
    orbit.style.setProperty("--frame", Math.floor(orbit.dataset.frame));
  };
  let spinning = orbits.length > 0 && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const held = new Set();
  const button = document.getElementById("spin");
  const say = () => { if (button) { button.hidden = false; button.textContent = spinning ? "Stop turning" : "Turn all"; } };
  if (button) button.addEventListener("click", () => { spinning = !spinning; say(); });
  say();
  for (const orbit of orbits) {
    let last = null;
    orbit.addEventListener("pointerdown", (event) => {
      held.add(orbit); last = event.clientX; orbit.setPointerCapture(event.pointerId);
    });
    orbit.addEventListener("pointermove", (event) => {
      if (last === null) return;
      turn(orbit, -(event.clientX - last) / 9); last = event.clientX;
    });
    for (const end of ["pointerup", "pointercancel"]) orbit.addEventListener(end, () => { last = null; });
    orbit.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
      if (by) { held.add(orbit); turn(orbit, by); event.preventDefault(); }
    });
  }
  setInterval(() => {
    if (spinning) for (const orbit of orbits) if (!held.has(orbit)) turn(orbit, 0.5);
  }, 80);

  const maps = document.querySelector(".maps");
  for (const item of document.querySelectorAll(".classes li[data-class]")) {
    const only = (on) => {
      maps.classList.toggle("only", on);
      for (const path of maps.querySelectorAll(".points")) path.classList.toggle("chosen", on && path.dataset.class === item.dataset.class);
    };
    for (const [name, on] of [["pointerenter", true], ["pointerleave", false], ["focus", true], ["blur", false]]) {
      item.addEventListener(name, () => only(on));
    }
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -75% 0px" });
  for (const id of links.keys()) seen.observe(document.getElementById(id));
})();
