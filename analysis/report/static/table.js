"use strict";
/* Sorting, searching and paging of the site's tables. The rows stand in the page; this script only chooses and orders them.
 * What is chosen stands in the address after '#', so that a copied address shows the same. */
(() => {
  const NONE = "–";
  let parameters = new URLSearchParams(location.hash.slice(1));

  /* What the address says; kept here too, since a link to a part of the page replaces it. */
  const state = {
    get: (name) => parameters.get(name),
    all: (name) => parameters.getAll(name),
    set(name, value) {
      parameters.delete(name);
      for (const item of Array.isArray(value) ? value : [value]) {
        if (item !== null && item !== "") parameters.append(name, item);
      }
      const text = parameters.toString();
      history.replaceState(null, "", text ? "#" + text : location.href.split("#")[0]);
    },
  };

  const listeners = [];
  addEventListener("hashchange", () => {
    if (location.hash && !location.hash.includes("=")) return;
    parameters = new URLSearchParams(location.hash.slice(1));
    for (const listener of listeners) listener();
  });

  const number = (text) => {
    const value = parseFloat(text.startsWith("<") ? "0" : text);
    return Number.isNaN(value) ? null : value;
  };

  /* Order of two values, those that are missing last in either direction. */
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return a < b ? -sign : a > b ? sign : 0;
  };

  class DataTable {
    constructor(element) {
      this.element = element;
      this.body = element.tBodies[element.tBodies.length - 1];
      this.rows = [...this.body.rows];
      for (const row of this.rows) row.hidden = false;
      this.names = this.rows.map((row) => row.querySelector("th").textContent.toLowerCase());
      this.pageSize = Number(element.dataset.pageSize) || Infinity;
      this.headings = new Map([...element.tHead.rows[0].cells].map((cell) => [cell.dataset.key, cell]));
      this.pager = document.getElementById("pager");
      this.search = document.getElementById("search");
      this.cache = new Map();
      this.accepts = () => true;
      this.paint = () => {};
      this.addButtons();
      if (this.pager) this.addPager();
      if (this.search) this.search.addEventListener("input", () => this.change("q", this.search.value.trim()));
      listeners.push(() => this.restore());
    }

    /* Value of a row in a column, for sorting; the ranking page puts its own in place. */
    value(index, key) {
      if (!this.cache.has(key)) {
        const heading = this.headings.get(key);
        const read = heading.dataset.type === "number" ? number : (text) => (text === NONE ? null : text.toLowerCase());
        this.cache.set(key, this.rows.map((row) => read(row.cells[heading.cellIndex].textContent.trim())));
      }
      return this.cache.get(key)[index];
    }

    addButtons() {
      for (const [key, heading] of this.headings) {
        if (!heading.dataset.type) continue;
        const button = document.createElement("button");
        button.type = "button";
        button.append(...heading.childNodes);
        button.addEventListener("click", () => this.sortBy(key));
        heading.append(button);
      }
    }

    addPager() {
      const make = (label, step) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = label;
        button.addEventListener("click", () => {
          state.set("page", String(this.page + step));
          this.render();
          this.element.parentElement.scrollTop = 0;
          this.element.scrollIntoView({ block: "nearest" });
        });
        return button;
      };
      this.previous = make("Previous", -1);
      this.next = make("Next", 1);
      this.position = document.createElement("span");
      this.position.setAttribute("role", "status");
      this.pager.append(this.previous, this.next, this.position);
      this.pager.hidden = false;
    }

    sortBy(key) {
      const first = this.headings.get(key).dataset.first || (this.headings.get(key).dataset.type === "text" ? "asc" : "desc");
      const [current, direction] = this.sorting();
      const next = current === key ? (direction === "asc" ? "desc" : "asc") : first;
      this.change("sort", (next === "desc" ? "-" : "") + key);
    }

    /* [key, direction] as the address has it, else as the rows stand. */
    sorting() {
      const text = state.get("sort") || "";
      const key = text.replace(/^-/, "");
      if (this.headings.has(key) && this.headings.get(key).dataset.type) return [key, text.startsWith("-") ? "desc" : "asc"];
      return [this.element.dataset.firstSort || "", "asc"];
    }

    change(name, value) {
      state.set("page", "");
      state.set(name, value);
      this.refresh();
    }

    restore() {
      if (this.search) this.search.value = state.get("q") || "";
      this.refresh();
    }

    /* Choose and order the rows anew. */
    refresh() {
      const query = (state.get("q") || "").toLowerCase();
      const chosen = [];
      for (let index = 0; index < this.rows.length; index++) {
        if (this.names[index].includes(query) && this.accepts(index)) chosen.push(index);
      }
      const [key, direction] = this.sorting();
      if (state.get("sort") || this.alwaysSort) {
        const sign = direction === "asc" ? 1 : -1;
        const values = new Map(chosen.map((index) => [index, this.value(index, key)]));
        chosen.sort((a, b) => compare(values.get(a), values.get(b), sign) || a - b);
      }
      for (const [name, heading] of this.headings) {
        if (name === key && heading.dataset.type) heading.setAttribute("aria-sort", direction + "ending");
        else heading.removeAttribute("aria-sort");
      }
      this.order = chosen;
      this.render();
    }

    get page() {
      const last = Math.max(1, Math.ceil(this.order.length / this.pageSize));
      return Math.min(last, Math.max(1, Math.floor(Number(state.get("page"))) || 1));
    }

    /* Show one page of the chosen rows. */
    render() {
      const start = this.pageSize === Infinity ? 0 : (this.page - 1) * this.pageSize;
      const shown = this.order.slice(start, start + this.pageSize);
      for (const index of shown) this.paint(index);
      this.body.replaceChildren(...(shown.length ? shown.map((index) => this.rows[index]) : [this.emptyRow()]));
      if (!this.pager) return;
      const count = this.order.length.toLocaleString("en");
      this.position.textContent = shown.length ? `${start + 1}–${start + shown.length} of ${count}` : "none of " + this.rows.length;
      this.previous.disabled = start === 0;
      this.next.disabled = start + shown.length >= this.order.length;
    }

    emptyRow() {
      const row = document.createElement("tr");
      row.className = "empty";
      const cell = row.insertCell();
      cell.colSpan = this.headings.size;
      cell.textContent = "No row fits this choice.";
      return row;
    }
  }

  window.startline = { DataTable, state, NONE };
  const element = document.getElementById("table");
  if (element) {
    const table = new DataTable(element);
    window.startline.table = table;
    const controls = document.getElementById("controls");
    if (controls) controls.hidden = false;
    if (!element.classList.contains("ranking")) table.restore();
  }
})();
