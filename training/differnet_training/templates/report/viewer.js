"use strict";
{
  const viewer = document.querySelector(".viewer");
  const pictures = [...document.querySelectorAll(".view")];
  const stage = viewer.querySelector(".stage");
  let at = 0;

  function show(position) {
    at = (position + pictures.length) % pictures.length;
    const layers = pictures[at].querySelector(".layers");
    stage.replaceChildren(layers.cloneNode(true));
    const caption = pictures[at].closest("figure").querySelector("figcaption");
    viewer.querySelector(".says").textContent = caption.innerText.split("\n").join(" - ");
    for (const name of ["heat", "outline"]) {
      const box = viewer.querySelector(`[name=${name}]`), layer = stage.querySelector(`.${name}`);
      box.closest("label").hidden = !layer;
      if (layer) layer.style.display = box.checked ? "" : "none";
    }
  }

  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  pictures.forEach((one, position) => one.addEventListener("click", () => {
    show(position);
    viewer.showModal();
  }));
  viewer.querySelector(".previous").addEventListener("click", () => show(at - 1));
  viewer.querySelector(".next").addEventListener("click", () => show(at + 1));
  viewer.querySelector(".close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("change", () => show(at));
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key in steps) show(at + steps[event.key]);
  });
}
