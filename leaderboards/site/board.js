"use strict";
// The page is complete without this script; it adds sorting, filtering, the choice of lens and reading values off the curves.

for (const table of document.querySelectorAll(".workload table")) {
  for (const head of table.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, head));
  }
}

function sortBy(table, head) {
  const column = [...head.parentNode.children].indexOf(head);
  const other = { ascending: "descending", descending: "ascending" };
  const direction = head.ariaSort ? other[head.ariaSort] : head.dataset.first || "ascending";
  for (const cell of head.parentNode.children) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const value = (row) => row.children[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === ""); // missing values stay below, whichever way
    return sign * (head.dataset.sort === "number" ? Number(x) - Number(y) : x.localeCompare(y));
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

document.getElementById("filter")?.addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll(".workload")) {
    const hidden = new Set();
    for (const row of section.querySelectorAll("tbody tr")) {
      row.hidden = !words.every((word) => row.dataset.filter.includes(word));
      if (row.hidden) hidden.add(row.dataset.series);
    }
    for (const series of section.querySelectorAll(".series")) series.toggleAttribute("hidden", hidden.has(series.dataset.series));
  }
});

for (const figure of document.querySelectorAll(".curves")) {
  const section = figure.closest("section");
  const buttons = figure.querySelectorAll("button[data-lens]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      for (const plot of figure.querySelectorAll(".plot")) plot.hidden = plot.dataset.lens !== button.dataset.lens;
    });
  }
  for (const row of section.querySelectorAll("tbody tr")) {
    row.addEventListener("pointerenter", () => focusOn(section, figure, row.dataset.series));
    row.addEventListener("pointerleave", () => focusOn(section, figure, figure.dataset.pinned ?? null));
    row.addEventListener("click", () => {
      const pinned = figure.dataset.pinned === row.dataset.series; // a second click lets go
      if (pinned) delete figure.dataset.pinned;
      else figure.dataset.pinned = row.dataset.series;
      focusOn(section, figure, pinned ? null : row.dataset.series);
    });
  }
  for (const plot of figure.querySelectorAll(".plot")) readable(plot);
}

function focusOn(section, figure, series) {
  figure.classList.toggle("focus", series !== null);
  for (const part of section.querySelectorAll("[data-series]")) part.classList.toggle("lit", part.dataset.series === series);
}

function readable(plot) {
  const data = JSON.parse(plot.querySelector("script").textContent);
  const [area, cursor, tip] = [".area", ".cursor", ".tip"].map((name) => plot.querySelector(name));
  const most = 12; // as many values as the tip has room for
  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const index = Math.round(share * (data.grid.length - 1));
    const shown = data.series
      .map((values, i) => ({ value: values[index], label: data.labels[i], line: plot.querySelector(`.series[data-series="${data.colours[i]}"]`) }))
      .filter((s) => s.value !== null && !s.line.hasAttribute("hidden"))
      .sort((a, b) => (data.up ? b.value - a.value : a.value - b.value))
      .slice(0, most);
    tip.replaceChildren(line("b", `${data.grid[index].toLocaleString("en")} ${data.title}`), ...shown.map(reading));
    cursor.style.left = `${(100 * index) / (data.grid.length - 1)}%`;
    tip.style.left = share < 0.5 ? `${100 * share + 2}%` : "auto";
    tip.style.right = share < 0.5 ? "auto" : `${100 * (1 - share) + 2}%`;
    cursor.hidden = false;
    tip.hidden = shown.length === 0;
  });
  area.addEventListener("pointerleave", () => { cursor.hidden = tip.hidden = true; });
}

function reading(series) {
  const row = document.createElement("span");
  const name = document.createElement("span");
  const chip = document.createElement("i");
  chip.className = "chip";
  name.className = [...series.line.classList].filter((one) => one !== "series" && one !== "lit").join(" ");
  name.append(chip, series.label);
  name.style.display = "inline";
  row.append(name, line("em", String(series.value)));
  return row;
}

function line(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

for (const section of document.querySelectorAll(".front")) {
  const buttons = section.querySelectorAll("button[data-state]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      for (const table of section.querySelectorAll("div[data-state]")) table.hidden = table.dataset.state !== button.dataset.state;
    });
  }
}

for (const section of document.querySelectorAll(".levels")) {
  const data = JSON.parse(section.querySelector("#levels").textContent);
  const level = section.querySelector("#level");
  const buttons = section.querySelectorAll("button[data-choice]");
  const show = () => {
    const state = section.querySelector('button[data-choice][aria-pressed="true"]').dataset.choice;
    for (const row of section.querySelectorAll("tbody tr")) {
      const [text, interval, value] = data.cells[state][Number(level.value)][Number(row.dataset.series)];
      row.children[1].dataset.value = value ?? "";
      row.children[1].firstElementChild.textContent = text;
      row.children[2].textContent = interval;
    }
  };
  level.addEventListener("change", show);
  const horizon = section.querySelector("#horizon");
  horizon?.addEventListener("change", () => {
    for (const row of section.querySelectorAll("tbody tr")) row.hidden = horizon.value !== "" && row.dataset.horizon !== horizon.value;
  });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      show();
    });
  }
}

for (const section of document.querySelectorAll(".duel")) {
  const data = JSON.parse(section.querySelector("#duels").textContent);
  const [a, b, lens, body, nothing] = ["#a", "#b", "#lens", "#duel", "#nothing"].map((name) => section.querySelector(name));
  const given = new URLSearchParams(location.hash.slice(1));
  const chosen = [given.get("a"), given.get("b")].map((name) => data.entries.indexOf(name));
  a.value = String(chosen[0] >= 0 ? chosen[0] : 0);
  b.value = String(chosen[1] >= 0 ? chosen[1] : Math.min(1, data.entries.length - 1));
  const turned = { sooner: "later", later: "sooner" };
  const words = { sooner: "the first reaches the target sooner", later: "the second reaches the target sooner", "not told apart": "they cannot be told apart", "too few": "too few trials to claim anything" };
  const flip = ([f, low, high, p, na, nb, ma, mb, v]) => [f && 1 / f, high && 1 / high, low && 1 / low, p, nb, na, mb, ma, turned[v] ?? v];
  const times = (value) => (value === null ? "–" : `${Number(value.toPrecision(3))}x`);
  const show = () => {
    const [i, j] = [Number(a.value), Number(b.value)];
    const rows = (data.pairs[`${Math.min(i, j)} ${Math.max(i, j)}`] ?? []).filter((row) => row[2][lens.value]);
    nothing.hidden = rows.length > 0;
    body.replaceChildren(...rows.map(([where, place, lenses]) => {
      const [f, low, high, p, na, nb, ma, mb, v] = i < j ? lenses[lens.value] : flip(lenses[lens.value]);
      const row = document.createElement("tr");
      const name = line("th", where);
      name.append(line("small", place));
      row.append(name, line("td", times(f)), line("td", low === null || high === null ? "–" : `${times(low)} to ${times(high)}`), line("td", p === null ? "–" : String(Number(p.toPrecision(2)))), line("td", `${na} / ${nb}`), line("td", `${ma} / ${mb}`), line("td", words[v]));
      for (const [k, label] of ["", "factor", "95 % interval", "p", "trials", "misses", "what may be said"].entries()) row.children[k].dataset.label = label;
      for (const k of [1, 2, 3, 4, 5]) row.children[k].className = "r";
      return row;
    }));
    history.replaceState(null, "", `#${new URLSearchParams({ a: data.entries[i], b: data.entries[j] })}`);
  };
  for (const choice of [a, b, lens]) choice.addEventListener("change", show);
  show();
}
