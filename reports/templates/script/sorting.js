  // Tables are sorted by a click on a head, or by its key: up, down, and as they were. Rows that belong to the row above
  // them stay with it; rows without a value come last either way.
  const LONG = 12;
  const NUMBER = /^[^\p{L}\d]*\d/u;
  const numberOf = (text) => {
    const match = text.replace(/\u2212/g, "-").match(/[+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?/i);
    return match ? Number(match[0].replace(/,/g, "")) : NaN;
  };
  const isNothing = (cell) => !cell || cell.colSpan > 1 || Boolean(cell.querySelector(".none")) || /^(n\/a|\u2013|)$/.test(cellText(cell));
  const bodyRows = (table) => [...table.tBodies].flatMap((body) => [...body.rows]);
  const isAttached = (row) => row.matches(".member, .with");

  function comparison(rows, column) {
    const filled = rows.map((row) => row.cells[column]).filter((cell) => !isNothing(cell));
    const isNumeric = filled.filter((cell) => NUMBER.test(cellText(cell))).length * 2 > filled.length;
    const compare = isNumeric
      ? (one, other) => numberOf(cellText(one)) - numberOf(cellText(other))
      : (one, other) => cellText(one).localeCompare(cellText(other), "en", { numeric: true });
    return (direction) => (one, other) => {
      const [first, second] = [one[0].cells[column], other[0].cells[column]];
      if (isNothing(first) || isNothing(second)) return Number(isNothing(first)) - Number(isNothing(second));
      return direction * compare(first, second) || one[0].rank - other[0].rank;
    };
  }

  // Rows as units: a row with those that belong to it.
  function units(rows) {
    const found = [];
    for (const row of rows) {
      if (isAttached(row) && found.length) found.at(-1).push(row);
      else found.push([row]);
    }
    return found;
  }

  function sortBy(table, column, direction) {
    const ordered = comparison(bodyRows(table).filter((row) => !row.matches(".section")), column)(direction);
    const byRank = (one, other) => one[0].rank - other[0].rank;
    for (const body of table.tBodies) {
      const rows = [...body.rows].sort((one, other) => one.rank - other.rank);
      const sorted = units(rows.filter((row) => !row.matches(".section"))).sort(direction ? ordered : byRank);
      const members = ([head, ...rest]) => {
        const own = rest.map((row) => [row]);
        return [head, ...(head.matches(".group") && direction ? own.sort(ordered) : own).flat()];
      };
      body.append(...rows.filter((row) => row.matches(".section")), ...sorted.flatMap(members));
    }
  }

  function makeSortable(table) {
    const heads = table.tHead?.rows.length === 1 ? [...table.tHead.rows[0].cells] : [];
    const rows = bodyRows(table);
    if (heads.length < 2 || heads.some((head) => head.colSpan > 1) || rows.length < 2) return;
    if (rows.some((row) => [...row.cells].some((cell) => cell.rowSpan > 1))) return;
    rows.forEach((row, rank) => { row.rank = rank; });
    heads.forEach((head, column) => {
      const label = cellText(head);
      const button = element("button", { type: "button", className: "sort" });
      if (head.querySelector("a, [data-find]") || !label) {
        button.setAttribute("aria-label", `sort by ${label || "this column"}`);
        head.append(button);
      } else {
        button.append(...head.childNodes);
        head.append(button);
      }
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        sortBy(table, column, { ascending: 1, descending: -1 }[next] ?? 0);
      });
    });
  }

  // Long tables can be narrowed to rows with some words; the row above that a row belongs to stays.
  function makeNarrow(table) {
    const rows = bodyRows(table);
    if (rows.length <= LONG) return;
    const bar = element("p", { className: "narrow" });
    const label = element("label", { textContent: "find rows " });
    const search = element("input", { type: "search", autocomplete: "off", spellcheck: false });
    search.setAttribute("aria-label", `find rows: ${table.caption?.textContent.trim() ?? ""}`);
    const output = element("output");
    output.setAttribute("aria-live", "polite");
    label.append(search);
    bar.append(label, " ", output);
    search.addEventListener("input", () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let matching = 0;
      for (const body of table.tBodies) {
        let shownInBody = 0;
        for (const unit of units([...body.rows].filter((row) => !row.matches(".section")))) {
          const hits = unit.map((row) => words.every((word) => cellText(row).toLowerCase().includes(word)));
          unit.forEach((row, place) => { row.hidden = !(hits[0] || hits[place] || (place === 0 && hits.some(Boolean))); });
          matching += hits.filter(Boolean).length;
          shownInBody += unit.filter((row) => !row.hidden).length;
        }
        for (const row of body.querySelectorAll("tr.section")) row.hidden = shownInBody === 0;
      }
      output.textContent = words.length ? `${matching} of ${rows.filter((row) => !row.matches(".section")).length} rows` : "";
    });
    (table.closest(".scroll") ?? table).before(bar);
  }
