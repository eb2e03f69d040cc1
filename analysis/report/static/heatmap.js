"use strict";
/* The heat map can be shown without its numbers, to see more of it at once. */
(() => {
  const { state, table } = window.startline;
  const numbers = document.getElementById("numbers");
  const show = () => {
    numbers.checked = state.get("numbers") !== "no";
    table.element.classList.toggle("compact", !numbers.checked);
  };
  numbers.addEventListener("change", () => {
    state.set("numbers", numbers.checked ? "" : "no");
    show();
  });
  addEventListener("hashchange", show);
  show();
})();
