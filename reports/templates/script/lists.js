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
      this.switch = root.dataset.switch ? JSON.parse(root.dataset.switch) : null;
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

    // Entries bear for each choice of baseline a word, a letter for each model: what became of it against that baseline.
    against(number) {
      if (!this.switch || !this.items.some((item) => item.dataset.against)) return;
      const { models, places, codes } = this.switch;
      const place = places[number];
      for (const item of this.items) {
        const outcomes = [...((item.dataset.against ?? "").split(" ")[number] ?? "")].map((letter) => codes[letter] ?? null);
        if (outcomes.some((outcome, index) => outcome && index !== place)) outcomes[place] = null;
        const words = outcomes.map((outcome, index) => outcome && [index, outcome[0]]).filter(Boolean);
        item.dataset.outcome = [...new Set([...words.map(([, word]) => word), ...words.map((pair) => pair.join(":"))])].join(" ");
        const tags = outcomes.flatMap((outcome, index) => (outcome && index !== place ? this.tag(models[index], outcome) : []));
        item.querySelector(".tags").replaceChildren(...tags);
      }
      for (const part of this.root.closest("section").querySelectorAll("[data-baseline-name]")) part.textContent = models[place];
      this.offer(place);
      this.apply();
    }

    tag(model, [word, text]) {
      const tag = element("span", { className: "short" });
      tag.append(this.switch.named || this.switch.models.length > 2 ? `${model} ` : "", element("span", { className: `tag ${word}`, textContent: text }));
      return [" ", tag];
    }

    // The filter by outcome offers what became of the entries for any model but the baseline, and for each of them.
    offer(place) {
      const control = this.controls.find((each) => each.name === "outcome");
      if (!control) return;
      const texts = Object.fromEntries(Object.values(this.switch.codes));
      const others = this.switch.models.map((model, index) => [index, model]).filter(([index]) => index !== place);
      const offered = this.switch.offered.map((word) => [word, others.length > 1 ? `${texts[word]}, any model` : texts[word]]);
      if (others.length > 1)
        for (const [index, model] of others)
          offered.push(...this.switch.offered.map((word) => [`${index}:${word}`, `${texts[word]}, ${model}`]));
      const before = control.value;
      control.replaceChildren(control.options[0], ...offered.map(([value, textContent]) => element("option", { value, textContent })));
      control.value = offered.some(([value]) => value === before) ? before : "";
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
      if (baselineInAddress()) state.set("baseline", baselineInAddress());
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
