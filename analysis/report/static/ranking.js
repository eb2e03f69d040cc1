"use strict";
/* The ranking page: filters, column choice, and averages computed anew over a choice of tasks. */
(() => {
  const { state, table, NONE } = window.startline;
  const data = window.startlineData;
  const SVG = "http://www.w3.org/2000/svg";
  const NARROW = ["noise", "avg", "shrunken", "ranks", "tie", "p", "tasks", "standing", "probe", "seen"];
  const STANDING = ["ok", "repaired", "quarantined", "untested"];
  const unscaled = (values) => values.map((value) => (value === null ? null : value / data.scale));
  const field = (id) => document.getElementById(id);
  const columns = [...table.headings.keys()];
  const place = Object.fromEntries(columns.map((key) => [key, table.headings.get(key).cellIndex]));
  const start = unscaled(data.start);
  const variance = unscaled(data.sd).map((sd) => (sd === null ? null : sd * sd));
  const df = unscaled(data.df);
  const everything = {
    version: 0, nTasks: data.nTasks, rank: data.rank, gain: unscaled(data.gain), noise: unscaled(data.noise), low: unscaled(data.low),
    high: unscaled(data.high), avg: unscaled(data.avg), shrunken: unscaled(data.shrunken), ranks: data.rankLow, ranksTo: data.rankHigh,
    tie: data.tie, p: data.p, start: start.reduce((sum, value) => sum + value, 0) / start.length,
  };
  const probe = unscaled(data.probe);
  let shown = everything;
  let version = 0;

  const points = (value) => (value === null ? NONE : value.toFixed(2));
  const signed = (value) => {
    if (value === null) return NONE;
    const text = value.toFixed(2);
    return Number(text) === 0 ? text.replace("-", "") : value > 0 ? "+" + text : text;
  };
  const pValue = (value) => (value === null ? NONE : value < 0.001 ? "<0.001" : value.toFixed(3));

  /* 97.5 % quantile of Student's t, from its table in even steps of 1/df. */
  const quantile = (freedom) => {
    const steps = data.t.length - 1;
    const at = Math.min(steps / freedom, steps);
    const lower = Math.min(Math.floor(at), steps - 1);
    return data.t[lower] + (data.t[lower + 1] - data.t[lower]) * (at - lower);
  };
  window.startline.quantile = quantile;

  /* Average gain of one base model over the chosen tasks, by the formulas of analysis/noise.py. Sums are of whole numbers, so that
   * equal gains are equal. */
  const average = (index, chosen) => {
    const scores = data.scores[index];
    let [count, gain, score, sum, squares] = [0, 0, 0, 0, 0];
    for (const task of scores === null ? [] : chosen) {
      if (scores[task] === null) continue;
      const seeds = data.seeds === null ? 1 : data.seeds[index][task];
      count += 1;
      gain += scores[task] - data.start[task];
      score += scores[task];
      const term = variance[task] === null ? NaN : variance[task] * (1 / seeds + 1 / data.startSeeds[task]);
      sum += term;
      squares += (term * term) / df[task];
    }
    if (!count) return null;
    const noise = Number.isNaN(sum) ? null : Math.sqrt(sum) / count;
    const half = noise === null ? null : sum > 0 ? quantile((sum * sum) / squares) * noise : 0;
    return { count, gain: gain / count / data.scale, avg: score / count / data.scale, noise, half };
  };

  const aggregate = (chosen) => {
    const n = data.name.length;
    const empty = () => new Array(n).fill(null);
    const result = {
      version: ++version, nTasks: new Array(n).fill(0), rank: empty(), gain: empty(), noise: empty(), low: empty(), high: empty(),
      avg: empty(), shrunken: empty(), ranks: empty(), ranksTo: empty(), tie: empty(), p: empty(),
      start: chosen.reduce((sum, task) => sum + start[task], 0) / chosen.length,
    };
    const complete = [];
    for (let index = 0; index < n; index++) {
      const found = average(index, chosen);
      if (!found) continue;
      result.nTasks[index] = found.count;
      result.gain[index] = found.gain;
      result.avg[index] = found.avg;
      result.noise[index] = found.noise;
      result.low[index] = found.half === null ? null : found.gain - found.half;
      result.high[index] = found.half === null ? null : found.gain + found.half;
      if (found.count === chosen.length && data.standing[index] !== "quarantined") complete.push(index);
    }
    complete.sort((a, b) => result.gain[b] - result.gain[a]);
    complete.forEach((index, at) => {
      const before = complete[at - 1];
      result.rank[index] = at && result.gain[before] === result.gain[index] ? result.rank[before] : at + 1;
    });
    return result;
  };

  /* Ends of the interval bars: all of the gains, but not more than twice as far down as up. */
  const span = () => {
    let [low, high] = [0, 0];
    shown.rank.forEach((rank, index) => {
      if (rank === null || shown.low[index] === null) return;
      low = Math.min(low, shown.low[index]);
      high = Math.max(high, shown.high[index]);
    });
    return [Math.max(low, -2 * Math.max(high, 1)), Math.max(high, 1)];
  };
  let [spanLow, spanHigh] = [-1, 1];

  const drawing = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  const intervalBar = (index) => {
    const x = (value) => Math.round((2000 * (Math.min(Math.max(value, spanLow), spanHigh) - spanLow)) / (spanHigh - spanLow)) / 10;
    const [low, high, gain] = [shown.low[index], shown.high[index], shown.gain[index]];
    const picture = drawing("svg", { viewBox: "0 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" });
    picture.append(
      drawing("path", { class: "zero", d: `M${x(0)} 0V16` }),
      drawing("path", { class: "whisker", d: `M${x(low)} 8H${x(high)}M${x(low)} 4V12M${x(high)} 4V12` }),
      drawing("path", { class: "mean " + (low > 0 ? "up" : high < 0 ? "down" : ""), d: `M${x(gain)} 2V14` }),
    );
    return picture;
  };

  const painted = new Map();
  table.paint = (index) => {
    if (painted.get(index) === shown.version) return;
    painted.set(index, shown.version);
    const cells = table.rows[index].cells;
    const write = (key, text) => {
      cells[place[key]].textContent = text;
    };
    const interval = cells[place.interval];
    if (shown.low[index] === null) interval.textContent = NONE;
    else {
      const text = document.createElement("span");
      text.className = "text";
      text.textContent = `${signed(shown.low[index])} to ${signed(shown.high[index])}`;
      interval.replaceChildren(text, intervalBar(index));
    }
    if (shown.version === 0 && !everPainted) return;
    write("rank", shown.rank[index] ?? NONE);
    write("gain", signed(shown.gain[index]));
    write("noise", points(shown.noise[index]));
    write("avg", points(shown.avg[index]));
    write("shrunken", signed(shown.shrunken[index]));
    const [best, worst] = [shown.ranks[index], shown.ranksTo[index]];
    write("ranks", best === null ? NONE : best === worst ? best : `${best}–${worst}`);
    write("tie", shown.tie[index] ?? NONE);
    write("p", pValue(shown.p[index]));
    write("tasks", shown.nTasks[index]);
  };
  /* As long as nothing was computed here, the numbers in the page are the right ones. */
  let everPainted = false;

  const seen = (index) => (data.seen[index] === null ? "unknown" : data.seen[index] ? "yes" : "no");
  table.value = (index, key) => {
    if (key === "name") return table.names[index];
    if (key === "interval") return shown.low[index];
    if (key === "tasks") return shown.nTasks[index];
    if (key === "probe") return probe[index];
    if (key === "standing") return STANDING.indexOf(data.standing[index]);
    if (key === "seen") return seen(index) === "unknown" ? null : seen(index);
    return shown[key][index];
  };

  const boxes = (name) => [...document.querySelectorAll(`input[name="${name}"]`)];
  const checked = (name) => boxes(name).filter((box) => box.checked).map((box) => box.value);

  const chosenTasks = () => {
    const group = state.get("group") || "all";
    if (group === "own") return state.all("t").map((task) => data.tasks.indexOf(task)).filter((task) => task >= 0);
    return Object.hasOwn(data.groups, group) ? data.groups[group] : data.tasks.map((_, task) => task);
  };

  const applyTasks = () => {
    const chosen = chosenTasks();
    const all = chosen.length === data.tasks.length || !chosen.length;
    shown = all ? everything : aggregate(chosen);
    everPainted = everPainted || !all;
    [spanLow, spanHigh] = span();
    field("start").textContent = points(shown.start);
    field("start-tasks").textContent = all ? data.tasks.length : chosen.length;
    for (const box of boxes("task")) box.checked = chosen.includes(Number(box.value));
    field("scope").hidden = all;
    field("scope").textContent = all ? "" : `Averages over ${chosen.length} of ${data.tasks.length} tasks, computed here; a base model needs all of them for a rank.`;
    table.alwaysSort = !all;
  };

  const applyFilters = () => {
    const n = chosenTasks().length || data.tasks.length;
    const needed = { 0: 0, 1: 1, half: n / 2, full: n }[state.get("cover") || "0"] ?? 0;
    const standings = new Set(state.get("standing") === null ? STANDING : state.get("standing").split("."));
    const wanted = state.get("seen") || "any";
    table.accepts = (index) => shown.nTasks[index] >= needed && standings.has(data.standing[index]) && (wanted === "any" || seen(index) === wanted);
  };

  const hidden = () => {
    const text = state.get("hide");
    if (text !== null) return text.split(".");
    if (matchMedia("(max-width: 640px)").matches) return NARROW;
    const empty = data.seen.every((value) => value === null) ? ["seen"] : [];
    return matchMedia("(max-width: 1450px)").matches ? ["noise", ...empty] : empty;
  };
  const applyColumns = () => {
    const without = hidden();
    columns.forEach((key, at) => table.element.classList.toggle("no-" + (at + 1), key !== "name" && without.includes(key)));
    for (const box of boxes("column")) box.checked = !without.includes(box.value);
  };

  const restoreControls = () => {
    const choose = (id, value, fallback) => {
      field(id).value = value;
      if (field(id).selectedIndex < 0) field(id).value = fallback;
    };
    choose("group", state.get("group") || "all", "all");
    choose("coverage", state.get("cover") || "0", "0");
    choose("seen", state.get("seen") || "any", "any");
    const standings = state.get("standing");
    for (const box of boxes("standing")) box.checked = standings === null || standings.split(".").includes(box.value);
  };

  table.restore = () => {
    table.search.value = state.get("q") || "";
    restoreControls();
    applyTasks();
    applyFilters();
    applyColumns();
    table.refresh();
  };

  const listen = () => {
    for (const key of columns) {
      if (key === "name") continue;
      const label = document.createElement("label");
      const box = document.createElement("input");
      Object.assign(box, { type: "checkbox", name: "column", value: key });
      label.append(box, " " + table.headings.get(key).textContent);
      field("columns").append(label);
    }
    const update = (name, value) => {
      state.set("page", "");
      state.set(name, value);
      table.restore();
    };
    field("group").addEventListener("change", () => {
      const group = field("group").value;
      state.set("t", group === "own" ? chosenTasks().map((task) => data.tasks[task]) : "");
      update("group", group === "all" ? "" : group);
      if (group === "own") field("own").open = true;
    });
    field("coverage").addEventListener("change", () => update("cover", field("coverage").value === "0" ? "" : field("coverage").value));
    field("seen").addEventListener("change", () => update("seen", field("seen").value === "any" ? "" : field("seen").value));
    for (const box of boxes("standing")) {
      box.addEventListener("change", () => update("standing", checked("standing").length === STANDING.length ? "" : checked("standing").join(".") || "none"));
    }
    for (const box of boxes("task")) {
      box.addEventListener("change", () => {
        state.set("t", checked("task").map((task) => data.tasks[task]));
        update("group", "own");
      });
    }
    for (const box of boxes("column")) {
      box.addEventListener("change", () => {
        const kept = checked("column");
        state.set("hide", columns.filter((key) => key !== "name" && !kept.includes(key)).join(".") || "none");
        applyColumns();
      });
    }
    field("reset").addEventListener("click", () => {
      for (const name of ["q", "sort", "page", "group", "t", "cover", "seen", "standing", "hide"]) state.set(name, "");
      table.restore();
      table.search.focus();
    });
  };

  field("more").open = !matchMedia("(max-width: 640px)").matches;
  listen();
  table.restore();
})();
