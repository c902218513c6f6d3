"use strict";
{
  const section = document.getElementById("threshold");
  const find = (selector) => section.querySelector(selector);
  const data = JSON.parse(find(".data").textContent);
  const slider = find(".slider"), marker = find(".marker"), form = find(".costs");
  const width = find("svg").viewBox.baseVal.width;
  const PARTS = 1000;
  const hint = "Fill in both costs, in any unit, to see what 1,000 parts cost at each threshold.";

  const set = (selector, text) => {
    const found = find(selector);
    if (found) found.textContent = text;
  };
  const share = (count, of) => `${count} of ${of} = ${((100 * count) / of).toFixed(1)}%`;

  /** Returns the costs that are filled in, or null. */
  function costs() {
    if (!form) return null;
    const [miss, reject, percent] = ["miss", "reject", "share"].map((name) => form.elements[name]);
    const given = [miss, reject, percent].every((field) => field.value !== "" && field.checkValidity());
    return given ? { miss: +miss.value, reject: +reject.value, share: percent.value / 100 } : null;
  }

  /** Returns the expected cost of 1,000 parts at a point. */
  function expected([, falseRejects, misses], price) {
    const missed = price.share * (misses / data.defect) * price.miss;
    return PARTS * (missed + (1 - price.share) * (falseRejects / data.good) * price.reject);
  }

  function cheapest(price) {
    const all = data.points.map((point) => expected(point, price));
    return all.indexOf(Math.min(...all));
  }

  // The threshold in use has many digits; all others have as few as they need.
  function digits(position) {
    const [threshold] = data.points[position];
    return position === data.start ? +threshold.toPrecision(6) : threshold;
  }

  function show() {
    const at = +slider.value, [, falseRejects, misses] = data.points[at];
    const x = (width * at) / Math.max(1, data.points.length - 1);
    marker.setAttribute("x1", x);
    marker.setAttribute("x2", x);
    const shown = digits(at);
    slider.setAttribute("aria-valuetext", shown);
    set(".at", shown);
    set(".false-rejects", share(falseRejects, data.good));
    set(".missed", share(misses, data.defect));
    set(".good-good", data.good - falseRejects);
    set(".good-rejected", falseRejects);
    set(".defect-good", misses);
    set(".defect-rejected", data.defect - misses);
    find(".reset").hidden = at === data.start;
    const price = costs(), button = find(".cheapest");
    if (button) button.hidden = !price;
    if (!price) {
      set(".cost", hint);
      return;
    }
    const best = cheapest(price);
    const now = expected(data.points[at], price), least = expected(data.points[best], price);
    set(".cost", `1,000 parts cost ${+now.toPrecision(4)} at this threshold; the least is `
      + `${+least.toPrecision(4)} at ${digits(best)}.`);
  }

  slider.addEventListener("input", show);
  find(".reset").addEventListener("click", () => {
    slider.value = data.start;
    show();
  });
  if (form) {
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    find(".cheapest").addEventListener("click", () => {
      slider.value = cheapest(costs());
      show();
    });
  }
  document.documentElement.classList.add("script");
  slider.value = data.start;
  show();
}
