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
