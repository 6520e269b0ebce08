"use strict";
// Adds to a page that is complete without it: filters and keys for lists of entries, and buttons that copy tables.
// Everything from the data is read and written as text; nothing is ever parsed as markup.
(() => {
  const element = (tag, properties) => Object.assign(document.createElement(tag), properties);

  // Tables as rows of texts. White space is collapsed, but not in preformatted cells.
  const cellText = (cell) => cell.querySelector("pre") ? cell.textContent.trim() : cell.textContent.replace(/\s+/g, " ").trim();

  function grid(table) {
    const rows = [...table.rows].map(() => []);
    [...table.rows].forEach((row, top) => {
      let column = 0;
      for (const cell of row.cells) {
        while (rows[top][column] !== undefined) column += 1;
        for (let down = 0; down < cell.rowSpan && top + down < rows.length; down += 1)
          for (let right = 0; right < cell.colSpan; right += 1)
            rows[top + down][column + right] = down || right ? "" : cellText(cell);
      }
    });
    const width = Math.max(...rows.map((row) => row.length));
    return rows.map((row) => Array.from({ length: width }, (_, index) => row[index] ?? ""));
  }

  // A spreadsheet takes a text that begins so for a formula; a mere number is none.
  function csvField(text) {
    const number = text.replace(/^\u2212/, "-");
    if (/^[+-]?[\d,]*\.?\d+%?$/.test(number)) text = number;
    else if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }

  const asCsv = (rows) => rows.map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";

  const markdownField = (text) =>
    text.replace(/[\\|`*_[\]]/g, "\\$&").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/\r?\n/g, "<br>");

  function asMarkdown([head, ...body]) {
    const line = (row) => `| ${row.map(markdownField).join(" | ")} |`;
    return [line(head), `|${" --- |".repeat(head.length)}`, ...body.map(line)].join("\n") + "\n";
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = element("textarea", { value: text, readOnly: true });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  function addCopyButtons(table) {
    const caption = table.caption?.textContent.trim();
    if (!caption || table.dataset.copies) return;
    table.dataset.copies = "yes";
    const bar = element("p", { className: "copy" });
    for (const [name, format] of [["CSV", asCsv], ["Markdown", asMarkdown]]) {
      const button = element("button", { type: "button", textContent: `copy ${name}` });
      button.setAttribute("aria-label", `copy as ${name}: ${caption}`);
      button.addEventListener("click", async () => {
        await copy(format(grid(table)));
        button.textContent = "copied";
        setTimeout(() => { button.textContent = `copy ${name}`; }, 1500);
      });
      bar.append(button, " ");
    }
    (table.closest(".scroll") ?? table).after(bar);
  }

  const addCopyButtonsIn = (part) => part.querySelectorAll("table").forEach((table) => {
    if (!table.closest("details.item:not([open])")) addCopyButtons(table);
  });

  // A list of entries with its filters. Each entry bears, in data-<name>, the words that the control <name> finds it by.
  class Browser {
    constructor(root) {
      this.root = root;
      this.key = root.closest("section").id;
      this.filters = root.querySelector(".filters");
      this.controls = [...this.filters.querySelectorAll("[name]")];
      this.search = this.controls.find((control) => control.name === "q");
      this.output = this.filters.querySelector("output");
      this.groups = [...root.querySelectorAll("details.group")];
      this.items = [...root.querySelectorAll("details.item")];
      this.texts = null;
      this.at = "";
      this.filters.hidden = false;
      let waiting = 0;
      this.filters.querySelector("button").addEventListener("click", () => {
        this.fill(new URLSearchParams());
        this.remember();
      });
      this.filters.addEventListener("input", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => { this.apply(); this.remember(); }, 40);
      });
      this.readAhead();
      this.root.addEventListener("keydown", (event) => this.move(event));
      for (const item of this.items) item.addEventListener("toggle", () => {
        if (!item.open) return;
        addCopyButtonsIn(item);
        this.at = item.id;
        this.remember();
      });
    }

    // The first search need not wait for the texts: they are read while the page has nothing else to do.
    readAhead() {
      const texts = [];
      const read = (deadline) => {
        while (texts.length < this.items.length && deadline.timeRemaining() > 1) texts.push(searchedText(this.items[texts.length]));
        if (texts.length < this.items.length) requestIdleCallback(read);
        else this.texts ??= texts;
      };
      if (window.requestIdleCallback) requestIdleCallback(read);
    }

    apply() {
      const wanted = this.controls.filter((control) => control !== this.search && control.value);
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (words.length) this.texts ??= this.items.map(searchedText);
      let matching = 0;
      this.items.forEach((item, index) => {
        const isWanted = wanted.every((control) => (item.dataset[control.name] ?? "").split(" ").includes(control.value))
          && words.every((word) => this.texts[index].includes(word));
        item.hidden = !isWanted;
        matching += isWanted;
      });
      const isFiltered = wanted.length > 0 || words.length > 0;
      for (const group of this.groups) {
        const count = group.querySelectorAll("details.item:not([hidden])").length;
        group.querySelector(".matching").textContent = count;
        group.hidden = count === 0;
        group.open = isFiltered;
      }
      this.output.textContent = isFiltered ? `${matching} of the ${this.items.length} on this page` : "";
    }

    // The state stands in the address, so that it can be sent to somebody else.
    remember() {
      const state = new URLSearchParams();
      for (const control of this.controls) if (control.value) state.set(control.name, control.value);
      if (this.at) state.set("at", this.at);
      try {
        history.replaceState(null, "", `#${this.key}${state.size ? `?${state}` : ""}`);
      } catch { /* some browsers limit how often; the page does without */ }
    }

    fill(state) {
      for (const control of this.controls) control.value = state.get(control.name) ?? "";
      this.at = state.get("at") ?? "";
      this.apply();
    }

    restore(state) {
      this.fill(state);
      const item = this.items.find((each) => each.id === this.at);
      if (item) show(item);
      else settle(this.root);
    }

    move(event) {
      const steps = { ArrowDown: 1, ArrowUp: -1 };
      const isSummary = event.target.matches("details.item > summary, details.group > summary");
      const isSearch = event.target === this.search;
      if (!(event.key in steps) || !(isSummary || (isSearch && event.key === "ArrowDown"))) return;
      const stops = [...this.root.querySelectorAll("details.group > summary, details.group[open] > details.item > summary")]
        .filter((summary) => !summary.parentElement.hidden && !summary.closest("details.group").hidden);
      const next = stops[isSearch ? 0 : stops.indexOf(event.target) + steps[event.key]];
      if (next) next.focus();
      if (next || isSummary) event.preventDefault();
    }
  }

  // Of an entry everything but the worked examples before its question, which many entries share.
  const searchedText = (item) =>
    [...item.children].filter((part) => !part.matches(".context")).map((part) => part.textContent).join(" ").toLowerCase();

  function show(item) {
    for (let each = item; each; each = each.parentElement?.closest("details")) {
      each.hidden = false;
      each.open = true;
    }
    item.querySelector("summary").focus({ preventScroll: true });
    settle(item);
  }

  // Entries off the screen have heights that are only guessed (content-visibility), so that what is scrolled to moves
  // while they are laid out: it is scrolled to again until it stays where it is.
  function settle(part, left = 30, steady = 0, before = NaN) {
    part.scrollIntoView();
    const top = Math.round(part.getBoundingClientRect().top);
    if (left > 0 && steady < 3) requestAnimationFrame(() => settle(part, left - 1, top === before ? steady + 1 : 0, top));
  }

  // Numbers become links to the entries that they count.
  for (const part of document.querySelectorAll("[data-find]")) {
    const link = element("a", { href: `#${part.dataset.find}` });
    link.append(...part.childNodes);
    part.append(link);
  }

  const browsers = [...document.querySelectorAll(".browser")].map((root) => new Browser(root));

  function follow() {
    const [key, state] = decodeURI(location.hash.slice(1)).split(/\?(.*)/s);
    const browser = browsers.find((each) => each.key === key);
    if (browser && state !== undefined) browser.restore(new URLSearchParams(location.hash.split(/\?(.*)/s)[1]));
    else {
      const part = document.getElementById(key);
      if (part) (part.matches("details.item") ? show : settle)(part);
    }
  }

  addCopyButtonsIn(document);
  follow();
  addEventListener("hashchange", follow);
})();
