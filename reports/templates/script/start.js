  // Numbers become links to the entries that they count.
  function linkNumbersIn(parts) {
    for (const part of parts.querySelectorAll("[data-find]")) {
      const link = element("a", { href: `#${part.dataset.find}` });
      link.append(...part.childNodes);
      part.append(link);
    }
  }

  function enhance(part) {
    part.querySelectorAll("table").forEach((table) => {
      if (table.closest("details.item")) return;
      makeSortable(table);
      makeNarrow(table);
    });
    linkNumbersIn(part);
    addCopyButtonsIn(part);
  }

  const browsers = [...document.querySelectorAll(".browser")].map((root) => new Browser(root));

  function follow() {
    const [key] = decodeURI(location.hash.slice(1)).split(/\?(.*)/s);
    const state = location.hash.split(/\?(.*)/s)[1];
    const parameters = new URLSearchParams(state ?? "");
    baselineOf(parameters);
    const browser = browsers.find((each) => each.key === key);
    if (browser && state !== undefined) browser.restore(parameters);
    else {
      const part = document.getElementById(key);
      if (part) (part.matches("details.item") ? show : settle)(part);
    }
  }

  enhance(document);
  if (chooser) {
    chooser.closest(".choice").hidden = false;
    chooser.addEventListener("change", () => { showBaseline(chooser.value); rememberBaseline(); });
  }
  follow();
  addEventListener("hashchange", follow);
